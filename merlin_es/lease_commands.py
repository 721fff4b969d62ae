"""What can somebody ask of the resources? Apart from the other commands, and light: each turn makes some of them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from projections.lease_state import Liveness, Pool, Waiter


class Caller(Struct, frozen=True):
    """Who asks something of a lease: `by` is the actor; a fence or the name of the owner shows that it is the holder.

    With `force`, and a `reason`, it need not be.
    """

    by: str
    at: str
    owner: str | None = None
    fence: int | None = None
    force: bool = False
    reason: str = ""


class Reserve(Struct, frozen=True):
    """Have all of `keys`, or any of `pool`; see projections.events.lease.ClaimQueued for the rest. `at` is the time.

    Unless it `waits`, it is refused when it cannot be had at once.
    """

    claim_id: str
    owner: str
    at: str
    keys: tuple[str, ...] = ()
    pool: Pool | None = None
    on_behalf_of: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    liveness: Liveness = field(default_factory=Liveness)
    waits: bool = False
    waiter: Waiter | None = None
    idempotency_key: str | None = None
    spec: str = ""


class Declare(Struct, frozen=True):
    """Say what a key is."""

    key: str
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    max_duration_s: float | None = None
