"""What do the events and logs in the tests look like?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eventlog import Disk, EventLog, FileLog, NewEvent, UnsyncedDisk
from eventlog.record import JsonValue

ROOT = Path(__file__).parent.parent


def happened(what: JsonValue = "something", **fields: JsonValue) -> NewEvent:
    """Give an event with a little data."""
    return NewEvent(type="thing.happened", data={"what": what, **fields}, actor="ada@lab", door="cli", corr="run-1")


def nested(depth: int) -> JsonValue:
    """Give `depth` arrays within each other."""
    value: JsonValue = None
    for _ in range(depth):
        value = [value]
    return value


def unsynced() -> Disk:
    """Give a disk for tests that do not test durability."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return UnsyncedDisk()


def fill(log: EventLog, stream: str, count: int) -> None:
    """Append `count` events, one by one."""
    for number in range(count):
        log.append(stream, [happened(number)])


def whats(log: EventLog, stream: str, first: int = 1) -> Sequence[object]:
    """Give what the events of `stream` say happened; a repair says so itself."""
    return [event.data.get("what", event.type) for event in log.read(stream, first)]


def log_with_tail(top: Path) -> tuple[Path, list[int]]:
    """Write a log of 6 events whose last three appends are one event, a batch of three, and one with a key.

    Gives its file and the offsets at which an append begins, with the size of the file as the last.
    """
    log = FileLog(top, disk=unsynced())
    path = log.path("s")
    begins = []
    for events, key in (
        ([happened("first ☃")], None),
        ([happened("second")], None),
        ([happened("a"), happened("b"), happened("c", deep={"er": [1, None, 2.5, True]})], None),
        ([happened("last")], "key-1"),
    ):
        begins.append(path.stat().st_size if path.exists() else 0)
        log.append("s", events, key=key)
    log.close()
    return path, [*begins, path.stat().st_size]


def descriptors_under(top: Path) -> list[int]:
    """Give this process's descriptors of files under `top`; those of others come and go as they like."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if entry.readlink().is_relative_to(top):
                found.append(int(entry.name))
    return found
