"""What does a run want to hold, and what does it hold?

Runs record it. Apart from `lease_state`, since to make a dataclass takes longer than to make all the structs there:
whoever asks for a lease does not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from projections.lease_state import Pool


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """What a run wants to hold while it goes on: all of `keys`, or any of a `pool`."""

    owner: str
    keys: tuple[str, ...] = ()
    pool: Pool | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Bound:
    """A lease that a run holds."""

    lease_id: str
    key: str
    fence: int
