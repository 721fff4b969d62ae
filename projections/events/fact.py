"""What have events in common that are decided many times a second, by programs that last a moment?

Such a fact is a struct: it is made, compared and read back many times faster than a model of pydantic, and without the
import of pydantic, which takes as long as all that `merlin ray resources reserve` does. What is written is checked as
strictly. A vocabulary of facts stands beside a union of pydantic that is made of it, and a test holds both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    rare: ClassVar[frozenset[str]] = frozenset()
    """Fields that are recorded where they say something: events from before there were such look the same."""

    @classmethod
    def made_of(cls, said: Mapping[str, object]) -> Self:
        """Give the fact with the fields that it has of these; raises Invalid where one is missing, or another type."""
        try:
            return msgspec.convert(said, cls)
        except (msgspec.ValidationError, TypeError) as error:
            raise Invalid(f"{cls.type} cannot be recorded in that shape ({error}): {said!r}") from None

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
        for name in self.rare:
            if not data[name]:
                del data[name]
        return NewEvent(type=self.type, data=data, actor=actor, door=door, corr=corr, cause=cause)


class Repaired(Fact, frozen=True, kw_only=True):
    """The log cut off what an interrupted append had left; it is kept beside the log."""

    type: ClassVar[str] = "log.repaired"
    offset: int
    length: int
    sha256: str
    kept: str


class Checkpointed(Fact, frozen=True, kw_only=True):
    """What the folded files were right before this event, so that a later replay can prove itself against it.

    `files` has the SHA-256 of each, by its name beside the log; `fold` is the version of the fold. `trail` has one text
    for each event from seq `trail_from` to the one before this: what that event changed, as `FILE/POINTER=DIGEST`
    separated by spaces, where FILE counts the names in `files` from 0. DIGEST is the first 4 hex digits of the SHA-256
    of the new value as JSON, or `-` where it was removed; of a file that is new there is no pointer, and the digests of
    its fields stand one behind the other. A time that is the event's own is left out.
    """

    type: ClassVar[str] = "log.checkpoint"
    fold: int
    files: dict[str, str]
    trail_from: int = 0
    trail: tuple[str, ...] = ()


class FactCodec(Generic[F]):
    """Turns the lines of one kind of stream into its facts, of which there is a `union`; see Codec.

    A `lax` one takes, in what it could not read otherwise, a value for another one, such as "7" for 7: so its events
    were read while they were models of pydantic.
    """

    def __init__(self, union: Any, *, lax: bool = False) -> None:  # noqa: ANN401  no type says "a union of classes"
        self._kinds = {kind.type: kind for kind in get_args(union)}
        self._decoders: dict[str, Callable[[Buffer], F]] = {}
        self._lax = lax
        self.types: tuple[str, ...] = tuple(self._kinds)

    def decode(self, events: Iterable[Event]) -> Iterator[Recorded[F]]:
        """Yield the events; raises UnknownEvent at a type that the union lacks."""
        for event in events:
            try:
                decode = self._decoders.get(event.type) or self._decoder_of(event.type)
                fact = decode(event.raw)
            except KeyError:
                raise _unknown(event, event.type) from None
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                fact = self._second_reading(event, str(error))
            yield Recorded(event.seq, event.time, event.actor, event.door, fact)

    def _decoder_of(self, event_type: str) -> Callable[[Buffer], F]:
        """Make a decoder when it is needed: a program that lasts a moment needs few of them."""
        self._decoders[event_type] = decode = msgspec.json.Decoder(self._kinds[event_type]).decode
        return decode

    def _second_reading(self, event: Event, why: str) -> F:
        """Read as the union of pydantic does; raises UnknownEvent, with what was wrong with the first reading."""
        if self._lax:
            from projections.events.union import read  # Costs pydantic, which no line that we have written needs.

            fact: F | None = read(self._kinds[event.type], bytes(event.raw))
            if fact is not None:
                return fact
        raise _unknown(event, f"{event.type} in that shape ({why})")


def _unknown(event: Event, what: str) -> UnknownEvent:
    return UnknownEvent(
        f"{event.stream}#{event.seq}: this release does not know {what}: upgrade Merlin, then repeat the call"
    )
