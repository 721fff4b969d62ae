"""Which events are the benchmarks fed with?"""

from __future__ import annotations

import warnings
from pathlib import Path

from eventlog import Append, Disk, FileLog, NewEvent, UnsyncedDisk

STREAM = "run/saturn-20261123071351-abcdef01"
_BUILD_BATCH = 512


def sample(n: int = 0) -> NewEvent:
    """Give event number `n`, which takes about 400 bytes on disk; they alternate between two types."""
    kind = "run.submitted" if n % 2 else "run.observed"
    data = {
        "status": "RUNNING" if n % 2 else "PENDING",
        "message": "hello there",
        "submission_id": "saturn-20261123071351-abcdef01",
        "attempt": n,
    }
    return NewEvent(type=kind, data=data, actor="ada@lab3", door="cli", cause=1, corr=STREAM)


def filled(top: Path, count: int) -> FileLog:
    """Give a log with `count` events, each of them an append of its own, quickly built."""
    builder = FileLog(top, disk=unsynced())
    for first in range(0, count, _BUILD_BATCH):
        numbers = range(first, min(first + _BUILD_BATCH, count))
        builder.commit(STREAM, [Append((sample(n),)) for n in numbers])
    builder.close()
    return FileLog(top)


def unsynced() -> Disk:
    """Give a disk for building what is measured, not for measuring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return UnsyncedDisk()
