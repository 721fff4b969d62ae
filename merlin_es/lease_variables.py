"""What finds a command in its environment, that says what it holds?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

LEASE_ID: Final = "MERLIN_LEASE_ID"
LEASE_FENCE: Final = "MERLIN_LEASE_FENCE"
LEASE_KEY: Final = "MERLIN_LEASE_KEY"
_FENCE: Final = re.compile(r"[0-9]{1,18}")


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
        LEASE_ID: ",".join(lease.lease_id for lease in leases),
        LEASE_FENCE: ",".join(str(lease.fence) for lease in leases),
        LEASE_KEY: ",".join(lease.key for lease in leases),
    }


@dataclass(frozen=True, slots=True)
class Told:
    """A lease as the environment tells of it; whether it is still held is for the log of the resources to say."""

    lease_id: str
    key: str
    fence: int


def read(environment: Mapping[str, str]) -> tuple[Told, ...]:
    """Read the variables again; what is no number of a fence tells of no lease."""
    ids, keys, fences = (environment.get(name, "").split(",") for name in (LEASE_ID, LEASE_KEY, LEASE_FENCE))
    told = zip(ids, keys, fences, strict=False)
    return tuple(Told(id_, key, int(fence)) for id_, key, fence in told if id_ and _FENCE.fullmatch(fence))
