"""How does one log file grow: by one writer at a time, whole appends only, durable before anybody is told?

Every append takes the same steps under the lock: see that the file is still the one at its path, verify what others
have added (or that it ends with the head that the caller has read up to, which vouches for all of it), put a torn tail
right, decide what to write, write it at once, sync, and only then answer.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from eventlog import repair
from eventlog.disk import Disk, make_directories, write_all
from eventlog.errors import Archived, Corrupt, EventLogError, Locked, NotSynced, NotWritten, Vanished
from eventlog.frame import APPEND_BYTES_MAX, LINE_BYTES_MAX, BadLine, Position, batch_of, origin, peek
from eventlog.keys import KeyIndex
from eventlog.lock import LockWait, holder, lock, unlock
from eventlog.present import archive_path, has_log
from eventlog.record import ANY, Append, Appended, Head, check_key
from eventlog.scan import Walk, line_around, line_start, near_end
from eventlog.stage import Clock, NewId, Staged, fits, stage
from eventlog.tip import TIP_BYTES, ends_with

_REOPENS_MAX = 100


class Setup(NamedTuple):
    """What every journal of a log shares: the disk, the clock, ids, the lock's limit (s), and who was told what."""

    disk: Disk
    clock: Clock
    new_id: NewId
    lock_limit_s: float
    acknowledged: Callable[[str], Head | None]


class _Open(msgspec.Struct):
    """An open log file, verified up to `at` once it is `ready`."""

    fd: int
    device: int
    inode: int
    at: Position
    keys: KeyIndex = msgspec.field(default_factory=lambda: KeyIndex(0))
    ready: bool = False
    unsynced: OSError | None = None


class _Repair(NamedTuple):
    """Where a log ended when a torn tail had been cut off, and the lines that then recorded that."""

    prior: Position
    lines: tuple[bytes, ...]


