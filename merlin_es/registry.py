"""How does the stream `ledger` get the head of every run that has ended?

Whoever appends the end of a run notes its head right after. Who dies in between leaves a run that the next pass notes:
the index knows which runs it has not been told of. So a run is never in the way of its note, nor the note in that of
the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

import eventlog
from merlin_es import run_ids
from projections import registry
from projections.events.ledger import HeadNoted
from projections.index import Index
from projections.layout import LEDGER

NOTES_MAX = 1000
"""How many runs one pass notes at most; after the index was made anew there may be many to compare."""


class Registry(Struct, frozen=True):
    """The heads of the runs that have ended."""

    log: eventlog.FileLog
    index: Index

    def note(self, run_id: str, head: eventlog.Head, status: str) -> None:
        """Note that a run has ended there; twice is once. What cannot be noted now is noted by the next pass."""
        with suppress(eventlog.EventLogError):
            run_ids.ledger_id(self.log)  # Says which ledger this is, and so comes first.
            self.log.append(LEDGER, [_note(run_id, head, status)], key=_key(run_id, head))

    def note_missing(self) -> int:
        """Note the runs that somebody died over, or that nobody has told the index of; gives how many were new."""
        runs = self.index.to_note(NOTES_MAX)
        if not runs:
            return 0
        run_ids.ledger_id(self.log)
        appends = [
            eventlog.Append((_note(run_id, head, status),), key=_key(run_id, head)) for run_id, status, head in runs
        ]
        results: list[eventlog.Appended | eventlog.EventLogError] = []
        while len(results) < len(appends):
            results.extend(self.log.commit(LEDGER, appends[len(results) :]))
        # Where another content stands already, another log was there under that name: that is for `verify` to tell.
        settled = (eventlog.Appended, eventlog.KeyReused)
        self.index.noted(
            (run_id, head.seq)
            for (run_id, _, head), result in zip(runs, results, strict=True)
            if isinstance(result, settled)
        )
        return sum(isinstance(result, eventlog.Appended) and not result.repeated for result in results)

    def heads(self) -> dict[str, Sequence[registry.Noted]]:
        """Give what was noted of each run."""
        return dict(registry.fold(self.log.read(LEDGER)))


def _note(run_id: str, head: eventlog.Head, status: str) -> eventlog.NewEvent:
    event = HeadNoted(run_id=run_id, seq=head.seq, h=head.h, status=status)
    return event.recorded_by("merlin", "ledger", corr=run_id)


def _key(run_id: str, head: eventlog.Head) -> str:
    return f"head:{run_id}:{head.seq}"
