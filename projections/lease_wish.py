"""What does a run want to hold, and what does it hold?"""

from __future__ import annotations

from msgspec import Struct

from projections.lease_state import Pool


class LeaseWish(Struct, frozen=True):
    """What a run wants to hold while it goes on: all of `keys`, or any of a `pool`."""

    owner: str
    keys: tuple[str, ...] = ()
    pool: Pool | None = None
    priority: int = 0


class Bound(Struct, frozen=True):
    """A lease that a run holds."""

    lease_id: str
    key: str
    fence: int
