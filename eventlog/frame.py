"""What are the bytes of one event, and how does a line vouch for every line before it?"""

from __future__ import annotations

import re
from binascii import b2a_base64 as _base64
from hashlib import sha256 as _sha256

import msgspec

from eventlog.record import Event, Head

FORMAT = b"eventlog/1"
ENVELOPE_VERSION = 1
LINE_BYTES_MAX = 256 * 1024
"""A line with its newline. What is larger goes to the blob store and is named by digest."""
APPEND_BYTES_MAX = 1024 * 1024
"""One write. So no more than this, at the end of a file, can be the work of an interrupted append."""

DEPTH_MAX = 100
"""Objects and arrays within each other in one line: what every JSON parser takes, on any stack."""

_SEAL = b',"h":"'
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_SEAL_BYTES = len(_SEAL) + 43 + len(b'"}')
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_decode = msgspec.json.Decoder(Event).decode


class BadLine(Exception):
    """A line is not the next one of its stream; never leaves the package. `line` and `offset` are set by who walks."""

    def __init__(self, why: str, line: int = 0, offset: int = 0) -> None:
        super().__init__(why)
        self.why = why
        self.line = line
        self.offset = offset


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a reader stands: `offset` bytes and `seq` lines lie behind it, and the last of them has chain value `h`."""

    offset: int
    seq: int
    h: bytes

    @property
    def head(self) -> Head:
        """The head of a stream that ends here."""
        return Head(self.seq, self.h.decode())


def origin(stream: str) -> Position:
    """Give the start of `stream`: what its first line chains from, so that no other stream's line fits there."""
    return Position(0, 0, _digest(FORMAT + b"\n" + stream.encode()))


def seal(body: bytes, previous: bytes) -> tuple[bytes, bytes]:
    """Give the line for the JSON object `body`, which lacks its `h`, on top of `previous`; and the new chain value."""
    body = body[:-1]
    h = _digest(previous + body)
    return body + _SEAL + h + b'"}\n', h


def unseal(line: bytes, previous: bytes, seq: int, stream: str) -> tuple[Event, bytes]:
    """Decode `line` (without its newline) as number `seq` of `stream`; raises BadLine when it is not that."""
    try:
        event = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(f"it is not an event ({error})") from None
    except RecursionError:
        if is_too_deep(line):
            raise BadLine(f"it is nested deeper than {DEPTH_MAX} levels") from None
        raise  # The caller's stack is full; that says nothing about the line.
    h = line[-45:-2]
    if (
        event.seq == seq
        and event.stream == stream
        and event.v == ENVELOPE_VERSION
        and line[-_SEAL_BYTES:-45] == _SEAL
        and _base64(_sha256(previous + line[:-_SEAL_BYTES]).digest(), newline=False)[:43].translate(_URL_SAFE) == h
        and len(line) < LINE_BYTES_MAX
    ):
        return event, h
    raise BadLine(_complaint(event, line, previous, seq, stream))


def peek(line: bytes) -> Event | None:
    """Decode `line` (without its newline) on trust; None when it is not an event."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    except RecursionError:
        if is_too_deep(line):
            return None
        raise


def is_too_deep(line: bytes) -> bool:
    """Tell whether the objects and arrays of `line` are nested deeper than DEPTH_MAX."""
    if line.count(b"{") + line.count(b"[") <= DEPTH_MAX:
        return False
    depth = 0
    for byte in _STRING.sub(b"", line):
        depth += (byte in b"{[") - (byte in b"}]")
        if depth > DEPTH_MAX:
            return True
    return False


def batch_of(event: Event) -> tuple[int, int]:
    """Give the place of `event` in its append, as (k, n) with 1 <= k <= n; raises BadLine when it says nonsense."""
    if event.batch is None:
        return 1, 1
    k, slash, n = event.batch.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n) and int(n) > 1):
        raise BadLine(f"its batch {event.batch!r} is not a place in an append")
    return int(k), int(n)


def _digest(material: bytes) -> bytes:
    return _base64(_sha256(material).digest(), newline=False)[:43].translate(_URL_SAFE)


def _complaint(event: Event, line: bytes, previous: bytes, seq: int, stream: str) -> str:
    if event.v > ENVELOPE_VERSION:
        return f"envelope version {event.v} is newer than this release reads ({ENVELOPE_VERSION}): upgrade"
    if event.stream != stream:
        return f"it belongs to stream {event.stream!r}, not to {stream!r}"
    if len(line) >= LINE_BYTES_MAX:
        return f"it is longer than the {LINE_BYTES_MAX} bytes that a line can have"
    if event.seq != seq:
        return f"it says seq {event.seq} where {seq} is due"
    if len(line) < _SEAL_BYTES or line[-_SEAL_BYTES:-45] != _SEAL:
        return "it does not end with its chain value"
    if _digest(previous + line[:-_SEAL_BYTES]) != line[-45:-2]:
        return "its chain value does not fit: this line or one before it was changed"
    return f"envelope version {event.v} is unknown"
