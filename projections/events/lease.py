"""What can happen to the resources: to keys, to those who wait for them, and to those who hold them?

All of it is one stream, so that a grant over several keys, or a release and the grant to the next in line, is one
append. They are facts as `fact` has them, since whoever asks for a lease waits for this.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field

from projections.events.fact import Fact, FactCodec, Repaired
from projections.lease_state import Liveness, Pool, Process, Tick, Waiter

Evidence = Literal["ttl", "process_gone", "waiter_gone", "max_duration"]
"""What shows that a holder is dead."""


class ResourceDeclared(Fact, frozen=True, kw_only=True):
    """Somebody says what a key is, which may have been there before. No lease of it lasts beyond `max_duration_s`."""

    type: ClassVar[str] = "resource.declared"
    key: str
    labels: dict[str, str] = field(default_factory=dict)
    description: str = ""
    max_duration_s: float | None = None


class ResourceDraining(Fact, frozen=True, kw_only=True):
    """Nobody is to get the key any more for now; who holds it keeps it."""

    type: ClassVar[str] = "resource.draining"
    key: str
    reason: str


class ResourceEnabled(Fact, frozen=True, kw_only=True):
    """The key can be had again."""

    type: ClassVar[str] = "resource.enabled"
    key: str
    reason: str = ""


class ResourceRetired(Fact, frozen=True, kw_only=True):
    """Nobody will get the key again; who holds it keeps it."""

    type: ClassVar[str] = "resource.retired"
    key: str
    reason: str


class ClaimQueued(Fact, frozen=True, kw_only=True):
    """Somebody wants all of `keys`, or any of a `pool`, and stands in line, be it for no time at all.

    `waiter` shows that it still waits, from `tick` on; without one it waits as long as its run. `spec` is the digest
    (SHA-256) of everything that was asked for under `idempotency_key`.
    """

    type: ClassVar[str] = "claim.queued"
    claim_id: str
    owner: str
    keys: tuple[str, ...] = ()
    pool: Pool | None = None
    on_behalf_of: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    liveness: Liveness = field(default_factory=Liveness)
    waiter: Waiter | None = None
    tick: Tick
    idempotency_key: str | None = None
    spec: str = ""


class ClaimRenewed(Fact, frozen=True, kw_only=True):
    """Who waits is still there."""

    type: ClassVar[str] = "claim.renewed"
    claim_id: str
    tick: Tick


class ClaimCancelled(Fact, frozen=True, kw_only=True):
    """Who waited no longer wants to, or can never get what it wanted, or was sent away."""

    type: ClassVar[str] = "claim.cancelled"
    claim_id: str
    by: str
    reason: str


class ClaimAbandoned(Fact, frozen=True, kw_only=True):
    """Who waited is gone; `evidence` says how that was seen."""

    type: ClassVar[str] = "claim.abandoned"
    claim_id: str
    evidence: Literal["ttl", "process_gone"]
    silent_s: float | None = None


class ClaimTimedOut(Fact, frozen=True, kw_only=True):
    """Who waited has waited for as long as it wanted to."""

    type: ClassVar[str] = "claim.timed_out"
    claim_id: str
    waited_s: float


class LeaseGranted(Fact, frozen=True, kw_only=True):
    """A key of a claim is held from here on: `place` of `of` in the same append, all of them `keys`.

    `fence` is larger than any before of this key. `handed_over` says that somebody else's append granted it to one who
    waits. `tick` begins its time to live; `until` is the end of that, for people.
    """

    type: ClassVar[str] = "lease.granted"
    lease_id: str
    key: str
    fence: int
    claim_id: str
    owner: str
    keys: tuple[str, ...]
    place: int = 1
    of: int = 1
    tick: Tick
    until: str | None = None
    handed_over: bool = False


class LeaseAccepted(Fact, frozen=True, kw_only=True):
    """Who waited has the lease in its hands; until then its end as a waiter was the end of the lease."""

    type: ClassVar[str] = "lease.accepted"
    lease_id: str


class LeaseRenewed(Fact, frozen=True, kw_only=True):
    """The holder is alive: the time to live begins again at `tick`."""

    type: ClassVar[str] = "lease.renewed"
    lease_id: str
    tick: Tick
    until: str | None = None


class LeaseReleased(Fact, frozen=True, kw_only=True):
    """The holder gave it back, or what it was for has ended."""

    type: ClassVar[str] = "lease.released"
    lease_id: str
    cause: Literal["asked", "run_ended"] = "asked"
    by: str
    message: str = ""


class LeaseExpired(Fact, frozen=True, kw_only=True):
    """Nothing shows any more that the holder is alive; `evidence` says what was seen, and by whose clock."""

    type: ClassVar[str] = "lease.expired"
    lease_id: str
    evidence: Evidence
    silent_s: float | None = None
    limit_s: float | None = None
    tick: Tick
    process: Process | None = None


class LeaseRevoked(Fact, frozen=True, kw_only=True):
    """Somebody took it away from its holder, and said why."""

    type: ClassVar[str] = "lease.revoked"
    lease_id: str
    by: str
    reason: str


class LeaseTransferred(Fact, frozen=True, kw_only=True):
    """Somebody else holds it from here on, with a fence of its own."""

    type: ClassVar[str] = "lease.transferred"
    lease_id: str
    owner: str
    on_behalf_of: str | None = None
    fence: int
    by: str
    reason: str = ""
    tick: Tick
    until: str | None = None


class ResourcesLogRepaired(Repaired, frozen=True, kw_only=True):
    """See Repaired."""


LeaseEvent = (
    ResourceDeclared
    | ResourceDraining
    | ResourceEnabled
    | ResourceRetired
    | ClaimQueued
    | ClaimRenewed
    | ClaimCancelled
    | ClaimAbandoned
    | ClaimTimedOut
    | LeaseGranted
    | LeaseAccepted
    | LeaseRenewed
    | LeaseReleased
    | LeaseExpired
    | LeaseRevoked
    | LeaseTransferred
    | ResourcesLogRepaired
)

LEASE_EVENTS: FactCodec[LeaseEvent] = FactCodec(LeaseEvent)
