"""What does whoever decides about leases see of the world?"""

from __future__ import annotations

from typing import Protocol

from projections.lease_state import Process, Tick


class Observer(Protocol):
    """One look at clocks, processes and runs. What it does not know ends nothing."""

    @property
    def tick(self) -> Tick:
        """This moment, by the clock of this boot that nobody can set."""
        ...

    def is_gone(self, process: Process) -> bool:
        """Tell whether a process surely does not run any more; False for one of another boot."""
        ...

    def unchanged_s(self, name: str, mark: str) -> float:
        """Give for how many seconds this boot of this host has seen `name` with that very mark; 0 at first sight."""
        ...

    def run_end(self, run_id: str) -> str | None:
        """Say how a run has ended, or that it has been lost for too long; None while it goes on, or when unknown."""
        ...
