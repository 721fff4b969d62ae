"""How does somebody step through a long log, forwards and backwards, without waiting?

The states of the events around are kept, in stretches between two snapshots, and of the others one in so many; so a
step folds nothing, and a jump folds one stretch at most, once the log has been gone through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from eventlog import Event
from merlin_es.past import Past, Reason
from projections.causes import Trail
from projections.history import Change, changes_of, documents
from projections.patch import Json
from projections.snapshots import Stand

STRETCHES_MAX: Final = 4
"""How many stretches are remembered event by event."""
LOOK_BACK_MAX: Final = 4096
"""How far back the cause of an event is looked for while the log has not been gone through."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at one event: what it changed, what led to it, and where everything stood after it."""

    event: Event
    changes: tuple[Change, ...]
    because: Reason | None
    stand: Stand


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The events `first` to `last`; `stands` has what was before the first, and what was after each."""

    first: int
    events: Sequence[Event]
    stands: Sequence[Stand]


class Walk:
    """A way through one stream, from event 1 to event `length`. Threads may share it."""

    def __init__(self, past: Past, stream: str) -> None:
        self.stream = stream
        self.length = past.log.head(stream).seq
        self.main = past.folds.main(stream)
        self._past = past
        self._every = past.snapshots.every
        self._stretches: dict[int, _Stretch] = {}  # The least recently used first.
        self._begins: dict[int, Stand] = {}
        self._trails: dict[int, Trail] = {}
        self._lock = threading.Lock()

    def see(self, seq: int) -> Sight:
        """Give what is seen at event `seq`."""
        stretch = self._stretch((seq - 1) // self._every)
        place = seq - stretch.first
        event = stretch.events[place]
        before, after = stretch.stands[place : place + 2]
        trail = self._trail(stretch)
        for passed in stretch.events[:place]:
            trail.note(passed)
        because = self._past.reason(event, trail)
        return Sight(event, changes_of(self.stream, before, after, self._past.folds), because, after)

    def documents(self, sight: Sight) -> dict[str, Json]:
        """Give what the files said then."""
        return documents(self.stream, sight.stand, self._past.folds)

    def warm(self) -> Iterator[int]:
        """Go through the whole log once, so that jumps need not; yields how far that has come."""
        stand, trail = self._past.at(self.stream, 0), Trail()
        while stand.head.seq < self.length:
            number = stand.head.seq // self._every
            self._begins.setdefault(number, stand)
            self._trails[number] = trail.copy()
            end = min(self.length, (number + 1) * self._every)
            for event, stand in self._past.snapshots.go_on(self.stream, stand, end):  # noqa: B007, B020  it goes on from there
                trail.note(event)
            yield stand.head.seq

    def find(self, text: str, seq: int, *, backwards: bool = False) -> int | None:
        """Give the next event after `seq`, or before it, whose line has that text; None when there is none."""
        wanted = text.casefold()
        log = self._past.log
        if backwards:
            events = log.read_backwards(self.stream, seq - 1) if seq > 1 else iter(())
        else:
            events = log.read(self.stream, seq + 1)
        for event in events:
            words = (event.type, event.actor, event.door, event.time, bytes(event.raw).decode())
            if any(wanted in word.casefold() for word in words):
                return event.seq
        return None

    def point(self, moment: str) -> int:
        """Give the event that a moment means; raises what `merlin_es.moments` does."""
        return self._past.point(self.stream, moment).seq

    def refresh(self) -> int:
        """See how far the log goes now."""
        self.length = self._past.log.head(self.stream).seq
        return self.length

    def _stretch(self, number: int) -> _Stretch:
        with self._lock:
            known = self._stretches.pop(number, None)
            first = number * self._every + 1
            last = min(self.length, first + self._every - 1)
            if known is None or known.first + len(known.events) - 1 < last:
                known = self._read(first, last)
            self._stretches[number] = known
            while len(self._stretches) > STRETCHES_MAX:
                self._stretches.pop(next(iter(self._stretches)))
            return known

    def _trail(self, stretch: _Stretch) -> Trail:
        """Give what was passed before a stretch; where nobody has gone that way yet, of the stretches before it."""
        number = (stretch.first - 1) // self._every
        if number not in self._trails:
            trail, begin = Trail(), max(1, stretch.first - LOOK_BACK_MAX)
            for event in self._past.log.read(self.stream, begin):
                if event.seq >= stretch.first:
                    break
                trail.note(event)
            self._trails[number] = trail
        return self._trails[number].copy()

    def _read(self, first: int, last: int) -> _Stretch:
        begin = self._begins.get((first - 1) // self._every) or self._past.at(self.stream, first - 1)
        self._begins[(first - 1) // self._every] = begin
        events, stands = [], [begin]
        for event, stand in self._past.snapshots.go_on(self.stream, begin, last):
            events.append(event)
            stands.append(stand)
        return _Stretch(first, events, stands)
