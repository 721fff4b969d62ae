"""Does the file system under a state root keep locks at all? Measured on the spot, before a lease is decided on."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from merlin_es.errors import Usage


def require_locks_once(directory: Path, boot_id: str) -> None:
    """Refuse such a directory; what was measured is believed for as long as this boot has that file system there."""
    known, mark = directory / "locks", f"{boot_id} {directory.stat().st_dev}\n"
    with suppress(OSError, UnicodeDecodeError):
        if known.read_text(encoding="ascii") == mark:
            return
    require_locks(directory)
    with suppress(OSError):
        known.write_text(mark, encoding="ascii")


def require_locks(directory: Path) -> None:
    """Refuse a directory in which two can hold one lock: two open files of one process, or two processes."""
    path = directory / f".locks.{os.getpid()}"
    first = second = None
    try:
        first, second = (os.open(path, os.O_RDWR | os.O_CREAT, 0o666) for _ in range(2))
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _can_lock(second) or _can_another_process_lock(path):
            raise Usage(
                f"the file system of {directory} does not keep locks (two could hold one), so two could hold one "
                "lease: put the state root on a local disk"
            )
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise
        raise Usage(
            f"the file system of {directory} has no locks ({error.strerror}): put the state root on a local disk"
        ) from error
    finally:
        for fd in (first, second):
            if fd is not None:
                os.close(fd)
        with suppress(OSError):
            path.unlink()


def _can_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _can_another_process_lock(path: Path) -> bool:
    child = os.fork()
    if child == 0:  # Nothing but calls of the kernel: whatever the other threads hold is not needed.
        code = 2
        with suppress(BaseException):
            code = int(_can_lock(os.open(path, os.O_RDWR)))
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 1
