"""Can this host, and the file system under the state root, do what is asked of them? Proven on the spot."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from merlin_es.doctor.finding import Finding
from merlin_es.errors import Usage
from merlin_es.lock_probe import require_locks
from merlin_es.settings import is_shared
from merlin_es.version import VERSION

RAY_WANTED: Final = "2.60."
PYTHONS: Final = ((3, 11), (3, 14))
FREE_LOW_BYTES: Final = 1024**3
FREE_LEAST_BYTES: Final = 64 * 1024**2
INODES_LOW: Final = 10_000
SYNC_SLOW_S: Final = 0.25
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "fuse.", "ceph", "glusterfs", "lustre")


_RIGHTS: Final = "give this user the right to, or use another --state-root"
_WHAT_HELPS: Final = {
    errno.ENOSPC: "free space there, then merlin ray doctor --fix",
    errno.EDQUOT: "free space there, or have the quota raised, then merlin ray doctor --fix",
    errno.EROFS: "mount -o remount,rw, once `dmesg` says why it is read-only; or use another --state-root",
}
"""By what the system says, what makes it possible to write again."""


def versions() -> Iterator[Finding]:
    """Say what runs, and whether it is what Merlin was made for."""
    python = ".".join(map(str, sys.version_info[:3]))
    ray = _version("ray")
    merlin = VERSION if _version("merlin-es") else f"{VERSION} (a checkout)"
    listed = f"Python {python}, Merlin {merlin}, Ray {ray or '(none)'}"
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        yield Finding("versions", "warning", f"{listed}: made for Python 3.11 to 3.13", "use another Python")
    elif ray and not ray.startswith(RAY_WANTED):
        yield Finding(
            "versions", "warning", f"{listed}: made for Ray {RAY_WANTED}x", 'pip install "ray[default]>=2.60,<2.61"'
        )
    else:
        yield Finding("versions", "fine", listed)


def state_root(root: Path) -> Iterator[Finding]:
    """Say whether the state root is there, whose it is, and who else may write to it."""
    if not root.is_dir():
        yield Finding("state root", "note", f"{root} is not there yet: it is made when something is recorded")
        return
    status = root.stat()
    mode = stat.S_IMODE(status.st_mode)
    if is_shared(root):
        yield Finding(
            "state root", "error", f"{root} can be written to by everybody (mode {mode:04o})", f"chmod o-w {root}"
        )
    else:
        yield Finding("state root", "fine", f"{root} (mode {mode:04o}, owner {status.st_uid})")


def permissions(root: Path) -> Iterator[Finding]:
    """Name what this user may not read or write, and secrets that others may read."""
    bad = [path for path in _ours(root) if not os.access(path, os.R_OK | os.W_OK, effective_ids=True)]
    for path in bad[:10]:
        yield Finding("permissions", "error", f"{path} cannot be read and written by this user", f"chmod u+rw {path}")
    if len(bad) > 10:
        yield Finding("permissions", "error", f"{len(bad) - 10} more files like these", f"chmod -R u+rwX {root}")
    for path in root.glob("cluster/head/**/*token*"):
        if path.is_file() and path.stat().st_mode & 0o077:
            what = f"{path} can be read by others, and opens the cluster"
            yield Finding("permissions", "error", what, f"chmod 600 {path}")
            bad.append(path)
    if not bad:
        yield Finding("permissions", "fine", "all logs and state files can be read and written")


def disk_space(
    root: Path, *, low_bytes: int = FREE_LOW_BYTES, least_bytes: int = FREE_LEAST_BYTES
) -> Iterator[Finding]:
    """Say how much room is left; an append that finds none is refused, and nothing is lost."""
    there = _existing(root)
    free = shutil.disk_usage(there).free
    inodes = os.statvfs(there)
    what = f"{_amount(free)} free under {there}"
    mend = (
        f"free space: `du -xsh {there}/*` shows what takes it, `merlin ray archive RUN` packs a run that has ended; "
        "then merlin ray doctor --fix"
    )
    if free < least_bytes:
        yield Finding("disk space", "error", what, mend)
    elif free < low_bytes:
        yield Finding("disk space", "warning", what, mend)
    elif inodes.f_files and inodes.f_favail < INODES_LOW:
        yield Finding("disk space", "warning", f"{inodes.f_favail} inodes free under {there}", "remove files there")
    else:
        yield Finding("disk space", "fine", what)


def file_system(root: Path, kind: str | None = None) -> Iterator[Finding]:
    """Prove that locks exclude, that a rename replaces at once, and that a sync returns; by doing it, and clean up."""
    there = _existing(root)
    kind = kind or file_system_of(there)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as name:
            for proof in (_locks, _rename, _sync):
                yield from proof(Path(name))
    except OSError as error:
        what = f"nothing can be written under {there} ({error.strerror})"
        yield Finding("file system", "error", what, _WHAT_HELPS.get(error.errno or 0, _RIGHTS))
        return
    if kind in IN_MEMORY:
        what = f"{there} is in memory ({kind}): all is gone when this host restarts"
        yield Finding("file system", "warning", what, "use a --state-root on a disk")
    elif kind.startswith(_NETWORK):
        what = f"{there} is a network file system ({kind}): its locks hold here, which says nothing of other hosts"
        yield Finding("file system", "warning", what, "use a --state-root on a local disk, or one host only")


def _locks(directory: Path) -> Iterator[Finding]:
    try:
        require_locks(directory)
    except Usage as error:
        yield Finding("locks", "error", str(error), "use a --state-root on a local disk")
    else:
        yield Finding("locks", "fine", "a lock excludes other processes")


def _rename(directory: Path) -> Iterator[Finding]:
    old, new = directory / "old", directory / "new"
    old.write_bytes(b"old")
    with old.open("rb") as reader:
        new.write_bytes(b"new")
        new.rename(old)
        whole = reader.read() == b"old" and old.read_bytes() == b"new" and not new.exists()
    if whole:
        yield Finding("rename", "fine", "a rename replaces a file at once, and readers keep what they opened")
    else:
        what = f"a rename does not replace a file at once under {directory.parent}"
        yield Finding("rename", "error", what, "use a --state-root on a local disk")


def _sync(directory: Path) -> Iterator[Finding]:
    took: list[float] = []
    for _ in range(5):
        begun = time.monotonic()
        fd = os.open(directory / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(fd, b"x" * 512)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        took.append(time.monotonic() - begun)
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(top)
    finally:
        os.close(top)
    median_s = sorted(took)[2]
    what = f"a durable append takes {median_s * 1000:.1f} ms"
    if median_s > SYNC_SLOW_S:
        yield Finding("fsync", "warning", f"{what}, so every verb waits for it", "use a --state-root on a faster disk")
    else:
        yield Finding("fsync", "fine", what)


def _amount(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB" if size_bytes >= FREE_LOW_BYTES else f"{size_bytes / 1024**2:.0f} MiB"


def _ours(root: Path) -> Iterator[Path]:
    yield from root.glob("*/*.json*")
    yield from root.glob("*/*/*.json*")


def _existing(path: Path) -> Path:
    while not path.is_dir():
        path = path.parent
    return path


def file_system_of(path: Path) -> str:
    """Give the kind of the file system that a path lies on, as far as this system tells."""
    best, kind = "", ""
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines():
            _, place, found, *_ = line.split(" ")
            place = place.encode().decode("unicode_escape")
            if path.resolve().is_relative_to(place) and len(place) >= len(best):
                best, kind = place, found
    return kind


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
