"""How does somebody who waits learn at once that it is its turn, without waking all the others?

Each claim that waits has a named pipe of its own, and whoever grants it rings there. To watch the log instead would
wake everybody at each append: with 16 in line that takes more of the machine than the leases do. A bell may be missed,
as by who waits on another host, so whoever waits also looks by itself.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from projections.layout import resources_path


class Bell:
    """Waits for a ring."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._poll = select.poll()
        if fd is not None:
            self._poll.register(fd, select.POLLIN)

    def wait(self, limit_s: float) -> bool:
        """Return True when it rings, False after `limit_s` seconds."""
        if not self._poll.poll(max(0.0, limit_s) * 1000) or self._fd is None:
            return False
        with suppress(BlockingIOError):
            os.read(self._fd, 512)
        return True


@contextmanager
def bell(root: Path, claim_id: str) -> Iterator[Bell]:
    """Put up a bell for a claim, and take it down in the end. Without one there is only waiting."""
    path = _path(root, claim_id)
    fd = None
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield Bell(fd)
    finally:
        if fd is not None:
            os.close(fd)
        with suppress(OSError):
            path.unlink()


def ring(root: Path, claim_id: str) -> None:
    """Tell who waits with this claim to look; a bell that nobody listens to is taken down."""
    path = _path(root, claim_id)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        with suppress(OSError):
            path.unlink()
        return
    try:
        with suppress(OSError):
            os.write(fd, b"!")
    finally:
        os.close(fd)


def _path(root: Path, claim_id: str) -> Path:
    return resources_path(root) / "bells" / claim_id
