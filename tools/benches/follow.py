"""How long after an append begins does another process have the event in its hands?"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from inotify_simple import INotify, flags

from benches.race import Goal, Row, Turn, race
from benches.samples import STREAM, sample
from eventlog import CaughtUp, FileLog
from eventlog.log import POLL_S
from eventlog.wake import watchfiles_waker

ANSWER_LIMIT_S = 10.0
"""How long a reader may take; a thousand times what the slowest needs."""
PAUSE_S = 0.002
"""Between two appends, so that every reader is asleep again when the next begins."""
_BLOCK_BYTES = 64 * 1024

Reader = Callable[[Path, Connection], None]
"""Runs in another process: answers once when it is ready, then with the time at which it had each event."""


class Overdue(Exception):
    """A reader did not answer; start the benchmark again, and look whether its process died."""


def follow_rows(directory: Path, rounds: int) -> Iterator[Row]:
    """Measure a follower against a bare reader that inotify wakes."""
    directory.mkdir()
    bare, ours, watched = directory / "bare", directory / "ours", directory / "watched"
    fd = os.open(bare, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log, watched_log = FileLog(ours), FileLog(watched)
    events = [sample()]
    text = b"".join(log.append(STREAM, events).lines)
    watched_log.append(STREAM, events)

    def write_and_sync() -> None:
        os.write(fd, text)
        os.fdatasync(fd)

    with _reading(_read_bare, bare) as raw, _reading(_follow, ours) as follower, _reading(_watch, watched) as watcher:
        turns = {
            "bare inotify": _waiting(write_and_sync, raw, 20),
            "follow()": _waiting(lambda: log.append(STREAM, events), follower, 20),
            "watchfiles waker": _waiting(lambda: watched_log.append(STREAM, events), watcher, 2),
        }
        baseline, mine, *peers = race(turns, rounds, speed=False)
    os.close(fd)
    log.close()
    watched_log.close()
    yield Row("a follower has an append", "µs", Goal(False, 1.5, 3.0), baseline, mine, tuple(peers))


def _waiting(append: Callable[[], object], reader: Connection, count: int) -> Turn:
    """Give a turn of `count` appends, whose cost is the median time until the reader has one."""

    def turn() -> float:
        return statistics.median(_latency(append, reader) for _ in range(count))

    return turn


def _latency(append: Callable[[], object], reader: Connection) -> float:
    time.sleep(PAUSE_S)
    begin = time.monotonic_ns()
    append()
    return (_answer(reader) - begin) / 1e9


def _answer(reader: Connection) -> int:
    if not reader.poll(ANSWER_LIMIT_S):
        raise Overdue(f"a reader did not answer within {ANSWER_LIMIT_S:g} s")
    answer = reader.recv()
    assert isinstance(answer, int)
    return answer


@contextmanager
def _reading(reader: Reader, path: Path) -> Iterator[Connection]:
    """Run `reader` in another process; give the connection that it answers on, once it is ready."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=reader, args=(path, there), daemon=True)
    process.start()
    try:
        _answer(here)
        yield here
    finally:
        process.terminate()
        process.join()


def _read_bare(path: Path, connection: Connection) -> None:
    """Take the bytes that were added when the kernel says that some were."""
    fd = os.open(path, os.O_RDONLY)
    offset = 0
    with INotify() as inotify:
        inotify.add_watch(path, flags.MODIFY)
        connection.send(0)
        while True:
            inotify.read()
            offset += len(os.pread(fd, _BLOCK_BYTES, offset))
            connection.send(time.monotonic_ns())


def _follow(top: Path, connection: Connection) -> None:
    """Follow the log as everybody does."""
    for event in FileLog(top).follow(STREAM, 2):
        connection.send(0 if isinstance(event, CaughtUp) else time.monotonic_ns())


def _watch(top: Path, connection: Connection) -> None:
    """Follow the log as a system without inotify would."""
    log = FileLog(top)
    seen = log.head(STREAM).seq
    with watchfiles_waker(log.path(STREAM)) as wake:
        wake.arm()
        connection.send(0)
        while True:
            wake.wait(POLL_S)
            wake.arm()
            for event in log.read(STREAM, seen + 1):
                connection.send(time.monotonic_ns())
                seen = event.seq
