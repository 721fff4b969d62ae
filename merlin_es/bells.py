"""How does somebody who waits learn at once that it is its turn, without waking all the others?

Whoever waits has a named pipe, which its claim names, and whoever grants the claim rings there. To watch the log
instead would wake everybody at each append: with 16 in line that takes more of the machine than the leases do. A bell
may be missed, as by who waits on another host, so whoever waits also looks by itself. A pipe serves one claim after the
other: to make one for each would slow down every sync of the log, which then has to record the new names too.
"""

from __future__ import annotations

import itertools
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from eventlog.disk import Disk, make_directories
from eventlog.names import is_stream
from projections.layout import resources_path

RUNG_MAX: Final = 64
"""How many bells of others a process keeps open."""
_READ_BYTES: Final = 1 << 16


class Bell:
    """Waits for a ring; without a pipe it only waits."""

    def __init__(self, path: Path | None, fd: int | None) -> None:
        self.pid = os.getpid()
        self._path = path
        self._fd = fd
        self._poll = select.poll()
        if fd is not None:
            self._poll.register(fd, select.POLLIN)

    @property
    def name(self) -> str:
        """What a claim says of it."""
        return self._path.name if self._path else ""

    def wait(self, limit_s: float) -> bytes:
        """Give what it is rung with, in whole lines; nothing when it is not within `limit_s` seconds."""
        if not self._poll.poll(max(0.0, limit_s) * 1000) or self._fd is None:
            return b""
        with suppress(BlockingIOError):
            return os.read(self._fd, _READ_BYTES)
        return b""

    def take_down(self) -> None:
        """Remove it."""
        if self._fd is not None and self._path is not None and self.pid == os.getpid():
            os.close(self._fd)
            self._fd = None
            with suppress(OSError):
                self._path.unlink()

    def __del__(self) -> None:
        self.take_down()


class Bells:
    """The bells of this process; each is used by one claim at a time."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._directory = str(resources_path(root) / "bells")
        self._disk = disk
        self._idle: list[Bell] = []
        self._rung: dict[str, int] = {}
        self._numbers = itertools.count(1)

    @contextmanager
    def one(self) -> Iterator[Bell]:
        """Give a bell that nobody else in this process listens to."""
        while self._idle:
            bell = self._idle.pop()
            if bell.pid == os.getpid():  # And not one that a fork has copied.
                break
        else:
            bell = self._new()
        try:
            yield bell
        finally:
            bell.wait(0)
            self._idle.append(bell)

    def ring(self, name: str, line: bytes = b"\n") -> None:
        """Tell who listens there to look, and in the line what for; a bell that nobody listens to is taken down."""
        if not name or "/" in name or not is_stream(name):
            return
        try:
            os.write(self._rung.get(name) or self._reached(name), line)
        except BlockingIOError:
            pass  # It has been rung often enough.
        except OSError:
            self._forget(name)
            with suppress(OSError):
                Path(f"{self._directory}/{name}").unlink()

    def _reached(self, name: str) -> int:
        """Open the bell of somebody else, and keep it open: who goes round in a line rings the same ones again."""
        if len(self._rung) >= RUNG_MAX:
            self._forget(next(iter(self._rung)))
        fd = os.open(f"{self._directory}/{name}", os.O_WRONLY | os.O_NONBLOCK)
        if (kept := self._rung.setdefault(name, fd)) != fd:
            os.close(fd)  # Another thread has been faster.
        return kept

    def _forget(self, name: str) -> None:
        if (fd := self._rung.pop(name, None)) is not None:
            os.close(fd)

    def __del__(self) -> None:
        for name in list(self._rung):
            self._forget(name)

    def _new(self) -> Bell:
        path = Path(self._directory) / f"{os.getpid()}-{next(self._numbers)}-{os.urandom(4).hex()}"
        try:
            make_directories(self._disk, path.parent)
            os.mkfifo(path)
            return Bell(path, os.open(path, os.O_RDWR | os.O_NONBLOCK))
        except OSError:
            return Bell(None, None)
