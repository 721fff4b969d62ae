"""How does a question go over one connection, and its answer come back, in the words of HTTP/1.1?

As much of the protocol as Ray's dashboard and what may stand before it speak. The client of Python's library takes
longer to import than all else that a look at a run imports, and takes an answer that breaks off for a whole one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    import socket

PIECE_BYTES: Final = 256 * 1024
LINE_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 100
_STATUS: Final = re.compile(rb"HTTP/1\.(\d) +(\d{3})(?: .*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
_BEGIN: Final = b"HTTP/"


class NotHttp(Exception):
    """Who answers does not speak HTTP; the message is what it did."""


class BrokenOff(Exception):
    """The answer has an end before its end."""


class Head(Struct, frozen=True):
    """What an answer says before its body: `length` is None where the body comes in chunks, or until the end."""

    status: int
    length: int | None
    is_chunked: bool
    keeps: bool


class Wire:
    """One connection. It gives up at its `deadline`, however often another byte comes or goes before."""

    def __init__(self, plain: socket.socket, host: str) -> None:
        self.plain = plain
        self.deadline = 0.0
        self.is_free = True
        self._host = host
        self._held = bytearray()

    def close(self) -> None:
        """Close it."""
        self.plain.close()

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Head:
        """Send a question, and read the answer up to its body.

        Raises ConnectionError where the other side has hung up, NotHttp, BrokenOff and TimeoutError.
        """
        self.is_free = False
        said = {"Host": self._host, "Accept-Encoding": "identity", **headers}
        if body is not None or method != "GET":
            said["Content-Length"] = str(len(body or b""))
        lines = (f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items()), "", "")
        self._send("\r\n".join(lines).encode("ascii"))
        self._send(body or b"")
        return self._head()

    def pieces(self, head: Head) -> Iterator[bytes]:
        """Yield the body; when there is no more, the next question can be asked if the connection `is_free`."""
        if head.is_chunked:
            while size := self._size():
                yield from self._exactly(size)
                if self._line():
                    raise BrokenOff
            self._headers()
        elif head.length is not None:
            yield from self._exactly(head.length)
        else:
            while True:  # It is not known where it ends, so where it does it may have been cut.
                yield from self._exactly(PIECE_BYTES)
        self.is_free = head.keeps and not self._held  # What came unasked would be taken for the next answer.

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.plain.settimeout(left(self.deadline))
            rest = rest[self.plain.send(rest[:PIECE_BYTES]) :]

    def _head(self) -> Head:
        minor, status = self._status()
        headers = self._headers()
        while 100 <= status < 200:
            minor, status = self._status()
            headers = self._headers()
        length = headers.get(b"content-length", b"")
        is_chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        connection = headers.get(b"connection", b"").lower()
        return Head(
            status,
            0 if status in (204, 304) else int(length) if _LENGTH.fullmatch(length) and not is_chunked else None,
            is_chunked,
            b"close" not in connection if minor else b"keep-alive" in connection,
        )

    def _status(self) -> tuple[int, int]:
        """Read the first line; gives the minor version and the status."""
        while len(self._held) < len(_BEGIN) and _BEGIN.startswith(self._held):
            if not self._fill():
                raise ConnectionResetError("it has hung up") if not self._held else BrokenOff
        if not self._held.startswith(_BEGIN):
            raise NotHttp("it does not begin as an answer does")
        match = _STATUS.fullmatch(self._line())
        if match is None:
            raise NotHttp("its first line has no status")
        return int(match[1]), int(match[2])

    def _headers(self) -> dict[bytes, bytes]:
        """Read lines up to an empty one; of a header that is there twice, the first counts."""
        headers: dict[bytes, bytes] = {}
        for _ in range(HEADERS_MAX + 1):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.partition(b":")
            headers.setdefault(name.strip().lower(), value.strip())
        raise NotHttp(f"it has more than {HEADERS_MAX} headers")

    def _size(self) -> int:
        match = _SIZE.fullmatch(self._line())
        if match is None:
            raise BrokenOff
        return int(match[1], 16)

    def _line(self) -> bytes:
        seen = 0
        while (end := self._held.find(b"\n", seen)) < 0 and len(self._held) <= LINE_BYTES_MAX:
            seen = len(self._held)
            if not self._fill():
                raise BrokenOff
        if not 0 <= end <= LINE_BYTES_MAX:
            raise NotHttp("it has a line without end")
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line.removesuffix(b"\r")

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._held and not self._fill():
                raise BrokenOff
            piece = bytes(self._held[:size])
            del self._held[:size]
            size -= len(piece)
            yield piece

    def _fill(self) -> bool:
        """Wait for more; False at the end."""
        self.plain.settimeout(left(self.deadline))
        piece = self.plain.recv(PIECE_BYTES)
        self._held += piece
        return bool(piece)


def left(deadline: float) -> float:
    """Give the seconds that are left; raises TimeoutError where none are."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
