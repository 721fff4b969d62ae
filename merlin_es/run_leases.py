"""How does a run come to hold its leases before it is submitted, and keep them until it has ended?

Two streams take part, and nobody can append to both at once. So the wish is recorded first, `run.waiting`; its claim
has an id that follows from it, and is put in line once; what is granted is looked for, then bound. Whoever crashed
between two of these is followed by the next pass, which does the same again. At the end it is the other way round: that
the run has ended is on its own stream, and whoever looks at the resources next gives back what it held.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final

import eventlog
from merlin_es.deciders import run
from merlin_es.errors import Unsatisfiable
from merlin_es.failpoints import reach
from merlin_es.ledger import Ledger
from projections.events.run import RunEvent
from projections.lease_state import Liveness, Resources
from projections.lease_wish import Bound
from projections.run_record import RunRecord, Tenancy

if TYPE_CHECKING:
    from merlin_es.deciders import lease
    from merlin_es.resources import Leases

Decide = Callable[[RunRecord], tuple[RunEvent, ...]]
AGAIN: Final = "it no longer holds what it was granted"


class RunLeases:
    """The leases of runs; `open_leases` opens the resources, once a run has to do with them."""

    def __init__(self, ledger: Ledger, open_leases: Callable[[], Leases]) -> None:
        self.ledger = ledger
        self._open_leases = open_leases

    @cached_property
    def leases(self) -> Leases:
        """The resources, which runs hold too."""
        return self._open_leases()

    def advance(self, record: RunRecord) -> RunRecord:
        """Take the next step of a run that has to do with leases; gives the run as it is then."""
        tenancy = record.tenancy
        if tenancy is None or record.is_terminal:
            return record
        if record.status == "waiting":
            return self._wait(record, tenancy)
        if tenancy.leases and not self._are_held(tenancy):
            return self._change(record, lambda known: _without(known, AGAIN))
        return record

    def end(self, record: RunRecord) -> None:
        """Give back at once what an ended run has held, and leave the line."""
        if record.tenancy is not None and record.is_terminal:
            self.leases.world.forget(record.run_id)
            self.leases.reap()

    def _wait(self, record: RunRecord, tenancy: Tenancy) -> RunRecord:
        state, _ = self.leases.turns.look()
        if tenancy.claim_id in state.claims:
            return record
        reach("claim.before")
        try:
            state = self._queue(record, tenancy)
        except Unsatisfiable as error:
            message = str(error)
            return self._change(record, lambda known: run.block("lease", message, known))
        except eventlog.KeyReused:  # It was in line, and even was granted perhaps, and is not any more.
            return self._change(record, lambda known: run.wait_again(AGAIN, known))
        reach("claim.after")
        held = tuple(
            Bound(each.lease_id, each.key, each.fence)
            for each in state.leases.values()
            if each.claim_id == tenancy.claim_id
        )
        if not held:
            return record
        bound = self._change(record, lambda known: run.bind(tenancy.claim_id, held, known))
        reach("bind.after")
        return bound

    def _queue(self, record: RunRecord, tenancy: Tenancy) -> Resources:
        """Have the claim of a run in line, once for ever."""
        from merlin_es.deciders import lease
        from merlin_es.lease_commands import Reserve

        wish = Reserve(
            claim_id=tenancy.claim_id,
            owner=tenancy.wish.owner,
            at=self.leases.world.host.now(),
            keys=tenancy.wish.keys,
            pool=tenancy.wish.pool,
            priority=tenancy.wish.priority,
            liveness=Liveness(run_id=record.run_id),
            waits=True,
        )

        def decide(state: Resources) -> lease.Events:
            return lease.reserve(wish, self.leases.actor, state, self.leases.world.look())

        return self.leases.take(decide, key=f"run:{tenancy.claim_id}").state

    def _are_held(self, tenancy: Tenancy) -> bool:
        state, _ = self.leases.turns.look()
        held = (state.leases.get(each.lease_id) for each in tenancy.leases)
        return all(lease and lease.fence == each.fence for lease, each in zip(held, tenancy.leases, strict=True))

    def _change(self, record: RunRecord, decide: Decide) -> RunRecord:
        return self.ledger.change_run(record.run_id, lambda known: decide(known or record))


def _without(record: RunRecord, reason: str) -> tuple[RunEvent, ...]:
    """Have a run that has lost its leases wait again, or end where Ray has it already."""
    return run.wait_again(reason, record) or run.lose_leases(reason, record)
