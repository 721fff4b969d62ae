"""What would an append add to a stream, line by line? One answer for every kind of log."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from eventlog.errors import Conflict, Invalid, KeyReused, TooLarge
from eventlog.frame import (
    APPEND_BYTES_MAX,
    DEPTH_MAX,
    ENVELOPE_VERSION,
    LINE_BYTES_MAX,
    Position,
    is_too_deep,
    seal,
)
from eventlog.record import ANY, Anywhere, Append, Appended, Event, Expected, Head, NewEvent

Clock = Callable[[], int]
"""Gives the time, in nanoseconds since 1970-01-01 UTC."""
NewId = Callable[[], str]

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode


class _Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The envelope as it is written, but for `h`; its keys stand in the order of Event's."""

    v: int
    seq: int
    id: str
    type: str
    stream: str
    time: str
    actor: str
    door: str
    key: str | None = None
    cause: int | str | None = None
    corr: str | None = None
    dv: int = 0
    batch: str | None = None
    data: object = None


class Staged(msgspec.Struct, frozen=True):
    """The key of one append, what it will be answered, and the position of the stream once its lines are written."""

    key: str | None
    appended: Appended
    after: Position


def now() -> int:
    """Give the time, in nanoseconds since 1970-01-01 UTC."""
    return time.time_ns()


def uuid7() -> str:
    """Give a new UUIDv7: the time (ms), then a counter from a random start (RFC 9562 §6.2, method 2)."""
    ms = time.time_ns() // 1_000_000
    return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}{_middle}{next(_counter):012x}"


def stage(
    stream: str, at: Position, append: Append, earlier: tuple[bytes, ...], clock: Clock, new_id: NewId
) -> Staged | Appended:
    """Give the lines that `append` adds behind `at`, or the `earlier` ones that were recorded under its key.

    Raises Conflict when `at` is not what it expects, KeyReused when its key stands for other content, and Invalid when
    it can never be recorded.
    """
    if not append.events:
        raise Invalid("an append without events says nothing: leave it out")
    if earlier:
        return _repeated(append, earlier)
    if append.expected is not ANY and not fits(append.expected, at):
        raise Conflict(
            f"{stream} is at {at.head}, not at {append.expected}: read what is new, decide again, then append"
        )
    offset, seq, h = at.offset, at.seq, at.h
    count = len(append.events) + (append.closing is not None)
    recorded = as_text(clock())
    key = append.key
    lines: list[bytes] = []
    read: list[Event] = []
    for new in _with_closing(append, lines):
        seq += 1
        batch = None if count == 1 else f"{len(lines) + 1}/{count}"
        body = _body(
            new,
            _Line(
                ENVELOPE_VERSION,
                seq,
                new_id(),
                new.type,
                stream,
                recorded,
                new.actor,
                new.door,
                key,
                new.cause,
                new.corr,
                new.dv,
                batch,
                new.data,
            ),
        )
        line, h = seal(body, h)
        read.append(_readable(line, new.type))
        if len(line) > LINE_BYTES_MAX:
            raise TooLarge(
                f"{new.type} takes {len(line)} bytes and a line can have {LINE_BYTES_MAX}: "
                "put what is large into the blob store and name it by its digest"
            )
        offset += len(line)
        lines.append(line)
        key = None
    if offset - at.offset > APPEND_BYTES_MAX:
        raise TooLarge(
            f"one append of {offset - at.offset} bytes is more than {APPEND_BYTES_MAX}: "
            "put what is large into the blob store, or append in parts"
        )
    after = Position(offset, seq, h)
    return Staged(append.key, Appended(at.seq + 1, tuple(lines), read=tuple(read)), after)


def fits(expected: Expected, at: Position) -> bool:
    """Tell whether a stream that ends at `at` is where the caller expected it."""
    if isinstance(expected, Anywhere):
        return True
    return at.head == expected if isinstance(expected, Head) else at.seq == expected


