"""What does the process that executes have: which secrets, and which device under a lease?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from merlin_es.targetgen.ports import HeldLease

LEASE_ID, LEASE_FENCE, LEASE_KEY = "MERLIN_LEASE_ID", "MERLIN_LEASE_FENCE", "MERLIN_LEASE_KEY"


@dataclass(frozen=True)
class Surroundings:
    """The environment variables of a process, and what they say. No value of a secret ever leaves it."""

    variables: Mapping[str, str]

    def has(self, name: str) -> bool:
        """Tell whether a variable is set and not empty."""
        return bool(self.variables.get(name))

    def held(self, key: str | None) -> HeldLease | None:
        """Give the lease that whoever started this process holds for it; None when it is on another key."""
        lease_id, fence = self.variables.get(LEASE_ID), self.variables.get(LEASE_FENCE)
        if not lease_id or not fence:
            return None
        on = self.variables.get(LEASE_KEY)
        return None if key and on and key != on else HeldLease(lease_id, fence)
