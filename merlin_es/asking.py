"""How does somebody get in line without a turn of its own, while keys go from hand to hand?

It puts its wish into a named pipe, which whoever decides next empties: then the claim is in the same append as the
release that was to come anyway, and who waits pays for no sync of its own. A wish may be lost with who has read it, so
whoever has asked takes a turn itself when it does not see its claim soon. The kernel keeps the order.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from merlin_es.lease_commands import Reserve
from projections.layout import resources_path

_READ_BYTES: Final = 1 << 16


class Wish(msgspec.Struct, frozen=True):
    """What somebody asks for, and who it is."""

    actor: str
    command: Reserve


_encode = msgspec.json.Encoder().encode


class Asking:
    """The pipe of one state root. It is of this host; who asks through it is seen by nobody else before its turn."""

    def __init__(self, root: Path) -> None:
        self._path = resources_path(root) / "asked"
        self._fd: int | None = None

    def ask(self, wish: Wish) -> bool:
        """Put a wish into the pipe; False when it does not take it."""
        line = _encode(wish) + b"\n"
        if len(line) > select.PIPE_BUF:
            return False  # It could be torn.
        with suppress(OSError):
            return os.write(self._opened(), line) == len(line)
        return False

    def heard(self) -> list[Wish]:
        """Take all wishes out of the pipe, in their order."""
        wishes = []
        with suppress(OSError):
            for line in os.read(self._opened(), _READ_BYTES).splitlines():
                with suppress(msgspec.MsgspecError):
                    wishes.append(msgspec.json.decode(line, type=Wish))
        return wishes

    def _opened(self) -> int:
        if self._fd is None:
            with suppress(FileExistsError):
                os.mkfifo(self._path)
            self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        return self._fd

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
