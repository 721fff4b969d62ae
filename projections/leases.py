"""Who holds which key, who waits for it, and for how long was it what? The fold of the one stream of all resources."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeVar, assert_never

from msgspec.structs import replace

from projections.events.lease import (
    ClaimAbandoned,
    ClaimCancelled,
    ClaimQueued,
    ClaimRenewed,
    ClaimTimedOut,
    LeaseAccepted,
    LeaseEvent,
    LeaseExpired,
    LeaseGranted,
    LeaseReleased,
    LeaseRenewed,
    LeaseRevoked,
    LeaseTransferred,
    ResourceDeclared,
    ResourceDraining,
    ResourceEnabled,
    ResourceRetired,
    ResourcesLogRepaired,
)
from projections.events.recorded import Recorded
from projections.lease_state import (
    NOTHING,
    RECENT_MAX,
    Claim,
    Ending,
    Key,
    KeyStatus,
    Lease,
    Liveness,
    Resources,
)
from projections.line import is_beside, wants

__all__ = ["NOTHING", "Resources", "evolve", "microseconds"]

V = TypeVar("V")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


def evolve(state: Resources, recorded: Recorded[LeaseEvent]) -> Resources:
    """Apply one event. Never refuses: it has already happened."""
    event, time = recorded.event, recorded.time
    if state.touched is not None:
        state = replace(state, touched=None)
    match event:
        case ResourceDeclared():
            return _declared(state, event, time)
        case ResourceDraining(key=key, reason=reason):
            return _in_status(state, key, "DRAINING", reason, time)
        case ResourceEnabled(key=key):
            return _in_status(state, key, "ENABLED", None, time)
        case ResourceRetired(key=key, reason=reason):
            return _in_status(state, key, "RETIRED", reason, time)
        case ClaimQueued():
            return _queued(state, event, recorded)
        case ClaimRenewed(claim_id=claim_id, tick=tick):
            claim = state.claims.get(claim_id)
            return state if claim is None else _with_claim(state, replace(claim, beat=tick))
        case ClaimCancelled(claim_id=claim_id) | ClaimAbandoned(claim_id=claim_id) | ClaimTimedOut(claim_id=claim_id):
            return replace(state, claims=_without(state.claims, claim_id))
        case LeaseGranted():
            return _granted(state, event, time)
        case LeaseAccepted(lease_id=lease_id):
            return _changed(state, lease_id, time, guard=None)
        case LeaseRenewed(lease_id=lease_id, tick=tick, until=until):
            return _changed(state, lease_id, time, renewed=tick, until=until, guard=None)
        case LeaseReleased(lease_id=lease_id, by=by, message=message):
            return _ended(state, lease_id, time, "released", by, message or event.cause)
        case LeaseExpired(lease_id=lease_id, evidence=evidence):
            return _ended(state, lease_id, time, "expired", recorded.actor, evidence)
        case LeaseRevoked(lease_id=lease_id, by=by, reason=reason):
            return _ended(state, lease_id, time, "revoked", by, reason)
        case LeaseTransferred():
            return _transferred(state, event, time)
        case ResourcesLogRepaired():
            return state
        case _:
            assert_never(event)


def microseconds(since: str, until: str) -> int:
    """Give the time between two times of events (ISO 8601, UTC), as people see it: negative where a clock was set."""
    return _moment(until) - _moment(since)


def _declared(state: Resources, event: ResourceDeclared, time: str) -> Resources:
    known = state.keys.get(event.key) or _new_key(event.key, time)
    key = replace(known, labels=event.labels, description=event.description, max_duration_s=event.max_duration_s)
    return _with_key(state, key)


def _in_status(state: Resources, key: str, status: KeyStatus, reason: str | None, time: str) -> Resources:
    known = state.keys.get(key) or _new_key(key, time)
    return _with_key(state, replace(_counted(known, time), status=status, reason=reason))


def _queued(state: Resources, event: ClaimQueued, recorded: Recorded[LeaseEvent]) -> Resources:
    claim = Claim(
        claim_id=event.claim_id,
        owner=event.owner,
        seq=recorded.seq,
        queued_at=recorded.time,
        keys=event.keys,
        pool=event.pool,
        on_behalf_of=event.on_behalf_of,
        actor=recorded.actor,
        metadata=event.metadata,
        priority=event.priority,
        liveness=event.liveness,
        waiter=event.waiter,
        beat=event.tick,
        idempotency_key=event.idempotency_key,
    )
    new = {key: _new_key(key, recorded.time) for key in event.keys if key not in state.keys}
    salt = state.salt or int(event.claim_id[-10:], 16)
    return _with_claim(replace(state, keys={**state.keys, **new} if new else state.keys, salt=salt), claim)


def _granted(state: Resources, event: LeaseGranted, time: str) -> Resources:
    claim = state.claims.get(event.claim_id) or Claim(event.claim_id, event.owner, 0, time, event.keys)
    claims = _overtaken(state, claim, event.keys) if event.place == 1 else state.claims
    if event.place == event.of:
        claims = _without(claims, event.claim_id)
    lease = Lease(
        lease_id=event.lease_id,
        resource_type=event.key,
        owner=event.owner,
        status="active",
        metadata=claim.metadata,
        created_at=time,
        updated_at=time,
        fence=event.fence,
        liveness=str(claim.liveness),
        on_behalf_of=claim.on_behalf_of,
        actor=claim.actor,
        claim_id=event.claim_id,
        queued_at=claim.queued_at,
        priority=claim.priority,
        until=event.until,
        alive=claim.liveness,
        granted=event.tick,
        renewed=event.tick,
        guard=claim.waiter if event.handed_over and _outlives_its_waiter(claim) else None,
        idempotency_key=claim.idempotency_key,
    )
    known = state.keys.get(event.key) or _new_key(event.key, time)
    key = replace(_counted(known, time), fence=event.fence, lease_id=event.lease_id, grants=known.grants + 1)
    return replace(
        state,
        keys={**state.keys, key.key: key},
        leases={**state.leases, lease.lease_id: lease},
        claims=claims,
        granted=state.granted + 1,
        touched=lease,
    )


def _outlives_its_waiter(claim: Claim) -> bool:
    """Tell whether a lease would be held for longer by a waiter who died meanwhile than the wait would have been."""
    waiter, alive = claim.waiter, claim.liveness
    if waiter is None or alive.process is not None:
        return False
    return alive.ttl_s is None or alive.ttl_s > waiter.ttl_s


def _overtaken(state: Resources, claim: Claim, keys: tuple[str, ...]) -> Mapping[str, Claim]:
    """Count, for all who came earlier and want one of these keys, that somebody else got it.

    Claims stand in the order in which they came, and most often the first of them is who has got it.
    """
    counted: dict[str, Claim] = {}
    for name, other in state.claims.items():
        if other.seq >= claim.seq:
            break
        if not is_beside(other, state) and any(wants(other, key, state) for key in keys):
            counted[name] = replace(other, overtaken=other.overtaken + 1)
    return {**state.claims, **counted} if counted else state.claims


def _transferred(state: Resources, event: LeaseTransferred, time: str) -> Resources:
    lease = state.leases.get(event.lease_id)
    if lease is None:
        return state
    key = replace(state.keys[lease.key], fence=event.fence)
    alive = Liveness(lease.alive.ttl_s, lease.alive.run_id)
    return _changed(
        _with_key(state, key),
        event.lease_id,
        time,
        owner=event.owner,
        on_behalf_of=event.on_behalf_of,
        actor="",
        fence=event.fence,
        renewed=event.tick,
        until=event.until,
        guard=None,
        alive=alive,
        liveness=str(alive),
    )


def _changed(state: Resources, lease_id: str, time: str, **changes: object) -> Resources:
    lease = state.leases.get(lease_id)
    if lease is None:
        return state
    return _with_lease(state, replace(lease, updated_at=time, **changes))


def _ended(state: Resources, lease_id: str, time: str, ended: Ending, by: str, reason: str) -> Resources:
    lease = state.leases.get(lease_id)
    if lease is None:
        return state
    lease = replace(lease, status="released", updated_at=time, ended=ended, ended_by=by, end_reason=reason, guard=None)
    key = state.keys[lease.key]
    if key.lease_id == lease_id:
        held_s = max(0, microseconds(lease.created_at, time)) / 1e6
        key = replace(_counted(key, time), lease_id=None, recent_s=(*key.recent_s, held_s)[-RECENT_MAX:])
    keys = {**state.keys, key.key: key}
    return replace(state, keys=keys, leases=_without(state.leases, lease_id), touched=lease)


def _counted(key: Key, time: str) -> Key:
    """Add the time since its last change to what it was until now."""
    more, spent = microseconds(key.since, time), key.spent
    match key.use:
        case "free":
            spent = replace(spent, free_us=spent.free_us + more)
        case "active":
            spent = replace(spent, active_us=spent.active_us + more)
        case "drained":
            spent = replace(spent, drained_us=spent.drained_us + more)
    return replace(key, spent=spent, since=time)


def _new_key(key: str, time: str) -> Key:
    return Key(key, "ENABLED", declared_at=time, since=time)


def _with_key(state: Resources, key: Key) -> Resources:
    return replace(state, keys={**state.keys, key.key: key})


def _with_claim(state: Resources, claim: Claim) -> Resources:
    return replace(state, claims={**state.claims, claim.claim_id: claim})


def _with_lease(state: Resources, lease: Lease) -> Resources:
    return replace(state, leases={**state.leases, lease.lease_id: lease}, touched=lease)


def _without(values: Mapping[str, V], name: str) -> Mapping[str, V]:
    left = dict(values)
    left.pop(name, None)
    return left


@lru_cache(maxsize=64)
def _moment(time: str) -> int:
    return (datetime.fromisoformat(time) - _EPOCH) // _US