class Journal:
    """The appending side of one log file; any number of threads and processes may each have theirs."""

    def __init__(self, path: Path, top: Path, stream: str, setup: Setup) -> None:
        self._path = path
        self._path_text = str(path)
        self._archive_text = str(archive_path(path))
        self._top = top
        self._stream = stream
        self._setup = setup
        self._disk = setup.disk
        self._origin = origin(stream)
        self._mutex = threading.Lock()
        self._file: _Open | None = None
        self._acknowledged = self._origin
        self._suspect = False
        _journals.add(self)

    def commit(self, appends: Sequence[Append]) -> list[Appended | EventLogError]:
        """Record each of `appends` that can be, in order, in one write with one sync.

        Gives for each what it left in the log, or why nothing was recorded; ends early, but not before the first, when
        they are more than one write takes. Raises an EventLogError when the log takes nothing at all.
        """
        with self._mutex:
            try:
                if self._file is None and (refusals := self._refusals(appends)):
                    return refusals
                file, size = self._locked()
                try:
                    ready = file.ready and file.unsynced is None and self._is_at_end(file, size, appends)
                    return self._commit(file, None if ready else self._make_ready(file), appends)
                finally:
                    unlock(file.fd)
            except BadLine as error:
                raise self._corrupt(error.line, error.offset, error.why) from None
            except OSError as error:
                raise NotWritten(self._path, error) from error
            except EventLogError:
                raise
            except BaseException:
                self._forget()  # An interrupt may have come just when the lock was taken: this gives it back.
                raise

    def __del__(self) -> None:
        self._forget()

    def suspect(self) -> None:
        """Have the whole file verified before the next append: somebody has met damage in it."""
        with self._mutex:
            self._suspect = True
            self._forget()

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        with self._mutex:
            self._forget()

    def close_if_idle(self) -> bool:
        """Close the file unless an append is under way; tell whether it is closed."""
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            self._forget()
        finally:
            self._mutex.release()
        return True

    def abandon(self) -> None:
        """In a forked child: drop the descriptor that came along, and with it the child's part in a held lock."""
        self._mutex = threading.Lock()
        self._forget()

    def _refusals(self, appends: Sequence[Append]) -> list[Appended | EventLogError]:
        """Give why all of `appends` are refused, where they are and there is no file yet: then none is made."""
        refusals: list[Appended | EventLogError] = []
        if self._acknowledged.seq or has_log(self._path):
            return refusals
        for append in appends:
            try:
                stage(self._stream, self._origin, append, (), lambda: 0, lambda: "")
            except EventLogError as refusal:
                refusals.append(refusal)
            else:
                return []
        return refusals

    def _locked(self) -> tuple[_Open, int]:
        """Give the file that is at the path now, locked, and its size in bytes."""
        for _ in range(_REOPENS_MAX):
            file = self._file or self._open()
            try:
                lock(file.fd, self._setup.lock_limit_s)
            except LockWait:
                self._file = None
                raise Locked(self._path, self._setup.lock_limit_s, holder(self._path)) from None
            except BaseException:
                self._file = None
                raise
            try:
                status = os.stat(self._path_text)
            except FileNotFoundError:
                pass
            except OSError:
                self._forget()
                raise
            else:
                if status.st_ino == file.inode and status.st_dev == file.device:
                    if os.path.exists(self._archive_text):  # noqa: PTH110  text, which the hot path keeps ready
                        self._refuse_archived(file, status.st_size)
                    return file, status.st_size
            unlock(file.fd)
            self._forget()
        raise Locked(self._path, self._setup.lock_limit_s, "somebody who keeps replacing it")

    def _refuse_archived(self, file: _Open, size: int) -> NoReturn:
        """Leave a log alone that was archived just when it was to be locked."""
        if not size:
            with suppress(OSError):  # We have made it, and there shall be no two.
                self._disk.unlink(self._path)
        unlock(file.fd)
        self._forget()
        raise Archived(self._path, self._stream)

    def _open(self) -> _Open:
        if os.path.exists(self._archive_text):  # noqa: PTH110  likewise
            raise Archived(self._path, self._stream)
        if self._acknowledged.seq and not self._path.exists():
            raise Vanished(self._path, str(self._acknowledged.head))
        make_directories(self._disk, self._path.parent)
        fd = self._disk.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        status = os.fstat(fd)
        self._file = _Open(fd, status.st_dev, status.st_ino, self._origin)
        return self._file

    def _is_at_end(self, file: _Open, size: int, appends: Sequence[Append]) -> bool:
        """Tell whether nothing has to be verified before an append.

        What others added need not be when the caller has read it: the head that it expects vouches for every line. But
        whoever once used a key has all keys in memory, and reads on.
        """
        if size == file.at.offset:
            return True
        if size < file.at.offset or len(appends) != 1 or file.keys.is_asked:
            return False
        expected = appends[0].expected
        if appends[0].key is not None or not isinstance(expected, Head):
            return False
        tip = os.pread(file.fd, TIP_BYTES, max(0, size - TIP_BYTES))
        if not ends_with(tip, expected) or not _is_last(tip):
            return False
        file.at = Position(size, expected.seq, expected.h.encode())
        file.keys.skip(size)
        return True

    def _make_ready(self, file: _Open) -> _Repair | None:
        """Verify what is new to this process, put a torn tail right, and record that."""
        if file.unsynced is not None:
            self._move_to_new_file(file, file.unsynced)
        size = os.fstat(file.fd).st_size
        if fresh := not file.ready or size < file.at.offset:
            self._make_durable_name()
            self._check_near_end(file, size)
        file.ready = False  # Until all of this has succeeded.
        if not fresh:
            self._catch_up(file, size)
        repair = self._record_repairs(file) if fresh or size != file.at.offset else None
        file.ready = True
        return repair

    def _make_durable_name(self) -> None:
        """Sync every directory from the log's up to the one that holds the top: who made them may have died first."""
        directory = self._path.parent
        self._disk.sync_directory(directory)
        while directory != self._top.parent and directory != directory.parent:
            directory = directory.parent
            self._disk.sync_directory(directory)

    def _check_near_end(self, file: _Open, size: int) -> None:
        """Verify as much of a file that is new to this process as one interrupted write can have spoilt."""
        start = (
            self._origin if self._suspect else near_end(file.fd, APPEND_BYTES_MAX + LINE_BYTES_MAX, self._origin, size)
        )
        file.at, file.keys = start, KeyIndex(start.offset)
        try:
            self._catch_up(file, size)
        except Corrupt:
            if start.offset == 0:
                raise
            file.at, file.keys = self._origin, KeyIndex(0)  # To name the first bad line, not just one of them.
            self._catch_up(file, size)
        self._require_acknowledged(file)
        self._suspect = False

    def _catch_up(self, file: _Open, size: int) -> None:
        """Verify and take in what lies between `file.at` and `size`; cut off what an interrupted append left there."""
        walk = Walk(file.fd, self._stream, file.at)
        with suppress(BadLine):
            for _ in walk.appends(size):
                file.keys.add_all(walk.keyed)
        file.at = walk.at
        if walk.at.offset == size:
            return
        tail = repair.examine(file.fd, self._stream, walk.at, self._told())
        if tail.state != "torn":
            raise self._corrupt(tail.line, tail.offset, tail.why)
        repair.cut(self._disk, file.fd, self._path, tail)

    def _require_acknowledged(self, file: _Open) -> None:
        """Refuse a file that lacks an event which somebody was told is recorded."""
        told, mine = self._told(), self._acknowledged
        if told is None:
            return
        if file.at.seq < told.seq:
            why = f"the log ends here, but events up to {told} were acknowledged"
            raise self._corrupt(file.at.seq + 1, file.at.offset, why)
        offset = mine.offset if mine.head == told else line_start(file.fd, told.seq + 1, self._origin, file.at.offset)
        if line_around(file.fd, offset - 1)[1][-45:-2] != told.h.encode():
            why = f"another line was acknowledged here, with the head {told}: the file was replaced"
            raise self._corrupt(told.seq, line_around(file.fd, offset - 1)[0], why)

    def _told(self) -> Head | None:
        """Give the highest head that this process, or whom it asks, knows to be recorded."""
        told, mine = self._setup.acknowledged(self._stream), self._acknowledged
        if told is None or told.seq < mine.seq:
            return mine.head if mine.seq else None
        return told

    def _record_repairs(self, file: _Open) -> _Repair | None:
        """Record what was cut off where the log ends now, if that is not recorded yet."""
        owed = repair.owed(self._path, file.at.offset)
        if not owed:
            return None
        prior = file.at
        recorded = self._stage(file, prior, Append(tuple(owed)), ())
        assert isinstance(recorded, Staged)  # noqa: S101  it has no key, so it cannot be known already
        self._write(file, [recorded])
        return _Repair(prior, recorded.appended.lines)

    def _commit(
        self, file: _Open, repaired: _Repair | None, appends: Sequence[Append]
    ) -> list[Appended | EventLogError]:
        results: list[Appended | EventLogError] = []
        pending: list[Staged] = []
        at = file.at
        for place, append in enumerate(appends):
            if repaired and not place and fits(append.expected, repaired.prior):
                append = msgspec.structs.replace(append, expected=ANY)  # Nothing but the repair came in between.
            try:
                outcome = self._stage(file, at, append, pending)
            except EventLogError as refusal:
                results.append(refusal)
                continue
            if isinstance(outcome, Staged):
                if pending and outcome.after.offset - file.at.offset > APPEND_BYTES_MAX:
                    break
                pending.append(outcome)
                at = outcome.after
                outcome = outcome.appended
            if repaired and not place:
                outcome = msgspec.structs.replace(outcome, repairs=repaired.lines)
            results.append(outcome)
        try:
            if pending:
                self._write(file, pending)
            elif any(isinstance(result, Appended) for result in results):
                self._sync(file)  # Who wrote what is repeated here may have died before its sync.
        except NotWritten as error:
            # Nobody is told of a success: not who wrote, not who repeats a write of this group, and not who repeats an
            # earlier one, which was to be synced with it.
            results = [error if isinstance(result, Appended) else result for result in results]
        self._acknowledged = file.at
        return results

    def _stage(self, file: _Open, at: Position, append: Append, pending: Sequence[Staged]) -> Staged | Appended:
        earlier = () if append.key is None else self._recall(file, check_key(append.key), pending)
        return stage(self._stream, at, append, earlier, self._setup.clock, self._setup.new_id)

    def _recall(self, file: _Open, key: str, pending: Sequence[Staged]) -> tuple[bytes, ...]:
        """Give the lines of the append that was recorded, or is about to be, under `key`; empty when there is none."""
        for staged in pending:
            if staged.key == key:
                return staged.appended.lines
        offset = file.keys.find(file.fd, self._stream, self._origin, key)
        return () if offset is None else self._lines_at(file, offset)

    def _lines_at(self, file: _Open, offset: int) -> tuple[bytes, ...]:
        """Give the lines of the append that begins at byte `offset`."""
        lines = os.pread(file.fd, min(APPEND_BYTES_MAX, file.at.offset - offset), offset).splitlines(keepends=True)
        first = peek(lines[0][:-1])
        return tuple(lines[: batch_of(first)[1]]) if first else ()

    def _write(self, file: _Open, staged: Sequence[Staged]) -> None:
        """Write the lines at once and sync; where that fails, the log is as it was."""
        try:
            write_all(self._disk, file.fd, b"".join([line for each in staged for line in each.appended.lines]))
        except OSError as error:
            raise NotWritten(self._path, error, self._cut_back(file)) from error
        self._sync(file)
        for each in staged:
            file.keys.add(each.key, file.at.offset)
            file.at = each.after

    def _sync(self, file: _Open) -> None:
        try:
            self._disk.sync(file.fd)
        except OSError as error:
            self._move_to_new_file(file, error)
            note = "nothing was recorded, and what was before goes on in a new file"
            raise NotSynced(self._path, error, note) from error

    def _cut_back(self, file: _Open) -> str:
        try:
            self._disk.truncate(file.fd, file.at.offset)
        except OSError:
            return "a part of the append may be left behind the last whole one, and the next append cuts it off"
        return "nothing was recorded and the log is as it was"

    def _move_to_new_file(self, file: _Open, cause: OSError) -> None:
        """After a failed sync: nothing says what of the old file is on the medium, so never ask that descriptor again.

        What was acknowledged is copied to a new file, which takes the old one's place; until that succeeds the stream
        is refused.
        """
        file.unsynced = cause
        try:
            copy = repair.copy_whole(self._disk, file.fd, self._path, self._stream, file.at)
        except (OSError, BadLine) as error:
            with suppress(OSError):  # So that nobody reads what nobody vouches for.
                self._disk.truncate(file.fd, file.at.offset)
            note = f"nothing was recorded, and nothing is before the log can be copied to a new file ({error})"
            raise NotSynced(self._path, cause, note) from error
        unlock(file.fd)
        self._disk.close(file.fd)
        status = os.fstat(copy)
        file.fd, file.device, file.inode, file.unsynced = copy, status.st_dev, status.st_ino, None

    def _forget(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file.fd)
            self._file = None

    def _corrupt(self, line: int, offset: int, why: str) -> Corrupt:
        return Corrupt(self._path, line, offset, why)


def _is_last(tip: bytes) -> bool:
    """Tell whether the last line is the last one of its append."""
    event = peek(tip[tip.rfind(b"\n", 0, -1) + 1 : -1])
    return event is not None and batch_of(event)[0] == batch_of(event)[1]


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _abandon_all() -> None:
    for journal in list(_journals):
        journal.abandon()


os.register_at_fork(after_in_child=_abandon_all)
