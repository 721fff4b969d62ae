"""Who may append to a log at this moment, and who is in the way?

The lock is flock(2) on the log's own descriptor: the kernel frees it when its holder dies, and there is no lock file
that could be left behind. Waiting is the kernel's queue, so nobody starves, and it has a limit.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventlog.errors import Locked
from eventlog.present import archive_path

_REOPENS_MAX = 100
_HOLDER = re.compile(r"^\d+: FLOCK +ADVISORY +WRITE (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", re.MULTILINE)


class LockWait(Exception):
    """The limit has passed without the lock; never leaves the package."""


def lock(fd: int, limit_s: float) -> None:
    """Take the exclusive lock on `fd`, waiting at most `limit_s` seconds; raises LockWait after that.

    Whatever it raises, `fd` is lost to the caller: it is closed, at once or when the kernel's wait ends.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _wait(fd, limit_s)
    except BaseException:
        os.close(fd)
        raise


def unlock(fd: int) -> None:
    """Give the lock back, for every copy of the descriptor that a fork may have made."""
    fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def quiet(path: Path, limit_s: float) -> Iterator[int | None]:
    """Keep everybody from appending to the log file at `path`, and from cutting, archiving or replacing it.

    Gives a descriptor of it, None when there is no log. What can be read meanwhile is durable, unless its writer died
    before its sync: who must be sure syncs the descriptor. Raises Locked after `limit_s` seconds.
    """
    fd = _quieted(path, limit_s)
    try:
        yield fd
    finally:
        if fd is not None:
            _give_back(fd)


def holder(path: Path) -> str:
    """Say which process holds the lock on the file at `path`, as far as this system tells."""
    with suppress(OSError):
        status = path.stat()
        for pid, major, minor, inode in _HOLDER.findall(Path("/proc/locks").read_text()):
            if int(inode) == status.st_ino and os.makedev(int(major, 16), int(minor, 16)) == status.st_dev:
                return f"process {pid}"
    return "another process"


def _quieted(path: Path, limit_s: float) -> int | None:
    for _ in range(_REOPENS_MAX):
        found = _opened(path)
        if found is None:
            return None
        there, fd = found
        try:
            lock(fd, limit_s)
        except LockWait:
            raise Locked(there, limit_s, holder(there)) from None
        with suppress(FileNotFoundError):
            is_replaced = there != path and path.exists()
            if not is_replaced and os.path.samestat(there.stat(), os.fstat(fd)):
                return fd
        _give_back(fd)
    raise Locked(path, limit_s, "somebody who keeps replacing it")


def _opened(path: Path) -> tuple[Path, int] | None:
    """Open the log, or its archive where that has taken its place; say which."""
    for there in (path, archive_path(path), path):
        with suppress(FileNotFoundError):
            return there, os.open(there, os.O_RDWR)
    return None


def _wait(fd: int, limit_s: float) -> None:
    """Wait in a thread: flock(2) has no time limit, and polling lets late-comers pass those who wait."""
    done = threading.Event()
    turn = threading.Lock()
    failed: list[OSError] = []
    wanted = True

    def wait() -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            failed.append(error)
        with turn:
            done.set()
            if not wanted:
                _give_back(fd)

    thread = threading.Thread(target=wait, name="eventlog-lock", daemon=True)
    try:
        thread.start()
    except BaseException:
        os.close(fd)
        raise
    granted = False
    try:
        granted = done.wait(limit_s) and not failed
    finally:
        with turn:
            wanted = granted
            if not granted and done.is_set():
                _give_back(fd)
    if failed:
        raise failed[0]
    if not granted:
        raise LockWait


def _give_back(fd: int) -> None:
    with suppress(OSError):
        unlock(fd)
    os.close(fd)
