"""Is anything held by somebody who is gone, or waited for by nobody?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from merlin_es.counts import counted
from merlin_es.deciders import lease as rules
from merlin_es.doctor.finding import Finding
from merlin_es.ledger import Ledger
from merlin_es.ports import ProcessId
from merlin_es.processes import is_alive
from merlin_es.resources import Leases
from projections.events.lease import ClaimAbandoned, ClaimCancelled, LeaseExpired, LeaseReleased
from projections.lease_state import Lease, Process, Resources, Tick

LONG: Final = timedelta(days=7)
"""A lease that nothing ends but its holder, and that is older than this, may have been forgotten."""


@dataclass(frozen=True)
class Glance:
    """A look at clocks, processes and runs that leaves no trace: what was seen before is not known to it."""

    ledger: Ledger
    tick: Tick

    def is_gone(self, process: Process) -> bool:
        """Tell whether a process of this boot does not run any more."""
        same = process.boot_id == self.tick.boot_id
        return same and not is_alive(ProcessId(process.pid, process.started, process.boot_id))

    def unchanged_s(self, name: str, mark: str) -> float:  # noqa: ARG002  the port's signature
        """Give 0: this is the first sight."""
        return 0.0

    def run_end(self, run_id: str) -> str | None:
        """Say how a run has ended."""
        record = self.ledger.publisher.run(run_id)
        return record.status if record and record.is_terminal else None


def leases(ledger: Ledger, leases: Leases, now: str, *, fix: bool) -> Iterator[Finding]:
    """Name who holds or waits and is seen to be gone; with `fix`, put it away, as any verb that looks there does."""
    state, _ = leases.turns.look()
    stale = rules.reap(now, leases.actor, state, Glance(ledger, leases.world.look().tick))
    found = [what for event in stale if (what := _told(event, state))]
    if fix and found:
        leases.reap()
    for what in found:
        yield Finding("leases", "warning", what, "merlin ray resources list", fixed=fix)
    for lease in state.leases.values():
        if not lease.alive.ends_by_itself and _age(lease, now) > LONG:
            what = f"{rules.describe(lease)}, and nothing but its release ends that"
            mend = f"merlin ray resources release {lease.lease_id} --owner {lease.owner}"
            yield Finding("leases", "note", what, mend)
    if not found:
        yield Finding(
            "leases", "fine", f"{counted(len(state.leases), 'is', 'are')} held, and no holder is seen to be gone"
        )


def _told(event: object, state: Resources) -> str:
    match event:
        case LeaseExpired(lease_id=lease_id, evidence=evidence):
            return f"{rules.describe(state.leases[lease_id])}: {evidence}" if lease_id in state.leases else ""
        case LeaseReleased(lease_id=lease_id, message=message):
            return f"{rules.describe(state.leases[lease_id])}: {message}" if lease_id in state.leases else ""
        case ClaimAbandoned(claim_id=claim_id) | ClaimCancelled(claim_id=claim_id):
            return f"{claim_id} waits for nobody any more"
        case _:
            return ""


def _age(lease: Lease, now: str) -> timedelta:
    return datetime.fromisoformat(now) - datetime.fromisoformat(lease.created_at)
