"""What have others asked of whoever decides just now, and how is each of them told what came of it?

Where a key goes from hand to hand, the slow part is to wake a process whose code has gone cold and have it decide. So
whoever has decided stays for a moment (see Turns) and decides for the others too: they only ask, and listen at their
bells. A bell says which leases it rings for, so who hears it need not read what has become of all the others.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from merlin_es.asking import Asking, GiveBack, Wish
from merlin_es.bells import Bells
from merlin_es.deciders import lease as rules
from merlin_es.drafts import Asked, Decide, Outcome
from merlin_es.observer import World
from projections.events.lease import (
    ClaimAbandoned,
    ClaimCancelled,
    ClaimQueued,
    ClaimTimedOut,
    LeaseGranted,
)
from projections.lease_state import Lease, Resources

SPIN_S: Final = 0.0005
"""For how long who stays looks again and again: to sleep and be woken takes longer than most take to give back."""
_LOOK: Final = b"\n"
"""What a bell says that only tells to look."""


class Ring(msgspec.Struct, frozen=True, array_like=True):
    """What a bell says: which leases it is about, and whether somebody waits who will write what there is to write."""

    leases: tuple[Lease, ...] = ()
    is_watched: bool = False


_NOTHING: Final = Ring()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Ring).decode


class Desk(msgspec.Struct):
    """Where the processes of one state root ask each other; see merlin_es.turns.Others."""

    world: World
    bells: Bells
    asking: Asking

    def asked(self) -> list[Asked]:
        """Take what others have asked for: who comes to stand in line is before who gives back, and so may be next."""
        return self.wishes() + self.returns()

    def wishes(self) -> list[Asked]:
        """Take only what has time: who wants to stand in line."""
        return [Asked(wish.actor, wish.door, self._claim(wish)) for wish in self.asking.wishes.empty()]

    def returns(self) -> list[Asked]:
        """Take only what has none: who gives something back."""
        return [Asked(each.caller.by, each.door, self._return(each), each) for each in self.asking.returns.empty()]

    def is_asked(self) -> bool:
        """Tell whether somebody has asked for anything."""
        return self.asking.returns.has_some(0) or self.asking.wishes.has_some(0)

    def is_given_back(self, limit_s: float) -> bool:
        """Wait until somebody gives something back; False when nobody does within so many seconds."""
        end_s = time.monotonic() + min(SPIN_S, limit_s)
        while not (is_given := self.asking.returns.has_some(0)) and time.monotonic() < end_s:
            pass
        return is_given or self.asking.returns.has_some(limit_s)

    def tell(self, outcome: Outcome) -> bool:
        """Ring where somebody waits for what has been decided; tell whether a key has gone to somebody in line."""
        hands_over = False
        for bell, event in _ended_waits(outcome):
            granted = isinstance(event, LeaseGranted)
            hands_over = hands_over or granted
            leases = outcome.state.leases.values() if granted else ()
            self.bells.ring(bell, _said(Ring(tuple(each for each in leases if each.claim_id == event.claim_id))))
        for asked in outcome.asked:
            if asked.gives is not None:
                lease = outcome.touched.get(asked.gives.lease_id)
                self.bells.ring(asked.gives.bell, _said(Ring(lease[:1] if lease else (), outcome.state.is_watched)))
        return hands_over

    def _claim(self, wish: Wish) -> Decide:
        def decide(state: Resources) -> rules.Events:
            command = replace(wish.command, at=self.world.host.now())
            return rules.reserve(command, wish.actor, state, self.world.look(), for_another=True)

        return decide

    def _return(self, each: GiveBack) -> Decide:
        def decide(state: Resources) -> rules.Events:
            caller = replace(each.caller, at=self.world.host.now())
            return rules.release(each.lease_id, caller, state, self.world.look())

        return decide


def heard(rung: bytes) -> Ring:
    """Give what a bell has been rung with last; nothing where it only says to look."""
    with suppress(msgspec.MsgspecError):
        return _decode(rung[rung.rfind(b"\n", 0, -1) + 1 :])
    return _NOTHING


def _said(ring: Ring) -> bytes:
    line = _encode(ring) + b"\n"
    return line if len(line) <= select.PIPE_BUF else _LOOK  # It could be torn.


def _ended_waits(
    outcome: Outcome,
) -> Iterator[tuple[str, LeaseGranted | ClaimCancelled | ClaimAbandoned | ClaimTimedOut]]:
    """Give what ends a wait, and its bell; also of those who have only asked just now."""
    asked = {event.claim_id: event.waiter for event in outcome.others if isinstance(event, ClaimQueued)}
    for event in (*outcome.others, *outcome.own):
        if isinstance(event, LeaseGranted | ClaimCancelled | ClaimAbandoned | ClaimTimedOut):
            claim = outcome.before.claims.get(event.claim_id)
            waiter = claim.waiter if claim else asked.get(event.claim_id)
            if waiter is not None and waiter.bell and getattr(event, "place", 1) == 1:
                yield waiter.bell, event
