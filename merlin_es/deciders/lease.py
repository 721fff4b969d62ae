"""Who gets what, who keeps it, and what ends it? Every rule of the resources, over their folded state.

Whatever frees a key hands it on in the same append. A key that is to be prepared or cleaned between two holders, or
kept from all, will be in another state than free then: `_hand_over` gives what is free, and nothing else has to know.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct, field

from merlin_es.deciders.sight import Observer
from merlin_es.errors import Busy, Drained, LeaseLost, NotFound, Refused, Unsatisfiable
from merlin_es.lease_commands import Caller, Declare, Reserve
from projections.events.lease import (
    ClaimAbandoned,
    ClaimCancelled,
    ClaimQueued,
    ClaimRenewed,
    ClaimTimedOut,
    Evidence,
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
from projections.lease_state import Claim, Key, Lease, Resources, Tick
from projections.leases import evolve
from projections.line import is_beside, is_satisfiable, line_for, needed, next_grant, wanted, wants

REAP_MAX: Final = 64
"""How many of the dead one append puts away; the next one goes on."""
COALESCED: Final = 0.1
"""A renewal so soon after the last one, as a part of the time to live, says nothing new."""
_LATE: Final = 1 << 61
"""Behind every seq of a log: where what is being decided will stand."""

Events = tuple[LeaseEvent, ...]


class _Draft(Struct):
    """What has been decided so far, and the state after it."""

    state: Resources
    at: str
    by: str
    events: list[LeaseEvent] = field(default_factory=list)

    def add(self, event: LeaseEvent) -> None:
        self.events.append(event)
        self.state = evolve(self.state, Recorded(_LATE + len(self.events), self.at, self.by, "", event))

    @property
    def done(self) -> Events:
        return tuple(self.events)


def reserve(command: Reserve, by: str, state: Resources, observer: Observer, *, for_another: bool = False) -> Events:
    """Put a claim in line, and grant it when it is its turn at once; refuse it when it does not want to wait.

    What is granted `for_another`, who has only asked, is handed over like all that comes after a wait.
    """
    if command.claim_id in state.claims or any(each.claim_id == command.claim_id for each in state.leases.values()):
        return ()
    draft = _Draft(state, command.at, by)
    draft.add(
        ClaimQueued(
            claim_id=command.claim_id,
            owner=command.owner,
            keys=command.keys,
            pool=command.pool,
            on_behalf_of=command.on_behalf_of,
            metadata=dict(command.metadata),
            priority=command.priority,
            liveness=command.liveness,
            waiter=command.waiter,
            tick=observer.tick,
            idempotency_key=command.idempotency_key,
            spec=command.spec,
        )
    )
    claim = draft.state.claims[command.claim_id]
    if not is_satisfiable(claim, draft.state):
        raise Unsatisfiable(_why_never(claim, draft.state))
    _hand_over(draft, observer, own=None if for_another else command.claim_id)
    if not command.waits and (waiting := draft.state.claims.get(command.claim_id)):
        raise _why_not_now(waiting, draft.state)
    return draft.done


def renew(lease_id: str, caller: Caller, state: Resources, observer: Observer, past: Lease | None = None) -> Events:
    """Begin the time to live of a lease again."""
    lease = _held(lease_id, caller, state, past)
    _require_owner(lease, caller)
    ttl_s, tick = lease.alive.ttl_s, observer.tick
    if ttl_s is None:
        raise Refused(f"{lease_id} has no time to live ({lease.liveness}): it needs no renewal")
    if lease.guard is None and _silent_s(lease.lease_id, lease.renewed, observer) < COALESCED * ttl_s:
        return ()
    return (LeaseRenewed(lease_id=lease_id, tick=tick, until=_until(caller.at, lease.alive.ttl_s)),)


def accept(lease_id: str, state: Resources) -> Events:
    """Say that a lease which was handed over has come to who waited for it."""
    lease = state.leases.get(lease_id)
    return (LeaseAccepted(lease_id=lease_id),) if lease and lease.guard else ()


def release(lease_id: str, caller: Caller, state: Resources, observer: Observer, past: Lease | None = None) -> Events:
    """Give a lease back, or take it from its holder by force; twice is once."""
    lease = state.leases.get(lease_id)
    if lease is None and past is not None and past.ended == "released" and caller.fence in (None, past.fence):
        return ()
    lease = _held(lease_id, caller, state, past)
    draft = _Draft(state, caller.at, caller.by)
    if _is_owner(lease, caller):
        draft.add(LeaseReleased(lease_id=lease_id, by=caller.by, message=caller.reason))
    else:
        _require_force(lease, caller)
        draft.add(LeaseRevoked(lease_id=lease_id, by=caller.by, reason=caller.reason))
        for claim in line_for(lease.key, state):
            if claim.owner == lease.owner:
                reason = f"its owner was sent away from {lease.key}: {caller.reason}"
                draft.add(ClaimCancelled(claim_id=claim.claim_id, by=caller.by, reason=reason))
    _hand_over(draft, observer)
    return draft.done


def transfer(
    lease_id: str,
    owner: str,
    on_behalf_of: str | None,
    caller: Caller,
    state: Resources,
    observer: Observer,
    past: Lease | None = None,
) -> Events:
    """Have somebody else hold a lease, with a fence of its own."""
    lease = _held(lease_id, caller, state, past)
    if (lease.owner, lease.on_behalf_of) == (owner, on_behalf_of):
        return ()
    if not _is_owner(lease, caller):
        _require_force(lease, caller)
    return (
        LeaseTransferred(
            lease_id=lease_id,
            owner=owner,
            on_behalf_of=on_behalf_of,
            fence=state.keys[lease.key].fence + 1,
            by=caller.by,
            reason=caller.reason,
            tick=observer.tick,
            until=_until(caller.at, lease.alive.ttl_s),
        ),
    )


def check(lease_id: str, fence: int, caller: Caller, state: Resources, past: Lease | None = None) -> Lease:
    """Give the lease when it is still that of who has this fence; raises LeaseLost and NotFound."""
    lease = _held(lease_id, caller, state, past)
    if lease.fence != fence:
        raise LeaseLost(_how_lost(lease, state))
    return lease


def beat(claim_id: str, state: Resources, observer: Observer) -> Events:
    """Say that who waits is still there."""
    claim = state.claims.get(claim_id)
    if claim is None or claim.waiter is None:
        return ()
    if _silent_s(claim_id, claim.beat, observer) < COALESCED * claim.waiter.ttl_s:
        return ()
    return (ClaimRenewed(claim_id=claim_id, tick=observer.tick),)


def leave(claim_id: str, reason: str, caller: Caller, state: Resources, observer: Observer) -> Events:
    """Take a claim out of the line; what is behind it may be next."""
    if claim_id not in state.claims:
        return ()
    draft = _Draft(state, caller.at, caller.by)
    draft.add(ClaimCancelled(claim_id=claim_id, by=caller.by, reason=reason))
    _hand_over(draft, observer)
    return draft.done


def time_out(claim_id: str, waited_s: float, caller: Caller, state: Resources, observer: Observer) -> Events:
    """End a wait that was long enough."""
    if claim_id not in state.claims:
        return ()
    draft = _Draft(state, caller.at, caller.by)
    draft.add(ClaimTimedOut(claim_id=claim_id, waited_s=waited_s))
    _hand_over(draft, observer)
    return draft.done


def declare(command: Declare, caller: Caller, state: Resources, observer: Observer) -> Events:
    """Say what a key is; who waits for one with such labels may have it then."""
    known = state.keys.get(command.key)
    says = (dict(command.labels), command.description, command.max_duration_s)
    if known and (dict(known.labels), known.description, known.max_duration_s) == says:
        return ()
    draft = _Draft(state, caller.at, caller.by)
    draft.add(
        ResourceDeclared(
            key=command.key,
            labels=dict(command.labels),
            description=command.description,
            max_duration_s=command.max_duration_s,
        )
    )
    _send_away(draft)
    _hand_over(draft, observer)
    return draft.done


def drain(key: str, caller: Caller, state: Resources, observer: Observer) -> Events:
    """Have nobody get a key for now; who holds it keeps it."""
    known = _known(key, state)
    if known.status == "RETIRED":
        raise Refused(f"{key} was retired ({known.reason}): nobody gets it anyway")
    if known.status == "DRAINING":
        return ()
    _require_reason(f"drain {key}", caller)
    draft = _Draft(state, caller.at, caller.by)
    draft.add(ResourceDraining(key=key, reason=caller.reason))
    _hand_over(draft, observer)  # Who waits for this one too keeps nobody from the others any more.
    return draft.done


def enable(key: str, caller: Caller, state: Resources, observer: Observer) -> Events:
    """Have a key granted again."""
    known = _known(key, state)
    if known.status == "RETIRED":
        raise Refused(f"{key} was retired ({known.reason}), and that is final: declare it anew under another name")
    if known.status == "ENABLED":
        return ()
    draft = _Draft(state, caller.at, caller.by)
    draft.add(ResourceEnabled(key=key, reason=caller.reason))
    _hand_over(draft, observer)
    return draft.done


def retire(key: str, caller: Caller, state: Resources, observer: Observer) -> Events:
    """Have nobody get a key ever again; who waits for it in vain is sent away."""
    known = _known(key, state)
    if known.status == "RETIRED":
        return ()
    _require_reason(f"retire {key}", caller)
    draft = _Draft(state, caller.at, caller.by)
    draft.add(ResourceRetired(key=key, reason=caller.reason))
    _send_away(draft)
    _hand_over(draft, observer)
    return draft.done


def reap(at: str, by: str, state: Resources, observer: Observer) -> Events:
    """Put away, of those who hold and those who wait, who has visibly died; and hand on what they held."""
    draft = _Draft(state, at, by)
    for claim in state.claims.values():
        if len(draft.events) < REAP_MAX and (event := _why_it_no_longer_waits(claim, by, observer)):
            draft.add(event)
    for lease in state.leases.values():
        if len(draft.events) < REAP_MAX and (end := _why_it_ends(lease, by, state, observer)):
            draft.add(end)
    if draft.events:  # Else all that can be granted is, as every append hands on what it frees.
        _hand_over(draft, observer)
    return draft.done


def _hand_over(draft: _Draft, observer: Observer, own: str | None = None) -> None:
    """Grant whatever can be granted, in the order of the line, and to nobody who is seen to be gone."""
    while found := next_grant(draft.state):
        claim, keys = found
        gone = None if claim.claim_id == own else _why_it_no_longer_waits(claim, draft.by, observer)
        if gone:
            draft.add(gone)
        else:
            _grant(draft, claim, keys, observer.tick, handed_over=claim.claim_id != own)


def _grant(draft: _Draft, claim: Claim, keys: tuple[str, ...], tick: Tick, *, handed_over: bool) -> None:
    for place, key in enumerate(keys, 1):
        draft.add(
            LeaseGranted(
                lease_id=draft.state.lease_id(draft.state.granted + 1),
                key=key,
                fence=draft.state.keys[key].fence + 1,
                claim_id=claim.claim_id,
                owner=claim.owner,
                keys=keys,
                place=place,
                of=len(keys),
                tick=tick,
                until=_until(draft.at, _shortest(claim.liveness.ttl_s, draft.state.keys[key].max_duration_s)),
                handed_over=handed_over,
            )
        )


def _send_away(draft: _Draft) -> None:
    """End the claims that can never be granted any more."""
    for claim in list(draft.state.claims.values()):
        if not is_satisfiable(claim, draft.state):
            reason = _why_never(claim, draft.state)
            draft.add(ClaimCancelled(claim_id=claim.claim_id, by=draft.by, reason=reason))


def _why_it_no_longer_waits(claim: Claim, by: str, observer: Observer) -> LeaseEvent | None:
    waiter, process = claim.waiter, claim.liveness.process
    for each in (waiter and waiter.process, process):
        if each and observer.is_gone(each):
            return ClaimAbandoned(claim_id=claim.claim_id, evidence="process_gone")
    if waiter and (silent_s := _silent_s(claim.claim_id, claim.beat, observer)) > waiter.ttl_s:
        return ClaimAbandoned(claim_id=claim.claim_id, evidence="ttl", silent_s=silent_s)
    if claim.liveness.run_id and (end := observer.run_end(claim.liveness.run_id)):
        return ClaimCancelled(claim_id=claim.claim_id, by=by, reason=f"{claim.liveness.run_id} is {end}")
    return None


def _why_it_ends(lease: Lease, by: str, state: Resources, observer: Observer) -> LeaseEvent | None:
    """Say what shows that a holder is dead. What cannot be seen from here ends nothing."""
    alive, tick = lease.alive, observer.tick
    if alive.process and observer.is_gone(alive.process):
        return LeaseExpired(lease_id=lease.lease_id, evidence="process_gone", tick=tick, process=alive.process)
    if lease.guard and lease.guard.process and observer.is_gone(lease.guard.process):
        return LeaseExpired(lease_id=lease.lease_id, evidence="waiter_gone", tick=tick, process=lease.guard.process)
    silent_s = _silent_s(lease.lease_id, lease.renewed, observer)
    if lease.guard and silent_s > lease.guard.ttl_s:
        return _expired(lease, "waiter_gone", silent_s, lease.guard.ttl_s, tick)
    if alive.ttl_s is not None and silent_s > alive.ttl_s:
        return _expired(lease, "ttl", silent_s, alive.ttl_s, tick)
    limit_s = state.keys[lease.key].max_duration_s
    if limit_s is not None:
        held_s = _silent_s(f"{lease.lease_id}.granted", lease.granted, observer)
        if held_s > limit_s:
            return _expired(lease, "max_duration", held_s, limit_s, tick)
    if alive.run_id and (end := observer.run_end(alive.run_id)):
        message = f"{alive.run_id} is {end}"
        return LeaseReleased(lease_id=lease.lease_id, cause="run_ended", by=by, message=message)
    return None


def _expired(lease: Lease, evidence: Evidence, silent_s: float, limit_s: float, tick: Tick) -> LeaseExpired:
    return LeaseExpired(lease_id=lease.lease_id, evidence=evidence, silent_s=silent_s, limit_s=limit_s, tick=tick)


def _silent_s(name: str, last: Tick | None, observer: Observer) -> float:
    """Give for how long nothing was heard: by the clock of this boot, or for as long as this host has watched."""
    tick = observer.tick
    if last is None:
        return observer.unchanged_s(name, "")
    if last.boot_id == tick.boot_id:
        return max(0.0, tick.boottime_s - last.boottime_s)
    return observer.unchanged_s(name, f"{last.boot_id}:{last.boottime_s!r}")


def _held(lease_id: str, caller: Caller, state: Resources, past: Lease | None) -> Lease:
    """Give a lease that is held, and by whoever shows its fence if one is shown; raises NotFound and LeaseLost."""
    lease = state.leases.get(lease_id)
    if lease is None and past is None:
        raise NotFound(
            f"there is no lease {lease_id!r}: `merlin ray resources list --all` shows those there are",
            name=lease_id,
            among=state.leases,
        )
    if lease is None or caller.fence not in (None, lease.fence):
        assert lease or past  # noqa: S101  one of them is there
        raise LeaseLost(_how_lost(lease or past, state))  # type: ignore[arg-type]  # likewise
    return lease


def _how_lost(lease: Lease, state: Resources) -> str:
    now = state.holder(lease.key)
    if lease.ended is None:
        return (
            f"{lease.lease_id} on {lease.key} is {lease.owner}'s now, with the fence {lease.fence} since "
            f"{lease.updated_at}: stop, and reserve {lease.key} again"
        )
    holder = f"{now.owner} holds {lease.key} now" if now else f"nobody holds {lease.key} now"
    return (
        f"{lease.lease_id} on {lease.key} {lease.ended} at {lease.updated_at} by {lease.ended_by} "
        f"({lease.end_reason}), and {holder}: stop, and reserve it again"
    )


def _is_owner(lease: Lease, caller: Caller) -> bool:
    if caller.fence is not None or caller.owner is not None:
        return caller.owner in (None, lease.owner)
    return caller.by == lease.actor


def _require_owner(lease: Lease, caller: Caller) -> None:
    if not _is_owner(lease, caller):
        raise Refused(
            f"{lease.lease_id} is held by {lease.owner} ({lease.actor}), not by {caller.owner or caller.by}: "
            "say --owner or --fence as its holder"
        )


def _require_force(lease: Lease, caller: Caller) -> None:
    if not caller.force:
        raise Refused(
            f"{lease.lease_id} on {lease.key} is held by {lease.owner} ({lease.actor or 'transferred'}) since "
            f"{lease.created_at}: ask them, or say --owner or --fence as its holder, or --force with a --reason"
        )
    _require_reason(f"take {lease.lease_id} from {lease.owner}", caller)


def _require_reason(what: str, caller: Caller) -> None:
    if not caller.reason.strip():
        raise Refused(f"to {what} takes a reason, which is recorded: say --reason")


def _known(key: str, state: Resources) -> Key:
    if key not in state.keys:
        raise NotFound(
            f"there is no resource {key!r}: `merlin ray resources declare {key}` makes one", name=key, among=state.keys
        )
    return state.keys[key]


def _why_never(claim: Claim, state: Resources) -> str:
    if claim.pool is None:
        retired = [f"{key.key} ({key.reason})" for key in wanted(claim, state) if key.status == "RETIRED"]
        return f"{', '.join(retired)} was retired: reserve another one"
    pool = claim.pool
    left = sum(key.status != "RETIRED" for key in wanted(claim, state))
    return (
        f"{needed(claim)} keys with {pool.label}={pool.value} are wanted, and there are {left}: "
        "`merlin ray resources declare KEY --label …` makes one"
    )


def _why_not_now(claim: Claim, state: Resources) -> Refused:
    if is_beside(claim, state):
        drained = [f"{key.key} ({key.reason})" for key in wanted(claim, state) if key.status == "DRAINING"]
        return Drained(f"{', '.join(drained)} is drained for now: wait for it with --wait, or reserve another one")
    parts = []
    for key in wanted(claim, state):
        waiting = sum(
            wants(other, key.key, state) for other in state.claims.values() if other.claim_id != claim.claim_id
        )
        if holder := state.holder(key.key):
            parts.append(f"{describe(holder)}, and {waiting} wait")
        elif waiting:
            parts.append(f"{key.key} is free, but {waiting} are in line before")
    return Busy(f"{'; '.join(parts)}: stand in line with --wait")


def describe(lease: Lease) -> str:
    """Say who holds what since when and until when."""
    behalf = f" on behalf of {lease.on_behalf_of}" if lease.on_behalf_of else ""
    until = f" until {lease.until} unless renewed" if lease.until else ""
    return f"{lease.key} is held by {lease.owner}{behalf} since {lease.created_at}{until} ({lease.liveness})"


def _until(at: str, ttl_s: float | None) -> str | None:
    """Give the end of a time to live, for people."""
    if ttl_s is None:
        return None
    try:
        end = datetime.fromisoformat(at) + timedelta(seconds=ttl_s)
    except OverflowError:
        return None
    return f"{end.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _shortest(*limits_s: float | None) -> float | None:
    return min((limit_s for limit_s in limits_s if limit_s is not None), default=None)
