"""How does somebody have something decided by whoever decides just now, instead of waiting for a turn of its own?

It puts what it wants into a named pipe, which whoever has a turn empties: then it is in the same append as what was to
come anyway, and who asks pays for no sync of its own. It may be lost with who has read it, so whoever has asked takes
a turn itself when it does not hear soon. The kernel keeps the order.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from merlin_es.lease_commands import Caller, Reserve
from projections.layout import resources_path

T = TypeVar("T")
_READ_BYTES: Final = 1 << 16


class Wish(msgspec.Struct, frozen=True):
    """What somebody wants to stand in line for, who it is, and through which door it comes."""

    actor: str
    command: Reserve
    door: str


class GiveBack(msgspec.Struct, frozen=True):
    """Which lease somebody gives back, through which door, and the bell at which it is told what came of it."""

    lease_id: str
    caller: Caller
    door: str
    bell: str


_encode = msgspec.json.Encoder().encode


class Pipe(Generic[T]):
    """A named pipe for one kind of thing, on this host; what is in it is seen by nobody before somebody has a turn."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decode = msgspec.json.Decoder(kind).decode
        self._fd: int | None = None
        self._poll = select.poll()

    def put(self, thing: T) -> bool:
        """Put something into the pipe; False when it does not take it."""
        line = _encode(thing) + b"\n"
        if len(line) > select.PIPE_BUF:
            return False  # It could be torn.
        with suppress(OSError):
            return os.write(self._opened(), line) == len(line)
        return False

    def empty(self) -> list[T]:
        """Take all out of the pipe, in their order."""
        things: list[T] = []
        with suppress(OSError):
            for line in os.read(self._opened(), _READ_BYTES).splitlines():
                with suppress(msgspec.MsgspecError):
                    things.append(self._decode(line))
        return things

    def has_some(self, limit_s: float) -> bool:
        """Wait until there is something in the pipe; False when there is nothing within so many seconds."""
        with suppress(OSError):
            self._opened()
            return bool(self._poll.poll(limit_s * 1000))
        return False

    def _opened(self) -> int:
        if self._fd is None:
            with suppress(FileExistsError):
                os.mkfifo(self._path)
            self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
            self._poll.register(self._fd, select.POLLIN)
        return self._fd

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


class Asking:
    """The pipes of one state root: who wants to stand in line, and who gives something back."""

    def __init__(self, root: Path) -> None:
        self.wishes = Pipe(resources_path(root) / "asked", Wish)
        self.returns = Pipe(resources_path(root) / "given", GiveBack)
