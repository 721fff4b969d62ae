"""In which order did it all happen, where several streams are looked at together?

What led to an event comes before it: each stream keeps its own order, and an event whose `cause` lies in another stream
waits for that. Times only decide where causes do not, so a clock that jumps may misplace, and never turns around.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct, field

from eventlog.errors import Damaged, NotReadable
from eventlog.record import Event

AHEAD_MAX: Final = 4096
"""How many events are read ahead, of all streams together; at least one of each."""

Read: TypeAlias = Callable[[str, int], Iterator[Event]]
Wants: TypeAlias = Callable[[Event], bool]


class Place(NamedTuple):
    """An event of some stream, as a cause names it."""

    stream: str
    seq: int

    def __str__(self) -> str:
        return f"{self.stream}#{self.seq}"


def cause_of(event: Event) -> Place | None:
    """Give the event that is recorded as the cause of this one."""
    if event.cause is None:
        return None
    stream, mark, seq = str(event.cause).rpartition("#")
    return Place(stream if mark else event.stream, int(seq)) if seq.isascii() and seq.isdecimal() else None


class Concerns:
    """Tells which events of the resources concern a run: its claims, and the leases that come of them.

    It has to see all events in order; it wants those from a time on.
    """

    def __init__(self, run_id: str, since: str = "") -> None:
        self._run_id = run_id
        self._since = since
        self._claims: set[object] = set()
        self._leases: set[object] = set()

    def __call__(self, event: Event) -> bool:
        """Tell whether an event is one of them."""
        cause = cause_of(event)
        is_named = event.corr == self._run_id or (cause is not None and cause.stream == f"run/{self._run_id}")
        if not is_named and not event.type.startswith(("claim.", "lease.")):
            return False
        data = event.data
        match data:
            case {"liveness": {"run_id": self._run_id}, "claim_id": claim_id}:
                self._claims.add(claim_id)
            case {"lease_id": lease_id, "claim_id": claim_id} if claim_id in self._claims:
                self._leases.add(lease_id)
        is_ours = data.get("claim_id") in self._claims or data.get("lease_id") in self._leases
        return (is_named or is_ours) and event.time >= self._since


class _Cursor(Struct):
    """Where the reader of one stream stands: `passed` events lie behind it, `ahead` has the next ones."""

    stream: str
    number: int
    wants: Wants
    passed: int
    ahead: deque[Event] = field(default_factory=deque)

    def key(self) -> tuple[str, int]:
        """Say when its turn is."""
        return self.ahead[0].time, self.number


_Turn: TypeAlias = tuple[str, int, _Cursor]


class Timeline:
    """Streams that are read together, with memory for the streams, not for their events.

    `sick` says of which streams there is more that cannot be read, and why.
    """

    def __init__(self, read: Read, *, ahead_max: int = AHEAD_MAX) -> None:
        self._read = read
        self._ahead_max = ahead_max
        self._cursors: dict[str, _Cursor] = {}
        self.sick: dict[str, str] = {}

    def add(self, stream: str, first: int = 1, wants: Wants = lambda _event: True) -> None:
        """Look at `stream` too, from event `first` on; a stream that is there already stays as it is."""
        if stream not in self._cursors:
            self._cursors[stream] = _Cursor(stream, len(self._cursors), wants, first - 1)

    def __contains__(self, stream: str) -> bool:
        return stream in self._cursors

    def streams(self) -> tuple[str, ...]:
        """Give the streams that are looked at."""
        return tuple(self._cursors)

    def news(self, streams: Collection[str] | None = None) -> Iterator[Event]:
        """Yield all that is there now and was not given before; only of `streams`, where the others have nothing."""
        looked_at = self._cursors.values() if streams is None else [self._cursors[stream] for stream in streams]
        turns = [(*cursor.key(), cursor) for cursor in looked_at if self._fill(cursor)]
        heapq.heapify(turns)
        waiting: list[tuple[Place, _Cursor]] = []
        while turns or waiting:
            if not turns:  # They wait for each other, or for what is not there: go on with the oldest.
                waiting.sort(key=lambda pair: pair[1].key())
                _, cursor = waiting.pop(0)
            else:
                *_, cursor = heapq.heappop(turns)
                if cause := self._missing_cause(cursor.ahead[0], turns):
                    waiting.append((cause, cursor))
                    continue
            event = cursor.ahead.popleft()
            cursor.passed = event.seq
            yield event
            if self._fill(cursor):
                heapq.heappush(turns, (*cursor.key(), cursor))
            if waiting:
                waiting = self._still_waiting(waiting, turns)

    def _still_waiting(self, waiting: list[tuple[Place, _Cursor]], turns: list[_Turn]) -> list[tuple[Place, _Cursor]]:
        still = []
        for cause, cursor in waiting:
            if self._missing_cause(cursor.ahead[0], turns):
                still.append((cause, cursor))
            else:
                heapq.heappush(turns, (*cursor.key(), cursor))
        return still

    def _missing_cause(self, event: Event, turns: list[_Turn]) -> Place | None:
        """Give the cause of an event, if it is one that is still to come; it may have been recorded since we looked."""
        cause = cause_of(event)
        if cause is None or cause.stream == event.stream or cause.stream not in self._cursors:
            return None
        there = self._cursors[cause.stream]
        if there.passed >= cause.seq:
            return None
        if not there.ahead and self._fill(there):
            heapq.heappush(turns, (*there.key(), there))
        return cause if there.ahead else None

    def _fill(self, cursor: _Cursor) -> bool:
        """See that the next wanted event of a stream is at hand; tell whether there is one."""
        while not cursor.ahead:
            seen = cursor.passed
            try:
                for event in islice(self._read(cursor.stream, seen + 1), self._share()):
                    seen = event.seq
                    if cursor.wants(event):
                        cursor.ahead.append(event)
            except (Damaged, NotReadable) as error:
                self.sick[cursor.stream] = str(error)
            if not cursor.ahead:
                if seen == cursor.passed:
                    return False
                cursor.passed = seen
        return True

    def _share(self) -> int:
        return max(1, self._ahead_max // max(1, len(self._cursors)))
