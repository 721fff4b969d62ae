"""How do many threads share the cost of a sync?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from eventlog.errors import EventLogError
from eventlog.log import EventLog, only_result
from eventlog.record import ANY, Append, Appended, Expected, NewEvent


@dataclass(slots=True)
class _Ticket:
    append: Append
    result: Appended | EventLogError | None = None


class Writer:
    """Group commit for one stream: while one thread syncs, what the others want gathers for the next write.

    Each append stays what it is alone: all or none, with its own `expected`, `key` and answer.
    """

    def __init__(self, log: EventLog, stream: str) -> None:
        self._log = log
        self._stream = stream
        self._waiting: list[_Ticket] = []
        self._turn = threading.Lock()

    def append(self, events: Sequence[NewEvent], *, expected: Expected = ANY, key: str | None = None) -> Appended:
        """Record all of `events` or none, durably; see EventLog.append."""
        ticket = _Ticket(Append(tuple(events), expected, key))
        self._waiting.append(ticket)
        while ticket.result is None:
            with self._turn:
                if ticket.result is None:
                    self._commit()
        return only_result([ticket.result])

    def _commit(self) -> None:
        group = self._waiting[:]
        try:
            results: Sequence[Appended | EventLogError] = self._log.commit(self._stream, [t.append for t in group])
        except EventLogError as error:
            results = [error] * len(group)
        del self._waiting[: len(results)]
        for ticket, result in zip(group, results, strict=False):
            ticket.result = result
