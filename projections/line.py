"""Who is next? The order of those who wait, and what the first of them can be given.

First come, first served within a priority, the higher priority first; but who was overtaken OVERTAKEN_MAX times is
next. A key that is free is kept for the first in line who wants it, so a large set does not starve. Who wants a key
that is drained waits beside the line: it keeps nobody from anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from projections.lease_state import OVERTAKEN_MAX, Claim, Key, Resources


def in_line(state: Resources) -> list[Claim]:
    """Give those who wait, the next one first. They are kept in the order in which they came, which often is that."""
    claims = list(state.claims.values())
    for claim in claims:
        if claim.priority != claims[0].priority or claim.overtaken >= OVERTAKEN_MAX:
            return sorted(claims, key=_rank)
    return claims


def next_grant(state: Resources) -> tuple[Claim, tuple[str, ...]] | None:
    """Give the first in line who can have all that it wants, and the keys; None when nobody can."""
    if not any(key.is_free for key in state.keys.values()):
        return None  # As for most of the time in a busy place, and then nothing has to be sorted.
    kept: set[str] = set()
    for claim in in_line(state):
        if is_beside(claim, state):
            continue
        free = [key.key for key in wanted(claim, state) if key.is_free and key.key not in kept]
        if len(free) >= needed(claim):
            return claim, tuple(free[: needed(claim)])
        kept.update(free)
    return None


def wanted(claim: Claim, state: Resources) -> Iterator[Key]:
    """Give the keys that a claim is about: its own in its order, or those of its pool in theirs."""
    if claim.pool is None:
        yield from (state.keys[key] for key in claim.keys if key in state.keys)
        return
    for _, key in sorted(state.keys.items()):
        if key.labels.get(claim.pool.label) == claim.pool.value:
            yield key


def needed(claim: Claim) -> int:
    """Give how many keys it takes."""
    return len(claim.keys) if claim.pool is None else claim.pool.count


def is_beside(claim: Claim, state: Resources) -> bool:
    """Tell whether a claim waits for a key to be enabled again, and so beside the line."""
    if claim.pool is None and len(claim.keys) == 1:  # As most are; this is asked at each grant, and a sum costs more.
        key = state.keys.get(claim.keys[0])
        return key is None or key.status != "ENABLED"
    return sum(key.status == "ENABLED" for key in wanted(claim, state)) < needed(claim)


def is_satisfiable(claim: Claim, state: Resources) -> bool:
    """Tell whether a claim can ever be granted: what is retired does not come back by itself."""
    return sum(key.status != "RETIRED" for key in wanted(claim, state)) >= needed(claim)


def wants(claim: Claim, key: str, state: Resources) -> bool:
    """Tell whether a claim is about this key."""
    if claim.pool is None:
        return key in claim.keys
    return key in state.keys and state.keys[key].labels.get(claim.pool.label) == claim.pool.value


def line_for(key: str, state: Resources) -> list[Claim]:
    """Give those who wait for a key, the next one first."""
    return [claim for claim in in_line(state) if wants(claim, key, state)]


def position(claim: Claim, state: Resources) -> int:
    """Give the place of a claim among all that want one of its keys; 1 is next."""
    keys = {key.key for key in wanted(claim, state)}
    place = 0
    for other in in_line(state):
        if other.claim_id == claim.claim_id:
            return place + 1
        place += any(key.key in keys for key in wanted(other, state))
    return place + 1


def _rank(claim: Claim) -> tuple[bool, int, int]:
    is_next = claim.is_next
    return not is_next, 0 if is_next else -claim.priority, claim.seq
