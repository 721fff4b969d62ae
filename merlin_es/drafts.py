"""What is to be in one append, decided one after the other, and what did that append come to?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct, field

from eventlog import Head
from merlin_es.asking import GiveBack
from merlin_es.errors import MerlinError
from projections.events.lease import LeaseEvent
from projections.events.recorded import Recorded
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import Lease, Resources

DRAFTED: Final = 1 << 60
"""Behind every seq of a log, and before what a decider drafts: where what was asked will stand."""
_NOW: Final = "9999-12-31T23:59:59.999999Z"

Decide = Callable[[Resources], Sequence[LeaseEvent]]


class Asked(Struct, frozen=True):
    """What somebody wants to have decided who does not take a turn itself, and what it gives back, if it does that."""

    actor: str
    door: str
    decide: Decide
    gives: GiveBack | None = None


class Outcome(Struct, frozen=True):
    """What one append came to: the state `before` and after it, and what was said by `others` and by its `own` process.

    `touched` has the leases that it was about, each with its last head. Of `asked`, some may have been refused.
    """

    before: Resources
    state: Resources
    asked: Sequence[Asked] = ()
    others: tuple[LeaseEvent, ...] = ()
    own: tuple[LeaseEvent, ...] = ()
    touched: Mapping[str, tuple[Lease, Head]] = field(default_factory=dict)


def nothing(_state: Resources) -> Sequence[LeaseEvent]:
    """Decide nothing: what others have asked is all that there is."""
    return ()


class Draft:
    """What is to be in one append, decided one after the other, each over what the ones before will have changed."""

    def __init__(self, state: Resources, asked: Sequence[Asked] = ()) -> None:
        self.before = state
        self.asked: list[Asked] = []
        self.said: list[tuple[str, str, LeaseEvent]] = []
        self._state = state
        self._folded = 0
        self.ask(asked)

    def ask(self, asked: Sequence[Asked]) -> None:
        """Decide what others have asked; who is refused is told so in a turn of its own."""
        for each in asked:
            self.asked.append(each)
            with suppress(MerlinError):
                self.add(each.actor, each.door, each.decide)

    def add(self, actor: str, door: str, decide: Decide) -> None:
        """Decide one thing more."""
        if decide is nothing:
            return
        for number, (who, _, event) in enumerate(self.said[self._folded :], self._folded + 1):
            self._state = LEASE_PROJECTION.evolve(self._state, Recorded(DRAFTED + number, _NOW, who, "", event))
        self._folded = len(self.said)
        self.said += [(actor, door, event.checked()) for event in decide(self._state)]
