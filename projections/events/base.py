"""What do all domain events have in common, and how do they get into a log and out of it?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

import eventlog
from projections.events.recorded import Recorded as Recorded
from projections.events.recorded import UnknownEvent as UnknownEvent

E = TypeVar("E", bound="DomainEvent")


class DomainEvent(BaseModel):
    """A fact, past tense. Its shape is on disk: fields are added with defaults, never changed.

    What validates and writes it is built when the first of its kind is met: a run meets few kinds, and its verbs wait.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings", defer_build=True)

    type: str
    rare: ClassVar[frozenset[str]] = frozenset()
    """Fields that are recorded where they say something: events from before there were such look the same."""

    def recorded_by(
        self, actor: str, door: str, *, corr: str | None = None, cause: int | str | None = None
    ) -> eventlog.NewEvent:
        """Give the event as a log takes it."""
        unsaid = {name for name in self.rare if not getattr(self, name)}
        data = self.model_dump(mode="json", exclude={"type", *unsaid})
        return eventlog.NewEvent(type=self.type, data=data, actor=actor, door=door, corr=corr, cause=cause)


class Repaired(DomainEvent):
    """The log cut off what an interrupted append had left; it is kept beside the log."""

    offset: int
    length: int
    sha256: str
    kept: str


class Codec(Generic[E]):
    """Turns the lines of one kind of stream into its events; `union` is discriminated by `type`."""

    def __init__(self, union: Any) -> None:  # noqa: ANN401  no type says "a union of classes"
        members, *_ = get_args(union)
        self._kinds: dict[str, type[E]] = {each.model_fields["type"].default: each for each in get_args(members)}
        self._validators: dict[str, Callable[[bytes], E]] = {}
        self.types: tuple[str, ...] = tuple(self._kinds)

    def decode(self, events: Iterable[eventlog.Event]) -> Iterator[Recorded[E]]:
        """Yield the events; raises UnknownEvent at a type that the union lacks."""
        for event in events:
            data = bytes(event.raw)
            begin = b'{"type":' + json.dumps(event.type).encode()
            try:
                decoded = self._validator(event.type)(begin + (b"}" if data == b"{}" else b"," + data[1:]))
            except KeyError:
                raise _unknown(event, event.type) from None
            except ValidationError as error:
                raise _unknown(event, f"{event.type} in that shape ({error.errors()[0]['msg']})") from None
            yield Recorded(event.seq, event.time, event.actor, event.door, decoded)

    def _validator(self, kind: str) -> Callable[[bytes], E]:
        """Give what reads the events of one type, which is built for the first of them; raises KeyError."""
        if (known := self._validators.get(kind)) is not None:
            return known
        model = self._kinds[kind]
        model.model_rebuild()
        return self._validators.setdefault(kind, model.__pydantic_validator__.validate_json)


def _unknown(event: eventlog.Event, what: str) -> UnknownEvent:
    return UnknownEvent(
        f"{event.stream}#{event.seq}: this release does not know {what}: upgrade Merlin, then repeat the call"
    )
