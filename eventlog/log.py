"""What can be asked of a log, wherever its streams are kept?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from eventlog.errors import EventLogError
from eventlog.record import ANY, Append, Appended, Closing, Event, Expected, Head, NewEvent

Upcast: TypeAlias = Callable[[Event], Event]

POLL_S = 0.25
"""How long a follower sleeps at most before it looks by itself, in seconds."""


class CaughtUp(Struct, frozen=True):
    """A follower has given all that was there; what comes after this is new. `head` is that of the last event."""

    head: Head


class EventLog(Protocol):
    """Streams of events, each an append-only sequence numbered from 1. Safe to use from threads and after a fork."""

    def streams(self) -> Iterator[str]:
        """Yield the names of all streams that have a log, sorted by their parts."""
        ...

    def read(self, stream: str, first: int = 1) -> Iterator[Event]:
        """Yield the events from seq `first` on, verified, up to the last one that is there now.

        Needs no lock and constant memory. A stream without a log has no events. Raises Corrupt at the first line that
        is not what was written, after all events before it.
        """
        ...

    def read_backwards(self, stream: str, last: int | None = None) -> Iterator[Event]:
        """Yield the events from seq `last` (else the newest) down to 1, verified like those of `read`."""
        ...

    def head(self, stream: str) -> Head:
        """Give the head of the stream; seq 0 when it has no events. Does not read what lies before."""
        ...

    def append(
        self,
        stream: str,
        events: Sequence[NewEvent],
        *,
        expected: Expected = ANY,
        key: str | None = None,
        closing: Closing | None = None,
    ) -> Appended:
        """Record all of `events` or none, and behind them what `closing` makes of them; durable when this returns.

        `expected` is the seq or the head that the stream must have (0: nothing yet), checked under the lock. `key` is
        an idempotency key: the same key with the same content gives the first answer again, before `expected` is
        looked at. Raises Conflict, KeyReused, Invalid, TooLarge, Locked, NotWritten, NotSynced, Corrupt, Vanished.
        """
        ...

    def commit(self, stream: str, appends: Sequence[Append]) -> list[Appended | EventLogError]:
        """Record several independent appends with one sync; give each one's own result, in order.

        Takes at least the first, and fewer than all only when one write cannot hold them: repeat with the others.
        Raises an EventLogError when the log takes nothing at all.
        """
        ...

    def follow(
        self, stream: str, first: int = 1, *, stop: threading.Event | None = None, poll_s: float = POLL_S
    ) -> Iterator[Event | CaughtUp]:
        """Yield the events from seq `first` on and then, after one CaughtUp, each new one as it is recorded.

        Ends at most `poll_s` seconds after `stop` is set. Nothing is missed or doubled. Raises Corrupt and Vanished.
        """
        ...


def only_result(results: Sequence[Appended | EventLogError]) -> Appended:
    """Give the result of the one append that was committed, or raise why it was refused."""
    [result] = results
    if isinstance(result, EventLogError):
        raise result
    return result
