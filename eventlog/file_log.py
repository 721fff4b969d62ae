"""How are streams kept on disk, one JSONL file each?"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import ENOENT
from pathlib import Path

from eventlog import repair
from eventlog.archive import archive, open_log, unarchive
from eventlog.disk import Disk
from eventlog.errors import Corrupt, EventLogError, NotReadable, Vanished
from eventlog.frame import BadLine, Position, origin
from eventlog.journal import Journal, Setup
from eventlog.layout import Layout, Nested
from eventlog.log import POLL_S, CaughtUp, Upcast, only_result
from eventlog.record import ANY, Append, Appended, Closing, Event, Expected, Head, NewEvent, check_stream
from eventlog.scan import Walk, backwards, find, near_end
from eventlog.stage import Clock, NewId, now, uuid7
from eventlog.wake import Waker, waker

LOCK_LIMIT_S = 30.0
"""How long an append waits for its turn. Turns are milliseconds; who takes longer is stopped or stuck."""
_OPEN_MAX = 64
_RACES_MAX = 100
_HEAD_BYTES = 16 * 1024


class FileLog:
    """The log on disk. Any number of processes and threads may use the same directory at once.

    `acknowledged` may tell, from outside of the log, which head of a stream somebody was told is durable. It is asked
    at a process's first append and wherever a log ends unfinished: a log that ends before that head, or has another
    line there, is corrupt. `upcast` is applied to what is read.
    """

    def __init__(
        self,
        where: Path | Layout,
        *,
        disk: Disk | None = None,
        clock: Clock = now,
        new_id: NewId = uuid7,
        lock_limit_s: float = LOCK_LIMIT_S,
        acknowledged: Callable[[str], Head | None] = lambda _stream: None,
        upcast: Upcast = lambda event: event,
    ) -> None:
        self._layout = Nested(where) if isinstance(where, Path) else where
        self._setup = Setup(disk or Disk(), clock, new_id, lock_limit_s, acknowledged)
        self._upcast = upcast
        self._journals: dict[str, Journal] = {}  # Kept for ever: each knows what was acknowledged, in about 1 KB.
        self._open: dict[str, Journal] = {}  # The ones whose files may be open, the least recently used first.

    def streams(self) -> Iterator[str]:
        """Yield the names of all streams that have a log, sorted by their parts."""
        return self._layout.streams()

    def path(self, stream: str) -> Path:
        """Give the file that `stream` is or will be kept in."""
        return self._layout.path(check_stream(stream))

    def append(
        self,
        stream: str,
        events: Sequence[NewEvent],
        *,
        expected: Expected = ANY,
        key: str | None = None,
        closing: Closing | None = None,
    ) -> Appended:
        """Record all of `events` or none, durably; see EventLog.append."""
        return only_result(self.commit(stream, [Append(tuple(events), expected, key, closing)]))

    def commit(self, stream: str, appends: Sequence[Append]) -> list[Appended | EventLogError]:
        """Record several independent appends with one sync; see EventLog.commit."""
        return self._journal(stream).commit(appends)

    def read(self, stream: str, first: int = 1) -> Iterator[Event]:
        """Yield the events from seq `first` on, verified; see EventLog.read."""
        path, start = self.path(stream), origin(stream)
        with self._kept(path, stream) as fd:
            if fd is not None:
                end = os.fstat(fd).st_size
                walk = Walk(fd, stream, find(fd, first, start, end) if first > 1 else start)
                yield from self._passed(walk, path, stream, first, end)

    def read_backwards(self, stream: str, last: int | None = None) -> Iterator[Event]:
        """Yield the events from seq `last` down to 1, verified; see EventLog.read_backwards."""
        path, start = self.path(stream), origin(stream)
        with self._kept(path, stream) as fd:
            if fd is None:
                return
            end = os.fstat(fd).st_size
            walk = Walk(fd, stream, near_end(fd, _HEAD_BYTES, start, end))
            if last is not None and last < walk.at.seq:
                walk = Walk(fd, stream, find(fd, last, start, end))
            for event in self._passed(walk, path, stream, 1, end):
                if event.seq == last:
                    break
            try:
                for event in backwards(fd, stream, start, walk.at):
                    if last is None or event.seq <= last:
                        yield self._upcast(event)
            except BadLine as error:
                raise self._corrupt(path, stream, error.line, error.offset, error.why) from None

    def head(self, stream: str) -> Head:
        """Give the head of the stream, verified against what shortly precedes it."""
        path, start = self.path(stream), origin(stream)
        with self._kept(path, stream) as fd:
            if fd is None:
                return start.head
            end = os.fstat(fd).st_size
            walk = Walk(fd, stream, near_end(fd, _HEAD_BYTES, start, end))
            for _ in self._passed(walk, path, stream, 1, end):
                pass
            return walk.at.head

    def follow(
        self, stream: str, first: int = 1, *, stop: threading.Event | None = None, poll_s: float = POLL_S
    ) -> Iterator[Event | CaughtUp]:
        """Yield what is there, one CaughtUp, and then what is new; see EventLog.follow."""
        path = self.path(stream)
        with waker(path) as wake:
            yield from self._follow(wake, path, stream, first, stop or threading.Event(), poll_s)

    @contextmanager
    def snapshot(self, stream: str) -> Iterator[tuple[int, int, Head]]:
        """Give a descriptor of the log, how many of its bytes are whole appends, and their head; all of it verified.

        What is appended meanwhile stands behind these bytes. Raises Corrupt and NotReadable.
        """
        path = self.path(stream)
        with _opened(path) as fd:
            if fd is None:
                raise NotReadable(path, FileNotFoundError(ENOENT, os.strerror(ENOENT)))
            tail = repair.examine(fd, stream, origin(stream), self._setup.acknowledged(stream))
            if tail.state == "corrupt":
                raise self._corrupt(path, stream, tail.line, tail.offset, tail.why)
            yield fd, tail.at.offset, tail.at.head

    def archive(self, stream: str) -> bool:
        """Compress the log of `stream` in place: it is read as before, and nothing is appended until `unarchive`.

        False when it is archived already. Raises Corrupt, NotReadable, NotWritten and Locked.
        """
        return archive(self._setup.disk, self.path(stream), stream, self._setup.lock_limit_s)

    def unarchive(self, stream: str) -> bool:
        """Bring the log of `stream` back as it was, byte by byte; False when it is not archived."""
        return unarchive(self._setup.disk, self.path(stream), self._setup.lock_limit_s)

    def close(self) -> None:
        """Close all files; the log can be used again afterwards."""
        for journal in list(self._journals.values()):
            journal.close()

    @contextmanager
    def _kept(self, path: Path, stream: str) -> Iterator[int | None]:
        """Give a descriptor as `_opened` does; raises Vanished where nothing is in a log of which somebody was told."""
        with _opened(path) as fd:
            if fd is not None and os.fstat(fd).st_size:
                yield fd
                return
        told = self._setup.acknowledged(stream)
        with _opened(path) as fd:  # Once more: it may just have begun.
            if told and told.seq and (fd is None or not os.fstat(fd).st_size):
                raise Vanished(path, str(told))
            yield fd

    def _follow(
        self, wake: Waker, path: Path, stream: str, first: int, stop: threading.Event, poll_s: float
    ) -> Iterator[Event | CaughtUp]:
        at = origin(stream)
        caught_up = False
        while not stop.is_set():
            wake.arm()
            with _opened(path) as fd:
                if fd is not None:
                    walk = self._resumed(fd, path, stream, first, at)
                    yield from self._passed(walk, path, stream, first, os.fstat(fd).st_size)
                    at = walk.at
                elif at.seq:
                    raise Vanished(path, str(at.head))
            if not caught_up:
                caught_up = True
                yield CaughtUp(at.head)
            wake.wait(poll_s)

    def _resumed(self, fd: int, path: Path, stream: str, first: int, at: Position) -> Walk:
        end = os.fstat(fd).st_size
        if end < at.offset:
            raise self._corrupt(path, stream, at.seq, end, "the log ends before what was already read from it")
        return Walk(fd, stream, find(fd, first, at, end) if first > 1 and not at.seq else at)

    def _passed(self, walk: Walk, path: Path, stream: str, first: int, end: int) -> Iterator[Event]:
        """Yield what `walk` passes from seq `first` on, until byte `end` or an unfinished append; raises Corrupt."""
        upcast = self._upcast
        for _ in range(_RACES_MAX):
            try:
                for events in walk.appends(end):
                    for event in events:
                        if event.seq >= first:
                            yield upcast(event)
            except BadLine:
                pass
            if walk.at.offset >= end:
                return
            tail = repair.examine(walk.fd, stream, walk.at, self._setup.acknowledged(stream))
            if tail.state == "corrupt":
                raise self._corrupt(path, stream, tail.line, tail.offset, tail.why)
            if tail.at == walk.at:
                return
            # A torn tail was cut off and written over while we read: read on from the last whole append.

    def _corrupt(self, path: Path, stream: str, line: int, offset: int, why: str) -> Corrupt:
        self._journal(stream).suspect()
        return Corrupt(path, line, offset, why)

    def _journal(self, stream: str) -> Journal:
        # Only dict operations that are atomic, no lock: a fork in another thread cannot leave one held.
        journal = self._journals.get(stream)
        if journal is None:
            journal = self._journals.setdefault(
                stream, Journal(self.path(stream), self._layout.top, stream, self._setup)
            )
        self._open.pop(stream, None)
        self._open[stream] = journal
        if len(self._open) > _OPEN_MAX:
            for idle in list(self._open)[:-_OPEN_MAX]:
                if (old := self._open.pop(idle, None)) and not old.close_if_idle():
                    self._open[idle] = old
        return journal


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Give a descriptor to read `path` with, None when there is no such file; raises NotReadable."""
    fd = None
    try:
        fd = open_log(path)
        yield fd
    except OSError as error:
        raise NotReadable(path, error) from error
    finally:
        if fd is not None:
            os.close(fd)
