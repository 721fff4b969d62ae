"""How is a log file read: forwards, backwards, and from near any seq, in constant memory and without a lock?

Nothing here keeps an index. Lines are numbered and in order, so a seq is found by bisection over the bytes of the log
itself, in about log2(size / 64 KiB) reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from eventlog.frame import LINE_BYTES_MAX, BadLine, Position, batch_of, peek, unseal
from eventlog.record import Event

BLOCK_BYTES = 256 * 1024
_NEAR_BYTES = 64 * 1024
_PROBE_BYTES = 4 * 1024
_NUMBER = re.compile(rb'\{"v":\d{1,4},"seq":(\d{1,18}),')


class Walk:
    """A reader on its way through one log.

    `at` is the end of the last whole append that it has passed; `keyed` has (key, offset of the line) of every event
    with a key in the list that was yielded last.
    """

    def __init__(self, fd: int, stream: str, at: Position) -> None:
        self.at = at
        self.keyed: list[tuple[str, int]] = []
        self.fd = fd
        self._stream = stream

    def appends(self, end: int) -> Iterator[list[Event]]:
        """Yield the events of the whole appends before byte `end`, in lists, verifying the chain.

        Ends before an unfinished append, however it is unfinished; `at` tells where. Raises BadLine, with its number
        and offset, at a finished line that is not the next one, after all that stands before it.
        """
        offset, seq, previous = self.at.offset, self.at.seq, self.at.h
        events: list[Event] = []
        keyed: list[tuple[str, int]] = []
        due = ""  # The place that the next event must have in its append; empty where a new append may begin.
        begins, whole = offset, 0
        for lines in _blocks_of_lines(self.fd, offset, end):
            bad = None
            try:
                for line in lines:
                    event, h = unseal(line, previous, seq + 1, self._stream)
                    if due or event.batch is not None:
                        if not due:
                            begins, whole = offset, len(events)
                        due = _next_place(event, due)
                    if event.key is not None:
                        keyed.append((event.key, offset))
                    events.append(event)
                    previous = h
                    seq += 1
                    offset += len(line) + 1
            except BadLine as error:
                bad = BadLine(error.why, seq + 1, offset)
            if not due:
                begins, whole = offset, len(events)
            if whole:
                last = events[whole - 1]
                self.at = Position(begins, last.seq, last.h.encode())
                self.keyed = [(key, at) for key, at in keyed if at < begins]
                yield events[:whole]
                events, keyed, whole = events[whole:], keyed[len(self.keyed) :], 0
            if bad:
                raise bad


def find(fd: int, seq: int, start: Position, end: int) -> Position:
    """Give a position at or shortly before line `seq`, to walk on from; `start` when nothing nearer is sure.

    It is the end of a whole append, and taken on trust: its chain value is what the line before it says.
    """
    low, high = start.offset, end
    while high - low > _NEAR_BYTES:
        middle = (low + high) // 2
        line_at = _line_start(fd, middle, high)
        number = None if line_at is None else _number_at(fd, line_at)
        if line_at is None or number is None or number > seq:
            high = middle
        else:
            low = line_at
    return append_end(fd, low, start)


def near_end(fd: int, size: int, start: Position, end: int) -> Position:
    """Give a position about `size` bytes before `end`, taken on trust like that of `find`; `start` in a short file."""
    for distance in (size, size + LINE_BYTES_MAX):
        if end - distance <= start.offset:
            return start
        if (line_at := _line_start(fd, end - distance, end)) is not None:
            return append_end(fd, line_at, start)
    return start


def backwards(fd: int, stream: str, start: Position, end: Position) -> Iterator[Event]:
    """Yield the events from `end` down to `start`, the origin, verifying each against the line before it.

    Raises BadLine, with its number and offset, at a line that the one before it does not vouch for.
    """
    seq, offset = end.seq, end.offset
    line: bytes | None = None
    try:
        for before in _lines_backwards(fd, end.offset):
            if line is not None:
                event, _ = unseal(line, before[-45:-2], seq, stream)
                seq, offset = seq - 1, offset - len(line) - 1
                yield event
            line = before
        if line is not None:
            yield unseal(line, start.h, seq, stream)[0]
    except BadLine as error:
        raise BadLine(error.why, seq, offset - len(line or b"") - 1) from None


def append_end(fd: int, offset: int, start: Position) -> Position:
    """Give the end of the last whole append at or before line start `offset`; `start` when a line cannot be read.

    Taken on trust, like the position of `find`.
    """
    try:
        for line in _lines_backwards(fd, offset):
            event = peek(line)
            if event is None or offset <= start.offset:
                break
            if event.batch is None or len(set(event.batch.split("/"))) == 1:
                return Position(offset, event.seq, line[-45:-2])
            offset -= len(line) + 1
    except BadLine:
        pass
    return start


def line_around(fd: int, offset: int) -> tuple[int, bytes]:
    """Give the line that byte `offset` lies in, as (its offset, its bytes without the newline)."""
    for reach in (_PROBE_BYTES, LINE_BYTES_MAX):
        start = max(0, offset - reach)
        text = os.pread(fd, 2 * reach, start)
        begin = text.rfind(b"\n", 0, offset - start) + 1
        end = text.find(b"\n", offset - start)
        if end >= 0 and (begin or not start):
            break
    return start + begin, text[begin : end if end >= 0 else len(text)]


def line_start(fd: int, seq: int, start: Position, end: int) -> int:
    """Give the offset of line `seq`, which is known to be there."""
    at = find(fd, seq, start, end)
    offset, number = at.offset, at.seq
    for lines in _blocks_of_lines(fd, offset, end):
        for line in lines:
            number += 1
            if number == seq:
                return offset
            offset += len(line) + 1
    return offset


def _next_place(event: Event, due: str) -> str:
    """Give the place in its append that must follow `event`, empty when it is the last; raises BadLine."""
    k, n = batch_of(event)
    if event.batch != due if due else k != 1:
        place = f"event {event.batch} of an append" if event.batch else "an event of its own"
        raise BadLine(f"{place} stands where {f'event {due}' if due else 'a first event'} of an append is due")
    return "" if k == n else f"{k + 1}/{n}"


def _blocks_of_lines(fd: int, offset: int, end: int) -> Iterator[list[bytes]]:
    rest = b""
    while offset < end and (block := os.pread(fd, min(BLOCK_BYTES, end - offset), offset)):
        offset += len(block)
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) >= LINE_BYTES_MAX:
            lines.append(rest)  # It can become no line any more: have it refused as one.
            rest = b""
        if lines:
            yield lines


def _lines_backwards(fd: int, end: int) -> Iterator[bytes]:
    """Yield the lines before line start `end`, the last one first, in blocks that grow: most callers want few."""
    rest, reach = b"", _PROBE_BYTES
    end -= 1  # The newline of the last line.
    while end > 0:
        size = min(reach, end)
        end -= size
        reach = min(2 * reach, BLOCK_BYTES)
        lines = (os.pread(fd, size, end) + rest).split(b"\n")
        rest = lines.pop(0)
        yield from reversed(lines)
        if len(rest) >= LINE_BYTES_MAX:
            raise BadLine(f"it is longer than the {LINE_BYTES_MAX} bytes that a line can have")
    if rest:
        yield rest


def _line_start(fd: int, offset: int, end: int) -> int | None:
    """Give the first start of a line after byte `offset` and before `end`."""
    while offset < end and (block := os.pread(fd, min(_PROBE_BYTES, end - offset), offset)):
        if (newline := block.find(b"\n")) >= 0:
            return offset + newline + 1 if offset + newline + 1 < end else None
        offset += len(block)
    return None


def _number_at(fd: int, offset: int) -> int | None:
    match = _NUMBER.match(os.pread(fd, 64, offset))
    return int(match[1]) if match else None
