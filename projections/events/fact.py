"""What have events in common that are decided many times a second, by programs that last a moment?

Such a fact is a struct: it is made, compared and read back many times faster than a model of pydantic, and without the
import of pydantic, which takes as long as all that `merlin ray resources reserve` does. What is written is checked as
strictly. A vocabulary of facts stands beside a union of pydantic that is made of it, and a test holds both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, get_args

import msgspec

from eventlog.errors import Invalid
from eventlog.record import Event, NewEvent
from projections.events.recorded import Recorded, UnknownEvent

if TYPE_CHECKING:
    from typing_extensions import Buffer

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
        self._kinds = {kind.type: kind for kind in get_args(union)}
        self._decoders: dict[str, Callable[[Buffer], F]] = {}
        self.types: tuple[str, ...] = tuple(self._kinds)

    def decode(self, events: Iterable[Event]) -> Iterator[Recorded[F]]:
        """Yield the events; raises UnknownEvent at a type that the union lacks."""
        for event in events:
            try:
                decode = self._decoders.get(event.type) or self._decoder_of(event.type)
                fact = decode(event.raw)
            except (KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                why = "there is no such event" if isinstance(error, KeyError) else str(error)
                raise UnknownEvent(
                    f"{event.stream}#{event.seq}: this release does not know {event.type} in that shape "
                    f"({why}): upgrade Merlin, then repeat the call"
                ) from None
            yield Recorded(event.seq, event.time, event.actor, event.door, fact)

    def _decoder_of(self, event_type: str) -> Callable[[Buffer], F]:
        """Make a decoder when it is needed: a program that lasts a moment needs few of them."""
        self._decoders[event_type] = decode = msgspec.json.Decoder(self._kinds[event_type]).decode
        return decode
