"""How is one kind of stream folded, whichever it is, and how is a state written out?

Nothing here needs pydantic, so whoever folds facts does not either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from eventlog.frame import origin
from eventlog.log import EventLog
from eventlog.record import Event, Head
from projections.events.recorded import Recorded

S = TypeVar("S")
E = TypeVar("E")
Files: TypeAlias = Mapping[str, bytes]
"""What is in each file, by its path under the state root, in the order in which they are to be written."""


class Vocabulary(Protocol):
    """What turns the lines of one kind of stream into its events: a Codec or a FactCodec."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types of all its events."""
        ...

    def decode(self, events: Iterable[Event]) -> Iterator[Recorded[Any]]:
        """Yield the events; raises UnknownEvent at a type that it lacks."""
        ...


class Projection(msgspec.Struct, Generic[S, E], frozen=True):
    """The fold of one kind of stream from `origin` on, and the `files` that are its state written out.

    `version` changes with the fold and with the look of its files. The file that carries the stamp is written last.
    """

    version: int
    codec: Vocabulary
    origin: S
    evolve: Callable[[S, Recorded[E]], S]
    files: Callable[[str, S, Head], Files]

    def states(self, events: Iterable[Event], state: S) -> Iterator[tuple[S, Head]]:
        """Fold `events` on top of `state`; yield what it is after each of them."""
        heads: list[Head] = []

        def noted() -> Iterator[Event]:
            for event in events:
                heads[:] = [event.head]
                yield event

        for recorded in self.codec.decode(noted()):
            state = self.evolve(state, recorded)
            yield state, heads[0]

    def fold(self, events: Iterable[Event], state: S, head: Head) -> tuple[S, Head]:
        """Fold `events` on top of `state` at `head`; give what it is then, and the head."""
        for state, head in self.states(events, state):  # noqa: B007, B020  the last pair is the answer
            pass
        return state, head

    def fold_own(self, events: Iterable[Event], said: Sequence[E], state: S) -> Iterator[tuple[S, Head]]:
        """Fold `events` of which the last ones are what this process has `said` and just appended, like `states`.

        What was validated when it was said is not decoded again: what would be read back is the same.
        """
        events = list(events)
        others = len(events) - len(said)
        for state, head in self.states(events[:others], state):  # noqa: B020  the last state goes on
            yield state, head
        for event, own in zip(events[others:], said, strict=True):
            state = self.evolve(state, Recorded(event.seq, event.time, event.actor, event.door, own))
            yield state, event.head

    def fold_all(self, stream: str, log: EventLog) -> tuple[S, Head]:
        """Fold all that there is of `stream`."""
        return self.fold(log.read(stream), self.origin, origin(stream).head)


def stamp(head: Head, version: int) -> object:
    """Give what a file says of where it was folded from."""
    return {"seq": head.seq, "h": head.h, "fold": version}


def as_bytes(value: object) -> bytes:
    """Give a file as people and programs read it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def some_of(part: object, names: Iterable[str]) -> dict[str, object]:
    """Give some fields of a state as JSON has them."""
    return {name: msgspec.to_builtins(getattr(part, name)) for name in names}


def all_of(part: msgspec.Struct) -> dict[str, object]:
    """Give all fields of a state as JSON has them."""
    return dict(msgspec.to_builtins(part))  # At once, as there may be thousands of leases to write.
