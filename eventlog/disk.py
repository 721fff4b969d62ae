"""Which calls change what is on disk? All of them are here, so that tests can fail, record and replay each one."""

from __future__ import annotations

import fcntl
import os
import warnings
from contextlib import suppress
from pathlib import Path

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


class Disk:
    """The calls as the operating system has them. Every descriptor is opened with O_CLOEXEC, as Python does."""

    def open(self, path: Path, flags: int) -> int:
        """Open `path`, creating it with the user's umask when `flags` say so."""
        return os.open(path, flags, 0o666)

    def close(self, fd: int) -> None:
        """Close `fd`, and with it the lock that it may hold."""
        os.close(fd)

    def write(self, fd: int, data: bytes) -> int:
        """Write at the end of `fd`; returns how many bytes the system took."""
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return when the bytes and the length of the file are on the medium."""
        if _FULL_SYNC is None:
            os.fdatasync(fd)
        else:  # macOS, whose fsync(2) leaves the data in the drive's cache.
            fcntl.fcntl(fd, _FULL_SYNC)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in directory `path` are on the medium."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target`, atomically."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """Remove the name `path`."""
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """Make the directory `path`; its parent exists. Fine when it is there already."""
        path.mkdir(exist_ok=True)


class UnsyncedDisk(Disk):
    """A disk that acknowledges what a power cut would lose: for tests that do not test that. Says so loudly."""

    def __init__(self) -> None:
        warnings.warn("syncing is off: a power cut loses acknowledged events", RuntimeWarning, stacklevel=2)

    def sync(self, fd: int) -> None:
        """Promise without asking."""

    def sync_directory(self, path: Path) -> None:
        """Promise without asking."""


def make_directories(disk: Disk, path: Path) -> None:
    """Make `path` and whatever is missing above it, each durable before the next is made in it."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        disk.mkdir(directory)
        disk.sync_directory(directory.parent)


def replace_file(disk: Disk, path: Path, data: bytes, mode: int | None = None) -> None:
    """Make `data` the content of `path`: a reader, or a crash at any point, sees all of the old or all of the new.

    The file gets permission bits `mode`, or what the umask leaves.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        try:
            if mode is not None:
                os.fchmod(fd, mode)
            write_all(disk, fd, data)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.sync_directory(path.parent)


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Write all of `data`; where the system takes only a part, the next call says why."""
    done = disk.write(fd, data)
    while done < len(data):
        done += disk.write(fd, data[done:])
