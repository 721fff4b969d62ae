"""Where do two stories part? Their events side by side, and the first place at which they are not the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal, NamedTuple

import msgspec

from eventlog import Event

CELLS_MAX: Final = 4_000_000
"""How large a table of two middles may be that are compared each with each; larger ones are compared in order."""
OWN: Final = frozenset(
    {
        "answered",
        "boot_id",
        "boottime_s",
        "duration_s",
        "entrypoint",
        "host",
        "idempotency_key",
        "modified_at",
        "node_id",
        "not_after",
        "not_before",
        "parent_head",
        "pid",
        "pid_started",
        "session_name",
        "traceparent",
    }
)
"""Fields that are each story's own: when and where it happened, not what."""
_ITSELF: Final = "<itself>"


class Told(NamedTuple):
    """What an event says, without what can be only its own."""

    seq: int
    type: str
    time: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Pair:
    """Two events that stand for each other, or one that stands alone."""

    one: Told | None
    other: Told | None

    @property
    def kind(self) -> Literal["same", "differs", "removed", "added"]:
        """What there is to say of them: an event is `removed` where only the one story has it."""
        if self.one is None:
            return "added"
        if self.other is None:
            return "removed"
        return "same" if self.one.content == self.other.content else "differs"


def told(events: Iterable[Event], own: str = "") -> list[Told]:
    """Give what events say; `own` is the name of the story, which they may say in many places."""
    return [Told(event.seq, event.type, event.time, _content(event, own)) for event in events]


def align(one: Sequence[Told], other: Sequence[Told]) -> Iterator[Pair]:
    """Yield the events of two stories side by side: same types stand for each other, in order."""
    begin = _common(one, other)
    end = _common(one[begin:][::-1], other[begin:][::-1])
    yield from map(Pair, one[:begin], other[:begin])
    yield from _middle(one[begin : len(one) - end], other[begin : len(other) - end])
    yield from map(Pair, one[len(one) - end :], other[len(other) - end :])


def _middle(one: Sequence[Told], other: Sequence[Told]) -> Iterator[Pair]:
    if len(one) * len(other) > CELLS_MAX:
        yield from _side_by_side(one, other)
        return
    matcher = SequenceMatcher(None, [each.type for each in one], [each.type for each in other], autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            yield from map(Pair, one[a:b], other[c:d])
        else:
            yield from (Pair(each, None) for each in one[a:b])
            yield from (Pair(None, each) for each in other[c:d])


def _side_by_side(one: Sequence[Told], other: Sequence[Told]) -> Iterator[Pair]:
    for mine, theirs in zip(one, other, strict=False):
        if mine.type == theirs.type:
            yield Pair(mine, theirs)
        else:
            yield Pair(mine, None)
            yield Pair(None, theirs)
    both = min(len(one), len(other))
    yield from (Pair(each, None) for each in one[both:])
    yield from (Pair(None, each) for each in other[both:])


def _common(one: Sequence[Told], other: Sequence[Told]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine.type != theirs.type:
            break
        count += 1
    return count


def _content(event: Event, own: str) -> bytes:
    data = bytes(event.raw).decode()
    if own:
        data = data.replace(own, _ITSELF)
    return event.type.encode() + b" " + msgspec.json.encode(_kept(msgspec.json.decode(data)), order="sorted")


def _kept(value: object) -> object:
    match value:
        case dict():
            return {key: _kept(each) for key, each in value.items() if key not in OWN}
        case list():
            return [_kept(each) for each in value]
    return value
