"""Which event of a log does somebody mean: `42`, `2026-11-23T07:13Z`, `2h ago`, the id of an event, `run.started#2`?

Order is by number, never by time. A time means the last event that was recorded by then; where the clock jumped, there
may be several such places, and whoever asks has to say which.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from msgspec import Struct, field

from eventlog import Event
from merlin_es.errors import Ambiguous, NotFound, Usage

SHOWN_MAX: Final = 3
"""How many events an error names on each side of what was meant."""
TIMES: Final = "a date or time like 2026-11-23 or 2026-11-23T07:00Z, or how long ago, like 90m, 24h or 1h30m"
FORMS: Final = "a number, a time like 2026-11-23T07:13Z, `2h ago`, the id of an event, or TYPE#N"

_SPANS = re.compile(r"((?:\d{1,9}[smhdw])+)(?:\s*ago)?")
_SPAN = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TYPE = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+)(?:#(\d{1,18}))?")


class AtSeq(Struct, frozen=True):
    """The event of that number."""

    seq: int


class AtTime(Struct, frozen=True):
    """The last event that was recorded by then (ISO 8601, UTC, as events have it)."""

    time: str


class AtId(Struct, frozen=True):
    """The event with that id."""

    id: str


class AtType(Struct, frozen=True):
    """Event number `number` of that type; None when there is to be only one."""

    type: str
    number: int | None


Moment: TypeAlias = AtSeq | AtTime | AtId | AtType


class Point(Struct, frozen=True):
    """The event that is meant. `note` says what whoever asked should know of it: that the clock jumped.

    `execution_seq` is there where an event of the run's execution was meant in the first place.
    """

    seq: int
    note: str = ""
    execution_seq: int | None = None


def parse(text: str, now: datetime) -> Moment:
    """Read what somebody wrote for a moment; raises Usage."""
    text = text.strip()
    if text.removeprefix("#").isascii() and text.removeprefix("#").isdecimal():
        return AtSeq(int(text.removeprefix("#")[:18]))
    if match := _TYPE.fullmatch(text):
        return AtType(match[1], None if match[2] is None else int(match[2]))
    if _ID.fullmatch(text.lower()):
        return AtId(text.lower())
    return AtTime(time_of(text, now))


def the_time(text: str, now: datetime) -> str:
    """Read a time at which everything is to be looked at, where the number of an event says nothing; raises Usage."""
    meant = parse(text, now)
    if not isinstance(meant, AtTime):
        raise Usage(f"--at {text} counts in one stream: name that, or give a time, or how long ago")
    return meant.time


def time_of(text: str, now: datetime, forms: str = FORMS) -> str:
    """Read a date, a time (ISO 8601, UTC unless it says otherwise), or how long ago; raises Usage with the `forms`."""
    if match := _SPANS.fullmatch(text):
        try:
            then = now - sum((_span(*each.groups()) for each in _SPAN.finditer(match[1])), timedelta())
        except OverflowError:
            raise Usage(f"{text!r} is before all time: give a shorter one") from None
    else:
        try:
            then = datetime.fromisoformat(text)
        except ValueError:
            raise Usage(f"{text!r} is no moment: give {forms}") from None
    try:
        then = then.replace(tzinfo=then.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise Usage(f"{text!r} is outside of all time: give one nearer to now") from None
    return then.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def span_s(text: str) -> float:
    """Read how long to wait, like `30s`, `1h30m`, or a number of seconds; raises Usage."""
    if match := _SPANS.fullmatch(text):
        return sum(_span(*each.groups()).total_seconds() for each in _SPAN.finditer(match[1]))
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    raise Usage(f"{text!r} is no length of time: give one like 30s, 5m or 1h30m")


def find(moment: Moment, stream: str, events: Iterable[Event]) -> Point:
    """Give the event of `stream` that is meant; raises NotFound and Ambiguous, which name the nearest ones."""
    match moment:
        case AtSeq(seq=seq):
            return _by_number(seq, stream, events)
        case AtTime(time=time):
            return _by_time(time, stream, events)
        case AtId(id=wanted):
            return _by_id(wanted, stream, events)
        case AtType(type=kind, number=number):
            return _by_type(kind, number, stream, events)


def last_by(time: str, events: Iterable[Event]) -> tuple[int, bool]:
    """Give the number of the last event that says it was recorded by `time`, and whether one before it says later."""
    seq, was_later, contradicted = 0, False, False
    for event in events:
        if event.time > time:
            was_later = True
        else:
            seq, contradicted = event.seq, was_later
    return seq, contradicted


def said(event: Event) -> str:
    """Name an event on one line."""
    return f"#{event.seq} {event.type} at {event.time}"


def _by_number(seq: int, stream: str, events: Iterable[Event]) -> Point:
    last: deque[Event] = deque(maxlen=SHOWN_MAX)
    for event in events:
        if event.seq == seq:
            return Point(seq)
        last.append(event)
    if not seq:
        raise NotFound(f"nothing of {stream} was before its first event: the numbers of events begin with 1")
    raise NotFound(f"{stream} has no event #{seq}: its last ones are {_list(last)}")


class _Edges(Struct):
    """Where, on the way through a log, its times pass a given one (`cuts`: the last event before), and go back."""

    time: str
    jumps: list[Event] = field(default_factory=list)
    cuts: list[Event] = field(default_factory=list)
    before: Event | None = None

    def see(self, event: Event) -> None:
        """Take in the next event."""
        before = self.before
        if before is not None and event.time < before.time:
            self.jumps.append(event)
        if before is not None and before.time <= self.time < event.time:
            self.cuts.append(before)
        self.before = event


def _by_time(time: str, stream: str, events: Iterable[Event]) -> Point:
    edges = _Edges(time)
    first: Event | None = None
    for event in events:
        first = first or event
        edges.see(event)
    last = edges.before
    if first is None or last is None:
        raise NotFound(f"{stream} has no events")
    if last.time <= time:
        edges.cuts.append(last)
    if not edges.cuts:
        raise NotFound(f"nothing of {stream} was recorded by {time}: its first event is {said(first)}")
    if len(edges.cuts) > 1:
        raise Ambiguous(
            f"the clock went back at {_list(edges.jumps[-SHOWN_MAX:])}, so {stream} passes {time} more than once: "
            f"say which of these events you mean, by its number: {_list(edges.cuts[-2 * SHOWN_MAX :])}"
        )
    note = f"the clock went back at {_list(edges.jumps[:SHOWN_MAX])}; order is by number" if edges.jumps else ""
    return Point(edges.cuts[0].seq, note)


def _by_id(wanted: str, stream: str, events: Iterable[Event]) -> Point:
    """The first 48 bits of an id are the time (ms) at which it was drawn, so those next to it can be named."""
    near: list[tuple[int, Event]] = []
    for event in events:
        if event.id == wanted:
            return Point(event.seq)
        near.append((abs(_drawn_ms(event.id) - _drawn_ms(wanted)), event))
        if len(near) > SHOWN_MAX:
            near.remove(max(near, key=lambda pair: pair[0]))
    if not near:
        raise NotFound(f"{stream} has no events")
    raise NotFound(
        f"{stream} has no event with the id {wanted}: those drawn nearest to it are {_list(each for _, each in near)}"
    )


def _by_type(kind: str, number: int | None, stream: str, events: Iterable[Event]) -> Point:
    count, kinds = 0, set()
    first: list[Event] = []
    last: deque[Event] = deque(maxlen=SHOWN_MAX)
    for event in events:
        kinds.add(event.type)
        if event.type != kind:
            continue
        count += 1
        if count == number:
            return Point(event.seq)
        last.append(event)
        if count <= SHOWN_MAX:
            first.append(event)
    if not count:
        close = difflib.get_close_matches(kind, sorted(kinds), n=SHOWN_MAX, cutoff=0.4) or sorted(kinds)
        raise NotFound(f"{stream} has no {kind}: it has {', '.join(close)}")
    if number is None and count == 1:
        return Point(last[0].seq)
    shown = {event.seq: event for event in (*first, *last)}
    if number is None:
        raise Ambiguous(f"{stream} has {count} times {kind}: say which, as {kind}#N: {_list(shown.values())}")
    raise NotFound(f"{stream} has no {kind}#{number}, only {count}, counted from 1: {_list(shown.values())}")


def _span(number: str, unit: str) -> timedelta:
    return timedelta(**{_UNITS[unit]: int(number)})


def _drawn_ms(event_id: str) -> int:
    return int(event_id.replace("-", "")[:12] or "0", 16)


def _list(events: Iterable[Event]) -> str:
    found: Sequence[Event] = list(events)
    return ", ".join(map(said, found))
