"""Where does a head keep its files, who may read them, and who may start one there?"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merlin_es.errors import HeadFailed

# Ray 2.60, measured: a unix socket path has at most 107 bytes, and the longest that Ray makes below its directory is
# /session_2026-11-23_13-44-16_708161_4194304/sockets/dash_MetricsHead, which takes 68.
TEMP_DIR_BYTES_MAX = 107 - 68


@contextmanager
def only_start_in(directory: Path) -> Iterator[None]:
    """Keep others from starting a head in the same directory meanwhile; the kernel ends that when this process dies."""
    descriptor = os.open(directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def temp_dir_for(directory: Path) -> Path:
    """Give the directory for Ray's own files: below `directory`, or a short one when Ray's sockets would not fit."""
    inside = directory.resolve() / "ray"
    if len(os.fsencode(inside)) <= TEMP_DIR_BYTES_MAX:
        return inside
    digest = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
    short = Path(f"/tmp/merlin-{os.getuid()}-{digest}")  # noqa: S108  made private and checked below
    with suppress(FileExistsError):
        short.mkdir(mode=0o700)
    status = short.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise HeadFailed(f"{short} is not a private directory of this user; remove it, or have its owner do so")
    return short / "ray"  # Ray opens its own directory to everybody.


def private_token(directory: Path) -> Path:
    """Give the file with the cluster's token, made anew unless it is there and only this user can read it."""
    path = directory / "token"
    with suppress(FileNotFoundError):
        status = path.lstat()
        private = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
        if private and status.st_size:
            return path
    descriptor, new = tempfile.mkstemp(prefix=".token-", dir=directory)  # O_EXCL and 0600
    try:
        os.write(descriptor, secrets.token_urlsafe(32).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Path(new).replace(path)
    return path


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeadFailed(f"another process is starting a head in {directory}; wait for it") from None
