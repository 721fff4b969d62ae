"""Is every line of a log what was written, and does each event name a cause that is there?

Made from the prose of the package `eventlog` and from nothing else of it, so that a mistake there is not made here too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG_NAME = "events.jsonl"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, and where."""

    invariant: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Event:
    """One line."""

    stream: str
    seq: int
    type: str
    data: Mapping[str, Any]
    h: str
    line: Mapping[str, Any]

    @property
    def where(self) -> str:
        """The place of the line."""
        return f"{self.stream}#{self.seq}"


@dataclass
class Log:
    """One log as far as it can be read; `torn` says that an append at its end was never acknowledged."""

    path: Path
    stream: str = ""
    events: list[Event] = field(default_factory=list)
    wrong: list[Violation] = field(default_factory=list)
    torn: bool = False


def find(tops: Iterable[Path]) -> Iterator[Path]:
    """Yield every log below some directories, each once."""
    yield from sorted({path.resolve() for top in tops for path in top.rglob(LOG_NAME)})


def read(path: Path) -> Log:
    """Read a log, line by line, and say what is wrong with its lines."""
    log, before = Log(path), ""
    *lines, rest = path.read_bytes().split(b"\n")
    log.torn = bool(rest)
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            event = Event(line["stream"], line["seq"], line["type"], line["data"], line["h"], line)
        except (ValueError, KeyError, TypeError) as error:
            log.wrong.append(Violation("chain", f"{path}:{number}", f"it is no event ({error})"))
            return log
        log.stream = log.stream or event.stream
        before = before or _hash(f"eventlog/1\n{log.stream}".encode())
        log.wrong.extend(_wrong(log, event, text, number, before))
        log.events.append(event)
        before = event.h
    log.wrong.extend(_broken_batches(log))
    return log


def _wrong(log: Log, event: Event, text: bytes, number: int, before: str) -> Iterator[Violation]:
    where = f"{log.stream}#{number}"
    body, mark, _ = text.rpartition(b',"h":')
    if not mark or _hash(before.encode() + body) != event.h:
        yield Violation("chain", where, "the line is not what was written")
    if event.seq != number:
        yield Violation("gapless", where, f"it says that it is number {event.seq}")
    if event.stream != log.stream:
        yield Violation("own stream", where, f"it is of {event.stream}")
    if not _TIME.fullmatch(str(event.line.get("time"))):
        yield Violation("time", where, f"{event.line.get('time')!r} is no time of fixed width")


def _broken_batches(log: Log) -> Iterator[Violation]:
    """Name the appends of which not all events are there; one at the very end was only interrupted."""
    expected: str | None = None
    for event in log.events:
        batch = event.line.get("batch")
        if expected is not None and batch != expected:
            yield Violation("whole appends", event.where, f"{expected} of an append is missing")
        elif expected is None and batch is not None and not batch.startswith("1/"):
            yield Violation("whole appends", event.where, f"{batch} of an append has none before it")
        place, _, of = (batch or "1/1").partition("/")
        expected = None if place == of else f"{int(place) + 1}/{of}"
    log.torn = log.torn or expected is not None


def across(logs: Iterable[Log]) -> Iterator[Violation]:
    """Say what is wrong with the logs together: ids, idempotency keys and causes."""
    by_stream = {log.stream: log for log in logs}
    ids: dict[str, str] = {}
    for log in by_stream.values():
        keys: set[str] = set()
        for event in log.events:
            if (known := ids.setdefault(event.line["id"], event.where)) != event.where:
                yield Violation("ids are unique", event.where, f"its id is that of {known}")
            if key := event.line.get("key"):
                if key in keys:
                    yield Violation("a key is used once", event.where, f"the idempotency key {key!r} was used before")
                keys.add(key)
            yield from _without_cause(event, by_stream)


def _without_cause(event: Event, logs: Mapping[str, Log]) -> Iterator[Violation]:
    cause = event.line.get("cause")
    if cause is None:
        return
    stream, mark, number = str(cause).rpartition("#")
    seq = int(number)
    if not mark:
        if not 0 < seq < event.seq:
            yield Violation("causes exist", event.where, f"its cause {cause} is not before it")
    elif stream not in logs or not 0 < seq <= len(logs[stream].events):
        yield Violation("causes exist", event.where, f"its cause {cause} is nowhere")


def _hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