def _with_closing(append: Append, lines: Sequence[bytes]) -> Iterator[NewEvent]:
    """Yield what is to be recorded; `lines` has by then what has become of all that was yielded before."""
    yield from append.events
    if append.closing is not None:
        yield append.closing(tuple(_decode_event(line) for line in lines))


def _repeated(append: Append, earlier: tuple[bytes, ...]) -> Appended:
    """Give what was recorded; who repeats a request may do so for another reason, but not with another content."""
    recorded = [_decode_event(line) for line in earlier]
    was = [(event.type, event.dv, event.data) for event in recorded]
    if append.closing is not None:
        was = was[: len(append.events)]
    asked = [(new.type, new.dv, msgspec.json.decode(_body(new, new.data))) for new in append.events]
    if was != asked:
        raise KeyReused(
            f"key {append.key!r} was used for other content at seq {recorded[0].seq}: "
            "read what is recorded there, or use a new key"
        )
    return Appended(recorded[0].seq, earlier, repeated=True)


def _body(event: NewEvent, value: object) -> bytes:
    """Give `value`, which holds the data of `event`, as JSON; raises Invalid when it is not a faithful image."""
    if not (event.type and event.actor and event.door and event.dv >= 1):
        raise Invalid(f"{event!r} lacks its type, actor, door or a data version of 1 or more: give all four")
    if type(event.data) is not dict and not isinstance(event.data, Mapping):
        raise Invalid(f"the data of {event.type} is not a JSON object: put the value under a name")
    try:
        body = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Invalid(
            f"the data of {event.type} is not JSON ({error}): use str, int, float, bool, None, list and dict"
        ) from error
    if b"null" in body and _not_finite(event.data):
        raise Invalid(f"the data of {event.type} holds NaN or an infinity, which JSON lacks: use None or a text")
    return body


def _readable(line: bytes, event_type: str) -> Event:
    """Read a line; refuse what could be written but not read: raw JSON that is none, a wrong type, endless nesting."""
    why = f"nested deeper than {DEPTH_MAX} levels" if is_too_deep(line) else ""
    if line.find(b"\n") != len(line) - 1:
        why = "raw JSON with a newline in it"
    if not why:
        try:
            return _decode_event(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            why = str(error)
    raise Invalid(f"{event_type} could not be read again ({why}): give each field the type that NewEvent names")


def _not_finite(value: Any) -> bool:  # noqa: ANN401  it is data of anybody's
    """Tell whether a float in `value` would silently have become null."""
    kind = type(value)
    if kind in _NO_FLOATS:
        return False
    if isinstance(value, float):
        return not math.isfinite(value)
    if kind is dict or isinstance(value, Mapping):  # To ask what it is costs more than all the rest.
        return _is_any_not_finite(value.values())
    if kind in _LISTS or (isinstance(value, Sequence) and not isinstance(value, str | bytes)):
        return _is_any_not_finite(value)
    return False


def _is_any_not_finite(values: Iterable[object]) -> bool:
    for each in values:  # noqa: SIM110  a generator costs twice as much
        if type(each) not in _NO_FLOATS and _not_finite(each):
            return True
    return False


def as_text(time_ns: int) -> str:
    """Write a time, in nanoseconds since 1970-01-01 UTC, as events have it.

    The text of the second is kept: datetime would cost each append more than its hash does.
    """
    global _second
    second, us = divmod(time_ns // 1_000, 1_000_000)
    known, text = _second
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = second, text
    return f"{text}.{us:06}Z"


def _restart_counter() -> None:
    """Draw a new start for ids: what forked from this process must not give the same."""
    global _middle, _counter
    noise = int.from_bytes(os.urandom(9))
    _middle = f"-7{noise & 0xFFF:03x}-{0x8000 | noise >> 12 & 0x3FFF:04x}-"
    _counter = itertools.count(noise >> 26)


_NO_FLOATS = frozenset({str, int, bool, type(None)})
_LISTS = frozenset({list, tuple})
_second = (0, "1970-01-01T00:00:00")
_middle = ""
_counter = itertools.count()
_restart_counter()
os.register_at_fork(after_in_child=_restart_counter)
