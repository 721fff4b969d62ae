"""How is a log kept in memory, with the same bytes and the same answers as on disk?

For unit tests and for tools that need a log for a moment. What the process loses is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eventlog.errors import EventLogError
from eventlog.frame import Position, origin, unseal
from eventlog.log import POLL_S, CaughtUp, Upcast, only_result
from eventlog.record import ANY, Append, Appended, Closing, Event, Expected, Head, NewEvent, check_key, check_stream
from eventlog.stage import Clock, NewId, Staged, now, stage, uuid7


@dataclass(slots=True)
class _Stream:
    at: Position
    lines: list[bytes] = field(default_factory=list)
    keys: dict[str, tuple[bytes, ...]] = field(default_factory=dict)


class MemoryLog:
    """The log in memory; threads may share it."""

    def __init__(self, *, clock: Clock = now, new_id: NewId = uuid7, upcast: Upcast = lambda event: event) -> None:
        self._clock = clock
        self._new_id = new_id
        self._upcast = upcast
        self._streams: dict[str, _Stream] = {}
        self._changed = threading.Condition()

    def streams(self) -> Iterator[str]:
        """Yield the names of all streams that have a log, sorted by their parts."""
        return iter(sorted(self._streams, key=lambda stream: stream.split("/")))

    def append(
        self,
        stream: str,
        events: Sequence[NewEvent],
        *,
        expected: Expected = ANY,
        key: str | None = None,
        closing: Closing | None = None,
    ) -> Appended:
        """Record all of `events` or none; see EventLog.append."""
        return only_result(self.commit(stream, [Append(tuple(events), expected, key, closing)]))

    def commit(self, stream: str, appends: Sequence[Append]) -> list[Appended | EventLogError]:
        """Record several independent appends; see EventLog.commit."""
        check_stream(stream)
        with self._changed:
            kept = self._streams.get(stream) or _Stream(origin(stream))
            results: list[Appended | EventLogError] = []
            for append in appends:
                try:
                    earlier = () if append.key is None else kept.keys.get(check_key(append.key), ())
                    outcome = stage(stream, kept.at, append, earlier, self._clock, self._new_id)
                except EventLogError as refusal:
                    results.append(refusal)
                    continue
                if isinstance(outcome, Staged):
                    kept.lines.extend(outcome.appended.lines)
                    kept.at = outcome.after
                    outcome = outcome.appended
                    if append.key is not None:
                        kept.keys[append.key] = outcome.lines
                results.append(outcome)
            if kept.lines:
                self._streams[stream] = kept
                self._changed.notify_all()
            return results

    def read(self, stream: str, first: int = 1) -> Iterator[Event]:
        """Yield the events from seq `first` on; see EventLog.read."""
        lines = self._lines(stream)
        previous = origin(stream).h
        for seq, line in enumerate(lines, 1):
            event, previous = unseal(line[:-1], previous, seq, stream)
            if seq >= first:
                yield self._upcast(event)

    def read_backwards(self, stream: str, last: int | None = None) -> Iterator[Event]:
        """Yield the events from seq `last` down to 1; see EventLog.read_backwards."""
        events = list(self.read(stream))
        return reversed(events if last is None else events[: max(0, last)])

    def head(self, stream: str) -> Head:
        """Give the head of the stream."""
        kept = self._streams.get(check_stream(stream))
        return (kept.at if kept else origin(stream)).head

    def follow(
        self, stream: str, first: int = 1, *, stop: threading.Event | None = None, poll_s: float = POLL_S
    ) -> Iterator[Event | CaughtUp]:
        """Yield what is there, one CaughtUp, and then what is new; see EventLog.follow."""
        stop = stop or threading.Event()
        seen, caught_up = self.head(stream)._replace(seq=0), False
        while not stop.is_set():
            for event in self.read(stream, seen.seq + 1):
                seen = event.head
                if event.seq >= first:
                    yield event
            if not caught_up:
                caught_up = True
                yield CaughtUp(seen if seen.seq else self.head(stream))
            with self._changed:
                if self.head(stream).seq == seen.seq:
                    self._changed.wait(poll_s)

    def _lines(self, stream: str) -> list[bytes]:
        with self._changed:
            kept = self._streams.get(check_stream(stream))
            return list(kept.lines) if kept else []
