"""What finds a command in its environment, that says what it holds?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Held(Protocol):
    """A lease, of a run or of `hold`."""

    @property
    def lease_id(self) -> str:
        """Its id."""
        ...

    @property
    def key(self) -> str:
        """What it is of."""
        ...

    @property
    def fence(self) -> int:
        """Its fence."""
        ...


def variables(held: Iterable[Held]) -> dict[str, str]:
    """Give the variables; for several leases each value is a list with commas, in one and the same order."""
    leases = list(held)
    return {
        "MERLIN_LEASE_ID": ",".join(lease.lease_id for lease in leases),
        "MERLIN_LEASE_FENCE": ",".join(str(lease.fence) for lease in leases),
        "MERLIN_LEASE_KEY": ",".join(lease.key for lease in leases),
    }
