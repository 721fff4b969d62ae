"""Is everything recorded that somebody was told is recorded, and was nothing executed twice?

Who uses Merlin in a soak keeps a journal (JSON lines) of what was acknowledged. A last line without its end is one of
somebody who was killed while writing it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from audits.chain import Event, Log, Violation
from audits.runs import ENDS

Entry = Mapping[str, Any]


def entries(paths: Iterable[Path]) -> Iterator[tuple[str, Entry]]:
    """Yield what was told, each with its place."""
    for path in paths:
        *lines, _ = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            yield f"{path.name}:{number}", json.loads(line)


def unrecorded(told: Iterable[tuple[str, Entry]], logs: Mapping[str, Log]) -> Iterator[Violation]:
    """Name what was told and is in no log."""
    found = {kind: set(_facts(kind, logs)) for kind in FACTS}
    for where, entry in told:
        kind = entry["told"]
        names, _ = FACTS[kind]
        fact = tuple(entry[name] for name in names)
        if fact not in found[kind]:
            yield Violation("what was told is recorded", where, f"{kind} {fact} is in no log")


def twice(executed: Iterable[tuple[str, Entry]]) -> Iterator[Violation]:
    """Name the attempts whose command was executed more than once, by what the command itself has left."""
    seen: dict[tuple[str, str], str] = {}
    for where, entry in executed:
        known = seen.setdefault((entry["run"], entry["attempt"]), where)
        if known != where:
            yield Violation("an attempt is executed once", where, f"{entry['run']} was executed before, {known}")


def _facts(kind: str, logs: Mapping[str, Log]) -> Iterator[tuple[Any, ...]]:
    _, of_event = FACTS[kind]
    for log in logs.values():
        for event in log.events:
            yield from of_event(event)


def _submitted(event: Event) -> Iterator[tuple[Any, ...]]:
    if event.type in ("run.requested", "run.forked"):
        yield (event.stream.removeprefix("run/"),)


def _cancelled(event: Event) -> Iterator[tuple[Any, ...]]:
    if event.type == "run.cancel_requested" or event.type in ENDS:
        yield (event.stream.removeprefix("run/"),)


def _leased(event: Event) -> Iterator[tuple[Any, ...]]:
    if event.type == "lease.granted":
        yield event.data["lease_id"], event.data["key"], event.data["fence"]


def _released(event: Event) -> Iterator[tuple[Any, ...]]:
    if event.type in ("lease.released", "lease.expired", "lease.revoked"):
        yield (event.data["lease_id"],)


def _answered(event: Event) -> Iterator[tuple[Any, ...]]:
    if event.type == "question.answered":
        yield event.stream, event.data["request_id"], event.data["choice"]


FACTS: Mapping[str, tuple[tuple[str, ...], Callable[[Event], Iterator[tuple[Any, ...]]]]] = {
    "submitted": (("run",), _submitted),
    "cancelled": (("run",), _cancelled),
    "leased": (("lease", "key", "fence"), _leased),
    "released": (("lease",), _released),
    "answered": (("execution", "question", "choice"), _answered),
}
"""By what somebody can be told: what names it, and where in the logs it must be."""
