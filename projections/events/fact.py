"""What have events in common that are decided many times a second, by programs that last a moment?

Such a fact is a struct: it is made, compared and read back many times faster than a model of pydantic, and without the
import of pydantic, which takes as long as all that `merlin ray resources reserve` does. What is written is checked as
strictly. A vocabulary of facts stands beside a union of pydantic that is made of it, and a test holds both together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args

import msgspec

from eventlog.errors import Invalid
from eventlog.record import Event, NewEvent
from projections.events.recorded import Recorded, UnknownEvent

F = TypeVar("F")


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A fact, past tense. Its shape is on disk: fields are added with defaults, never changed."""

    type: ClassVar[str]

    def checked(self) -> Self:
        """Give the fact as it will be read back; raises Invalid where it could not be."""
        try:
            return msgspec.convert(msgspec.to_builtins(self), self.__class__)
        except (msgspec.ValidationError, TypeError) as error:
            raise Invalid(f"{self.type} cannot be recorded in that shape ({error}): {self!r}") from None

    def recorded_by(
        self, actor: str, door: str, *, corr: str | None = None, cause: int | str | None = None
    ) -> NewEvent:
        """Give the event as a log takes it."""
        data = msgspec.to_builtins(self)
        return NewEvent(type=self.type, data=data, actor=actor, door=door, corr=corr, cause=cause)


class FactCodec(Generic[F]):
    """Turns the lines of one kind of stream into its facts, of which there is a `union`; see Codec."""

    def __init__(self, union: Any) -> None:  # noqa: ANN401  no type says "a union of classes"
        self._decoders = {kind.type: msgspec.json.Decoder(kind).decode for kind in get_args(union)}
        self.types: tuple[str, ...] = tuple(self._decoders)

    def decode(self, events: Iterable[Event]) -> Iterator[Recorded[F]]:
        """Yield the events; raises UnknownEvent at a type that the union lacks."""
        for event in events:
            try:
                fact = self._decoders[event.type](event.raw)
            except (KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                why = "there is no such event" if isinstance(error, KeyError) else str(error)
                raise UnknownEvent(
                    f"{event.stream}#{event.seq}: this release does not know {event.type} in that shape "
                    f"({why}): upgrade Merlin, then repeat the call"
                ) from None
            yield Recorded(event.seq, event.time, event.actor, event.door, fact)
