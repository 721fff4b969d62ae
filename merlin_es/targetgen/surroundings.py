"""What does the process that executes have: which secrets, and which device under a lease?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from merlin_es.lease_variables import read
from merlin_es.targetgen.ports import HeldLease


@dataclass(frozen=True)
class Surroundings:
    """The environment variables of a process, and what they say. No value of a secret ever leaves it.

    `is_held` asks whoever keeps the leases whether one still belongs to whoever has its fence.
    """

    variables: Mapping[str, str]
    is_held: Callable[[str, int], bool]

    def has(self, name: str) -> bool:
        """Tell whether a variable is set and not empty."""
        return bool(self.variables.get(name))

    def held(self, key: str | None) -> HeldLease | None:
        """Give the lease that whoever started this process holds for it now; None when it is on another key."""
        for lease in read(self.variables):
            if key in (None, lease.key) and self.is_held(lease.lease_id, lease.fence):
                return HeldLease(lease.lease_id, str(lease.fence))
        return None
