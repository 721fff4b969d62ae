"""What is an event, before and after it is recorded, and what does an append ask and answer?"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TypeAlias

import msgspec

from eventlog.errors import Invalid
from eventlog.names import Head as Head
from eventlog.names import check_stream as check_stream
from eventlog.names import is_stream as is_stream

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

# Without quotes and backslashes a key has one spelling in JSON, so it can be found as bytes.
_KEY = re.compile(r"[!#-\[\]-~]{1,512}")

_decode_data = msgspec.json.Decoder(dict[str, object])


class Anywhere(Enum):
    """The one value with which an append says that it goes on any head."""

    ANY = "any"


ANY = Anywhere.ANY
Expected: TypeAlias = int | Head | Anywhere


class NewEvent(msgspec.Struct, frozen=True):
    """A fact to record: `type` is `<noun>.<past tense>`, `data` a JSON object, `dv` the version of its shape.

    `actor` wanted it, through `door`; `cause` is the seq (or `stream#seq`) that led to it; `corr` names what it all
    belongs to.
    """

    type: str
    data: Mapping[str, JsonValue]
    actor: str
    door: str
    dv: int = 1
    cause: int | str | None = None
    corr: str | None = None


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A recorded fact, one line of a log. The fields are the envelope's keys, in the order they have on disk."""

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
    raw: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"), name="data")
    h: str = ""

    @property
    def data(self) -> dict[str, object]:
        """The payload, decoded anew at each call; `msgspec.json.decode(event.raw, type=…)` gives a typed one."""
        return _decode_data.decode(self.raw)

    @property
    def head(self) -> Head:
        """The head of the stream when this was its last event."""
        return Head(self.seq, self.h)


_decode = msgspec.json.Decoder(Event).decode


Closing: TypeAlias = Callable[[Sequence[Event]], NewEvent]
"""Makes one more event of those that an append is about to record, which nobody knows before their turn has come."""


class Append(msgspec.Struct, frozen=True):
    """One request to append: all of `events` or none, on `expected`, at most once under `key`.

    What `closing` makes of them is recorded behind them, in the same append. It is called under the lock, perhaps more
    than once, so it is quick and only reads.
    """

    events: tuple[NewEvent, ...]
    expected: Expected = ANY
    key: str | None = None
    closing: Closing | None = None


class Appended(msgspec.Struct, frozen=True):
    """What an append left in the log, durable when this is returned.

    `first` is the seq of the caller's first event; `lines` are the caller's as they stand in the log. `repeated` says
    that the key was known: nothing was written. `repairs` are lines that had to be recorded before (`log.repaired`).
    `read` are the lines decoded, where that had to be done anyway.
    """

    first: int
    lines: tuple[bytes, ...]
    repairs: tuple[bytes, ...] = ()
    repeated: bool = False
    read: tuple[Event, ...] = ()

    @property
    def head(self) -> Head:
        """The head of the stream right after the caller's last event."""
        return self.events[-1].head

    @property
    def events(self) -> tuple[Event, ...]:
        """The caller's events, as they are recorded."""
        return self.read or tuple(_decode(line) for line in self.lines)

    @property
    def news(self) -> tuple[Event, ...]:
        """All that this append added to the stream, in order: what a fold of the stream has to apply now."""
        repairs = tuple(_decode(line) for line in self.repairs)
        return repairs if self.repeated else repairs + self.events


def check_key(key: str) -> str:
    """Return `key` when it can be an idempotency key; raises Invalid otherwise."""
    if not _KEY.fullmatch(key):
        raise Invalid(
            f"{key!r} cannot be an idempotency key: use 1 to 512 printable ASCII characters without spaces, "
            "quotes and backslashes"
        )
    return key
