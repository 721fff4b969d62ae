"""How fast is the event log, beside bare writes and bare JSON?"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benches.follow import follow_rows
from benches.memory import memory_rows
from benches.peers import Sqlite, aggregates
from benches.race import OURS, Absent, Goal, Row, Turn, race, timed
from benches.samples import STREAM, filled, sample
from eventlog import FileLog, Writer

BATCH = 64
THREADS = 16
LENGTH = 20_000
SHORT, LONG = 1_000, 100_000
LAST = 10
PEER_LENGTH = 2_000
"""Events of the aggregate that the eventsourcing library rebuilds; its cost grows with them in proportion."""


def rows(directory: Path, quick: bool) -> Iterator[Row]:
    """Measure the log, with files in `directory`."""
    rounds = 15 if quick else 150
    yield _append_row(directory / "one", "durable append of one event", 1, Goal(True, 0.9, 0.6), rounds)
    yield _append_row(directory / "batch", f"durable append of {BATCH} at once", BATCH, Goal(True, 0.7, 0.3), rounds)
    yield _group_row(directory / "group", 5 if quick else 40)
    yield _read_row(directory / "read", 5 if quick else 40)
    yield from follow_rows(directory / "follow", 8 if quick else 80)
    yield from _seek_rows(directory / "seek", rounds)
    yield from memory_rows(directory / "memory", 1 if quick else 5)


def _append_row(directory: Path, what: str, size: int, goal: Goal, rounds: int) -> Row:
    """Measure appends of `size` events each against one bare write and sync of the same bytes."""
    directory.mkdir()
    log = FileLog(directory)
    events = [sample(n) for n in range(size)]
    lines = log.append(STREAM, events).lines
    text = b"".join(lines)
    fd = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write_and_sync() -> None:
        os.write(fd, text)
        os.fdatasync(fd)

    turns = {
        "write+fdatasync": _appending(size, write_and_sync),
        OURS: _appending(size, lambda: log.append(STREAM, events)),
    }
    sqlite, library = Sqlite(directory / "sqlite.db"), aggregates(directory / "eventsourcing.db")
    sqlite.warm_up()
    turns["sqlite3"] = _appending(size, lambda: sqlite.append(lines))
    if not isinstance(library, Absent):
        library.warm_up()
        turns["eventsourcing"] = _appending(size, lambda: library.append(events))
    bare, ours, *peers = race(turns, rounds)
    log.close()
    os.close(fd)
    return Row(what, "µs", goal, bare, ours, (*peers, *_absent(library)))


def _appending(size: int, append: Callable[[], object]) -> Turn:
    """Give a turn that does a few appends of `size` events; its cost is that of one append."""
    count = 50 if size == 1 else 10

    def appends() -> None:
        for _ in range(count):
            append()

    return lambda: timed(count, appends)


def _group_row(directory: Path, rounds: int) -> Row:
    """Measure many threads that share their syncs against one thread."""
    log = FileLog(directory)
    writer = Writer(log, "shared")
    events = [sample()]
    alone = 100
    each = 50

    def one_thread() -> None:
        for _ in range(alone):
            log.append("alone", events)

    def one_of_many() -> None:
        for _ in range(each):
            writer.append(events)

    def many_threads() -> None:
        threads = [threading.Thread(target=one_of_many) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    turns = {
        "1 thread": lambda: timed(alone, one_thread),
        f"{THREADS} threads": lambda: timed(THREADS * each, many_threads),
    }
    one, many = race(turns, rounds)
    log.close()
    return Row("group commit through a Writer", "events/s", None, one, many)


def _read_row(directory: Path, rounds: int) -> Row:
    """Measure decoding, verifying and folding a log against parsing the JSON of its lines."""
    directory.mkdir()
    log = filled(directory, LENGTH)
    path = log.path(STREAM)

    def parse() -> None:
        with path.open("rb") as file:
            for line in file:
                json.loads(line)

    def fold() -> None:
        counts: Counter[str] = Counter()
        status: object = None
        for event in log.read(STREAM):
            counts[event.type] += 1
            status = event.data.get("status", status)
        assert counts.total() == LENGTH
        assert status

    turns = {"json.loads": lambda: timed(LENGTH, parse), OURS: lambda: timed(LENGTH, fold)}
    library = aggregates(directory / "eventsourcing.db")
    if not isinstance(library, Absent):
        library.append([sample(n) for n in range(PEER_LENGTH)])
        turns["eventsourcing"] = lambda: timed(PEER_LENGTH, library.rebuild)
    bare, ours, *peers = race(turns, rounds)
    what = f"decode, verify and fold {LENGTH:,} events"
    return Row(what, "events/s", Goal(True, 2.0, 1.0), bare, ours, (*peers, *_absent(library)))


def _seek_rows(directory: Path, rounds: int) -> Iterator[Row]:
    """Measure how much longer it takes to look near the end of a long log than of a short one."""
    sizes = (SHORT, LONG)
    logs = {size: filled(directory / str(size), size) for size in sizes}

    def last_events(size: int) -> None:
        seqs = [event.seq for event in logs[size].read(STREAM, size - LAST)]
        assert seqs[-1] == size

    def head(size: int) -> None:
        assert logs[size].head(STREAM).seq == size

    yield _flat_row(f"read the last {LAST + 1} of {LONG:,}", last_events, sizes, rounds)
    yield _flat_row(f"head of {LONG:,}", head, sizes, rounds)


def _flat_row(what: str, look: Callable[[int], None], sizes: Sequence[int], rounds: int) -> Row:
    turns = {f"{size:,} events": _looking(look, size) for size in sizes}
    short, long = race(turns, rounds, speed=False)
    return Row(what, "µs", Goal(False, 2.0), short, long)


def _looking(look: Callable[[int], None], size: int) -> Turn:
    count = 20

    def looks() -> None:
        for _ in range(count):
            look(size)

    return lambda: timed(count, looks)


def _absent(peer: object) -> tuple[Absent, ...]:
    return (peer,) if isinstance(peer, Absent) else ()
