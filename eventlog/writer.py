"""How do many threads share the cost of a sync?"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from eventlog.errors import EventLogError
from eventlog.log import EventLog, only_result
from eventlog.record import ANY, Append, Appended, Expected, NewEvent


class _Ticket:
    """What one thread wants, and where it sleeps until it has its answer or is to write for all."""

    def __init__(self, append: Append) -> None:
        self.append = append
        self.result: Appended | EventLogError | None = None
        self.called = threading.Event()


class Writer:
    """Group commit for one stream: while one thread syncs, what the others want gathers for the next write.

    Each append stays what it is alone: all or none, with its own `expected`, `key` and answer. Not to be used on both
    sides of a fork: make a new one in the child.
    """

    def __init__(self, log: EventLog, stream: str) -> None:
        self._log = log
        self._stream = stream
        self._mutex = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._writing = False

    def append(self, events: Sequence[NewEvent], *, expected: Expected = ANY, key: str | None = None) -> Appended:
        """Record all of `events` or none, durably; see EventLog.append."""
        ticket = _Ticket(Append(tuple(events), expected, key))
        with self._mutex:
            self._waiting.append(ticket)
            idle, self._writing = not self._writing, True
        try:
            if not idle:
                ticket.called.wait()
            if ticket.result is None:
                self._write_for_all()
        except BaseException:
            self._leave(ticket)
            raise
        return only_result([ticket.result] if ticket.result else [])

    def _write_for_all(self) -> None:
        """Write what everybody wants by now; who was called to write is the first in the line."""
        with self._mutex:
            group = self._waiting[:]
        try:
            results: Sequence[Appended | EventLogError] = self._log.commit(self._stream, [t.append for t in group])
        except EventLogError as error:
            results = [error] * len(group)
        taken = group[: len(results)]
        with self._mutex:
            self._waiting = [ticket for ticket in self._waiting if ticket not in taken]
            self._hand_on()
        for ticket, result in zip(taken, results, strict=True):
            ticket.result = result
            ticket.called.set()

    def _hand_on(self) -> None:
        """Let the first in the line write, who stays first until that is done."""
        self._writing = bool(self._waiting)
        if self._waiting:
            self._waiting[0].called.set()

    def _leave(self, ticket: _Ticket) -> None:
        """An exception, as from Ctrl-C, ends the wait: let nobody wait for this thread to write."""
        with self._mutex:
            if ticket in self._waiting:
                was_called = self._waiting[0] is ticket
                self._waiting.remove(ticket)
                if was_called:
                    self._hand_on()
