"""Who has a turn at the resources just now, and does somebody wait for one?

The lock is flock(2) on a file beside the log: the kernel frees it when its holder dies. Whoever waits says so by a
shared lock on a second file, so that who has a turn can see it. A child that is forked meanwhile has no part in any.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Final

import eventlog
from eventlog.disk import make_directories
from eventlog.lock import holder, unlock
from projections.layout import resources_path

LOCK_LIMIT_S: Final = 30.0
"""How long somebody waits for a turn. Turns are milliseconds; who takes longer is stopped or stuck."""
TRY_S: Final = 0.0001
"""How long apart a turn is tried for: a wait in the kernel has no limit but in a thread, and that wakes up twice."""
PATIENT_S: Final = 0.05
"""Whoever has waited for so long tries less often: a turn takes longer than turns do."""
SELDOM_S: Final = 0.002
"""How much less often."""


class TurnLock:
    """The lock of one state root. Safe to use from threads, and after a fork."""

    def __init__(self, root: Path, disk: eventlog.Disk) -> None:
        self._path = resources_path(root) / "turn.lock"
        self._disk = disk
        self._mutex = threading.Lock()
        self._fds: tuple[int, int] | None = None
        _all.add(self)

    def begin(self, limit_s: float) -> bool:
        """Begin a turn; False when somebody else has one for so many seconds."""
        if not self._mutex.acquire(timeout=limit_s):
            return False
        has_begun = False
        try:
            fd, waiting_fd = self._fds or self._open()
            has_begun = _is_locked(fd) or (limit_s > 0 and _waits(fd, waiting_fd, limit_s))
        finally:
            if not has_begun:
                self._mutex.release()
        return has_begun

    def end(self) -> None:
        """End the turn that was begun."""
        if self._fds is not None:  # As it is in a child that was forked meanwhile: it has no part in this turn.
            unlock(self._fds[0])
            self._mutex.release()

    def is_waited_for(self) -> bool:
        """Tell whether somebody waits for a turn of its own."""
        _, waiting_fd = self._fds or self._open()
        if not _is_locked(waiting_fd):
            return True
        unlock(waiting_fd)
        return False

    def refusal(self) -> eventlog.Locked:
        """Say who has had a turn for too long."""
        return eventlog.Locked(self._path, LOCK_LIMIT_S, holder(self._path))

    def abandon(self) -> None:
        """In a forked child: drop the descriptors that came along, and with them the child's part in a held turn."""
        self._mutex = threading.Lock()
        fds, self._fds = self._fds, None
        for fd in fds or ():
            os.close(fd)

    def _open(self) -> tuple[int, int]:
        make_directories(self._disk, self._path.parent)
        paths = self._path, self._path.with_name("turn.waits")
        first, second = (os.open(path, os.O_RDWR | os.O_CREAT, 0o666) for path in paths)
        self._fds = first, second
        return self._fds


def _is_locked(fd: int) -> bool:
    """Lock `fd`, unless somebody else has."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _waits(fd: int, waiting_fd: int, limit_s: float) -> bool:
    """Lock `fd` within so many seconds, and have whoever has it see that somebody waits."""
    begun_s = time.monotonic()
    fcntl.flock(waiting_fd, fcntl.LOCK_SH)
    try:
        while not _is_locked(fd):
            waited_s = time.monotonic() - begun_s
            if waited_s >= limit_s:
                return False
            time.sleep(TRY_S if waited_s < PATIENT_S else SELDOM_S)
        return True
    finally:
        unlock(waiting_fd)


_all: weakref.WeakSet[TurnLock] = weakref.WeakSet()


def _abandon_all() -> None:
    for lock in list(_all):
        lock.abandon()


os.register_at_fork(after_in_child=_abandon_all)
