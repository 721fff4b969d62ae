"""What can happen to the resources: to keys, to those who wait for them, and to those who hold them?

All of it is one stream, so that a grant over several keys, or a release and the grant to the next in line, is one
append.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from projections.events.base import Codec, DomainEvent, Repaired
from projections.lease_state import Liveness, Pool, Process, Tick, Waiter


class ResourceDeclared(DomainEvent):
    """Somebody says what a key is, which may have been there before. No lease of it lasts beyond `max_duration_s`."""

    type: Literal["resource.declared"] = "resource.declared"
    key: str
    labels: dict[str, str] = Field(default_factory=dict)
    description: str = ""
    max_duration_s: float | None = None


class ResourceDraining(DomainEvent):
    """Nobody is to get the key any more for now; who holds it keeps it."""

    type: Literal["resource.draining"] = "resource.draining"
    key: str
    reason: str


class ResourceEnabled(DomainEvent):
    """The key can be had again."""

    type: Literal["resource.enabled"] = "resource.enabled"
    key: str
    reason: str = ""


class ResourceRetired(DomainEvent):
    """Nobody will get the key again; who holds it keeps it."""

    type: Literal["resource.retired"] = "resource.retired"
    key: str
    reason: str


class ClaimQueued(DomainEvent):
    """Somebody wants all of `keys`, or any of a `pool`, and stands in line, be it for no time at all.

    `waiter` shows that it still waits, from `tick` on; without one it waits as long as its run. `spec` is the digest
    (SHA-256) of everything that was asked for under `idempotency_key`.
    """

    type: Literal["claim.queued"] = "claim.queued"
    claim_id: str
    owner: str
    keys: tuple[str, ...] = ()
    pool: Pool | None = None
    on_behalf_of: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    priority: int = 0
    liveness: Liveness = Field(default_factory=Liveness)
    waiter: Waiter | None = None
    tick: Tick
    idempotency_key: str | None = None
    spec: str = ""


class ClaimRenewed(DomainEvent):
    """Who waits is still there."""

    type: Literal["claim.renewed"] = "claim.renewed"
    claim_id: str
    tick: Tick


class ClaimCancelled(DomainEvent):
    """Who waited no longer wants to, or can never get what it wanted, or was sent away."""

    type: Literal["claim.cancelled"] = "claim.cancelled"
    claim_id: str
    by: str
    reason: str


class ClaimAbandoned(DomainEvent):
    """Who waited is gone; `evidence` says how that was seen."""

    type: Literal["claim.abandoned"] = "claim.abandoned"
    claim_id: str
    evidence: Literal["ttl", "process_gone"]
    silent_s: float | None = None


class ClaimTimedOut(DomainEvent):
    """Who waited has waited for as long as it wanted to."""

    type: Literal["claim.timed_out"] = "claim.timed_out"
    claim_id: str
    waited_s: float


class LeaseGranted(DomainEvent):
    """A key of a claim is held from here on: `place` of `of` in the same append, all of them `keys`.

    `fence` is larger than any before of this key. `handed_over` says that somebody else's append granted it to one who
    waits. `tick` begins its time to live; `until` is the end of that, for people.
    """

    type: Literal["lease.granted"] = "lease.granted"
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


class LeaseAccepted(DomainEvent):
    """Who waited has the lease in its hands; until then its end as a waiter was the end of the lease."""

    type: Literal["lease.accepted"] = "lease.accepted"
    lease_id: str


class LeaseRenewed(DomainEvent):
    """The holder is alive: the time to live begins again at `tick`."""

    type: Literal["lease.renewed"] = "lease.renewed"
    lease_id: str
    tick: Tick
    until: str | None = None


class LeaseReleased(DomainEvent):
    """The holder gave it back, or what it was for has ended."""

    type: Literal["lease.released"] = "lease.released"
    lease_id: str
    cause: Literal["asked", "run_ended"] = "asked"
    by: str
    message: str = ""


class LeaseExpired(DomainEvent):
    """Nothing shows any more that the holder is alive; `evidence` says what was seen, and by whose clock."""

    type: Literal["lease.expired"] = "lease.expired"
    lease_id: str
    evidence: Literal["ttl", "process_gone", "waiter_gone", "max_duration"]
    silent_s: float | None = None
    limit_s: float | None = None
    tick: Tick
    process: Process | None = None


class LeaseRevoked(DomainEvent):
    """Somebody took it away from its holder, and said why."""

    type: Literal["lease.revoked"] = "lease.revoked"
    lease_id: str
    by: str
    reason: str


class LeaseTransferred(DomainEvent):
    """Somebody else holds it from here on, with a fence of its own."""

    type: Literal["lease.transferred"] = "lease.transferred"
    lease_id: str
    owner: str
    on_behalf_of: str | None = None
    fence: int
    by: str
    reason: str = ""
    tick: Tick
    until: str | None = None


class ResourcesLogRepaired(Repaired):
    """See Repaired."""

    type: Literal["log.repaired"] = "log.repaired"


LeaseEvent = Annotated[
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
    | ResourcesLogRepaired,
    Field(discriminator="type"),
]

LEASE_EVENTS: Codec[LeaseEvent] = Codec(LeaseEvent)
