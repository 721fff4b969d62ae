"""Which heads did the runs have when they ended? The fold of the stream `ledger`.

The registry holds what a log cannot say of itself: that it was there at all, and how far it went.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from msgspec import Struct

from eventlog import Event, Head
from projections.events.ledger import LEDGER_EVENTS, HeadNoted, LedgerCreated, LedgerLogRepaired


class Noted(Struct, frozen=True):
    """The head that a run had when it had ended as `status`."""

    head: Head
    status: str


def fold(events: Iterable[Event]) -> Mapping[str, tuple[Noted, ...]]:
    """Give what was noted of each run, the oldest first; a log must have all of it."""
    registry: dict[str, tuple[Noted, ...]] = {}
    for recorded in LEDGER_EVENTS.decode(events):
        match recorded.event:
            case HeadNoted(run_id=run_id, seq=seq, h=h, status=status):
                registry[run_id] = (*registry.get(run_id, ()), Noted(Head(seq, h), status))
            case LedgerCreated() | LedgerLogRepaired():
                pass
            case _:
                assert_never(recorded.event)
    return registry
