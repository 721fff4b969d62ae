"""Who had a key, who waited for it, why did it end, and what does that come to? Read from the log, whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from eventlog import Event
from projections.events.lease import (
    ClaimAbandoned,
    ClaimCancelled,
    ClaimQueued,
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
)
from projections.events.recorded import Recorded
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import NOTHING, Claim, Key, Lease, Resources
from projections.leases import evolve, microseconds
from projections.line import line_for, wants


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that concerned a key."""

    seq: int
    time: str
    actor: str
    what: str
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Use:
    """What a key was used for: seconds of the time that people see, and how long who got it had waited."""

    key: str
    free_s: float = 0.0
    active_s: float = 0.0
    drained_s: float = 0.0
    grants: int = 0
    waited_median_s: float | None = None
    waited_max_s: float | None = None
    owners: Mapping[str, float] = field(default_factory=dict)


def until(events: Iterable[Event], seq: int | None, time: str | None) -> Resources:
    """Give what went on at a seq or at a time: after the last event that was recorded until then."""
    state = NOTHING
    for recorded, after in _walk(events):
        if (seq is not None and recorded.seq > seq) or (time is not None and recorded.time > time):
            break
        state = after
    return state


def ever(events: Iterable[Event], seq: int | None = None, time: str | None = None) -> list[Lease]:
    """Give every lease there was until then, as it was then, in the order in which they were granted."""
    leases: dict[str, Lease] = {}
    for recorded, after in _walk(events):
        if (seq is not None and recorded.seq > seq) or (time is not None and recorded.time > time):
            break
        if after.touched is not None:
            leases[after.touched.lease_id] = after.touched
    return list(leases.values())


def history(key: str, events: Iterable[Event]) -> Iterator[Happened]:
    """Give all that has happened to a key, renewals left out, and to those who waited for it."""
    before = NOTHING
    for recorded, after in _walk(events):
        if (found := _concerning(key, recorded, before, after)) is not None:
            what, who, why = found
            yield Happened(recorded.seq, recorded.time, recorded.actor, what, who, why)
        before = after


def who(key: str, state: Resources) -> tuple[Lease | None, list[Claim]]:
    """Give who holds a key in a state, and who waits for it."""
    return state.holder(key), line_for(key, state)


def report(events: Iterable[Event], since: str | None, now: str) -> list[Use]:
    """Give what each key was used for since a time, up to now."""
    state, uses, waits = NOTHING, dict[str, Use](), dict[str, list[float]]()
    last = since or ""
    for recorded, after in _walk(events):
        if recorded.time > last:
            uses = _counted(uses, state, last, recorded.time)
            last = recorded.time
        if isinstance(recorded.event, LeaseGranted) and recorded.time >= (since or ""):
            lease = after.leases[recorded.event.lease_id]
            waits.setdefault(lease.key, []).append(max(0, microseconds(lease.queued_at, recorded.time)) / 1e6)
        state = after
    uses = _counted(uses, state, last, max(now, last))
    return [
        replace(
            use,
            grants=len(waits.get(key, ())),
            waited_median_s=median(waits[key]) if key in waits else None,
            waited_max_s=max(waits[key]) if key in waits else None,
        )
        for key, use in sorted(uses.items())
    ]


def _counted(uses: dict[str, Use], state: Resources, since: str, until: str) -> dict[str, Use]:
    if not state.keys or not since:
        return uses
    more_s = max(0, microseconds(since, until)) / 1e6
    return {**uses, **{key.key: _more(uses.get(key.key) or Use(key.key), key, state, more_s) for key in _keys(state)}}


def _more(use: Use, key: Key, state: Resources, more_s: float) -> Use:
    match key.use:
        case "free":
            return replace(use, free_s=use.free_s + more_s)
        case "drained":
            return replace(use, drained_s=use.drained_s + more_s)
        case "active":
            holder = state.holder(key.key)
            owner = holder.owner if holder else "?"
            owners = {**use.owners, owner: use.owners.get(owner, 0.0) + more_s}
            return replace(use, active_s=use.active_s + more_s, owners=owners)


def _keys(state: Resources) -> Iterable[Key]:
    return state.keys.values()


def _walk(events: Iterable[Event]) -> Iterator[tuple[Recorded[LeaseEvent], Resources]]:
    state = NOTHING
    for recorded in LEASE_PROJECTION.codec.decode(events):
        state = evolve(state, recorded)
        yield recorded, state


def _concerning(
    key: str, recorded: Recorded[LeaseEvent], before: Resources, after: Resources
) -> tuple[str, str, str] | None:
    """Say what an event means to a key; None when it is not about it."""
    event = recorded.event
    match event:
        case ResourceDeclared(key=other) | ResourceEnabled(key=other):
            return (event.type.partition(".")[2], recorded.actor, "") if other == key else None
        case ResourceDraining(key=other, reason=reason) | ResourceRetired(key=other, reason=reason):
            return (event.type.partition(".")[2], recorded.actor, reason) if other == key else None
        case ClaimQueued(claim_id=claim_id):
            claim = after.claims[claim_id]
            return ("queued", claim.owner, claim_id) if wants(claim, key, after) else None
        case ClaimCancelled(claim_id=claim_id, reason=reason):
            return _of_claim(key, claim_id, before, "left", reason)
        case ClaimAbandoned(claim_id=claim_id, evidence=evidence):
            return _of_claim(key, claim_id, before, "abandoned", evidence)
        case ClaimTimedOut(claim_id=claim_id, waited_s=waited_s):
            return _of_claim(key, claim_id, before, "timed out", f"after {waited_s:.0f} s")
        case LeaseGranted(key=other, owner=owner, lease_id=lease_id, fence=fence):
            return ("granted", owner, f"{lease_id} fence={fence}") if other == key else None
        case LeaseReleased() | LeaseExpired() | LeaseRevoked() | LeaseTransferred():
            lease = after.touched
            if lease is None or lease.key != key:
                return None
            why = f"{lease.lease_id} fence={lease.fence}" if lease.ended is None else f"{lease.end_reason}"
            return event.type.partition(".")[2], lease.owner, why
        case LeaseRenewed() | LeaseAccepted():
            return None
        case _:
            return None


def _of_claim(key: str, claim_id: str, before: Resources, what: str, why: str) -> tuple[str, str, str] | None:
    claim = before.claims.get(claim_id)
    if claim is None or not wants(claim, key, before):
        return None
    return what, claim.owner, why
