"""How does a disk get full without harm to anybody else's: one of our own, or a limit on how large files may grow?"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

SIZE = "2G"
"""Of the image, which is sparse: the doctor warns of a disk with less than half of that."""
_TOOLS = ("unshare", "mount", "mkfs.ext4")
_PROBE = "mkfs.ext4 -q -F -m 0 {image} && mount -o loop {image} {directory}"


class Disk(Protocol):
    """A disk that can be full for a while."""

    name: str

    @contextmanager
    def full(self) -> Iterator[None]:
        """Have no room on it, within the block."""


class OwnDisk:
    """An ext4 of its own in a file; only this process and its children see it, and it is gone with them."""

    name = "an ext4 of its own, filled to the last block"

    def __init__(self, directory: Path) -> None:
        self._filler = directory / "filler"
        image = directory.parent / "disk.img"
        directory.mkdir(parents=True)
        subprocess.run(["truncate", "-s", SIZE, str(image)], check=True)
        subprocess.run(["sh", "-c", _PROBE.format(image=image, directory=directory)], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill it; whoever writes meanwhile meets ENOSPC."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for step in (1 << 26, 1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, step)
            yield
        finally:
            os.close(descriptor)
            self._filler.unlink()


class Limited:
    """No disk of its own: for a while, no file may grow. `pids` gives the processes that meet that."""

    name = "a limit on the size of files (EFBIG), as there is no right to mount"

    def __init__(self, directory: Path, pids: Callable[[], list[int]]) -> None:
        directory.mkdir(parents=True)
        self._pids = pids

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let no file of the processes grow; each gets its old limit back."""
        before = {pid: limit for pid in self._pids() if (limit := _limit(pid, None))}
        for pid, (_, hard) in before.items():
            _limit(pid, (0, hard))
        try:
            yield
        finally:
            for pid, limit in before.items():
                _limit(pid, limit)


def enter(argv: list[str]) -> None:
    """Go on in a place where a disk can be mounted that nobody else sees, if this user may; else do nothing."""
    if os.environ.get("SOAK_DISK") or not all(map(shutil.which, _TOOLS)) or not _may_mount():
        return
    os.environ["SOAK_DISK"] = "own"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *argv])


def make(directory: Path, pids: Callable[[], list[int]]) -> Disk:
    """Give the disk for a directory."""
    return OwnDisk(directory) if os.environ.get("SOAK_DISK") == "own" else Limited(directory, pids)


def remove(top: Path) -> None:
    """Remove the directory of a lab, with the disk that is mounted in it, if there is one."""
    for directory in filter(Path.is_mount, top.iterdir()):
        subprocess.run(["umount", "--lazy", str(directory)], check=False, capture_output=True)
    shutil.rmtree(top, ignore_errors=True)


def _may_mount() -> bool:
    probe = (
        'set -e; d=$(mktemp -d); trap "rm -rf $d" EXIT; mkdir $d/m; truncate -s 8M $d/i; '
        "mkfs.ext4 -q -F $d/i; mount -o loop $d/i $d/m; umount $d/m"
    )
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", probe]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _limit(pid: int, limit: tuple[int, int] | None) -> tuple[int, int] | None:
    with suppress(ProcessLookupError, PermissionError):
        if limit is None:
            return resource.prlimit(pid, resource.RLIMIT_FSIZE)
        return resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    return None
