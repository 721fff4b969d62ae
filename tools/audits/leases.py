"""Did at most one have each key at every moment, in the order of the line, with fences that only grow?

The rules are those of the design, told a second time: first come first served within a priority; who was overtaken
8 times is next; who wants a key that is drained stands beside the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audits.chain import Event, Log, Violation

OVERTAKEN_MAX = 8
ENDS = frozenset({"lease.released", "lease.expired", "lease.revoked"})
OF_A_HOLDER = frozenset({"lease.accepted", "lease.renewed", "lease.transferred"}) | ENDS
OF_A_WAITER = frozenset({"claim.renewed", "claim.cancelled", "claim.abandoned", "claim.timed_out"})


@dataclass
class Claim:
    """Somebody waits."""

    seq: int
    data: Mapping[str, Any]
    overtaken: int = 0
    got: int = 0

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The place in line: the least is next."""
        is_next = self.overtaken >= OVERTAKEN_MAX
        return not is_next, 0 if is_next else -self.data["priority"], self.seq


@dataclass
class Walk:
    """What holds at one point of the stream of all resources."""

    status: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Mapping[str, str]] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    line: dict[str, Claim] = field(default_factory=dict)
    granted: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Of every lease there ever was: its claim, its key and its fence."""

    def wants(self, claim: Claim, key: str) -> bool:
        """Tell whether a claim is about a key."""
        pool = claim.data.get("pool")
        return self.labels.get(key, {}).get(pool["label"]) == pool["value"] if pool else key in claim.data["keys"]

    def is_beside(self, claim: Claim) -> bool:
        """Tell whether a claim waits for a key to be enabled again."""
        pool = claim.data.get("pool")
        needed = pool["count"] if pool else len(claim.data["keys"])
        enabled = sum(status == "ENABLED" and self.wants(claim, key) for key, status in self.status.items())
        return bool(enabled < needed)


def of_resources(log: Log, walk: Walk) -> Iterator[Violation]:
    """Go through the stream of all resources, and say what must not be."""
    for event in log.events:
        data = event.data
        if event.type == "lease.granted":
            yield from _granted(walk, event)
        elif event.type in OF_A_HOLDER:
            yield from _by_holder(walk, event)
        elif event.type in OF_A_WAITER:
            if data["claim_id"] not in walk.line:
                yield Violation("a claim ends once", event.where, f"{data['claim_id']} is not in line")
            elif event.type != "claim.renewed":
                del walk.line[data["claim_id"]]
        elif event.type == "claim.queued":
            if data["claim_id"] in walk.line or any(claim == data["claim_id"] for claim, _, _ in walk.granted.values()):
                yield Violation("a claim is queued once", event.where, f"{data['claim_id']} was there before")
            walk.line[data["claim_id"]] = Claim(event.seq, data)
            for key in data["keys"]:
                walk.status.setdefault(key, "ENABLED")
        elif event.type.startswith("resource."):
            _about_key(walk, event)


def _granted(walk: Walk, event: Event) -> Iterator[Violation]:
    data = event.data
    key, claim = data["key"], walk.line.get(data["claim_id"])
    if (holder := walk.holders.get(key)) is not None:
        yield Violation("one holder of a key", event.where, f"{key} is held by {holder}")
    if data["fence"] <= walk.fences.get(key, 0):
        yield Violation("fences grow", event.where, f"{data['fence']} after {walk.fences[key]} of {key}")
    if walk.status.get(key, "ENABLED") != "ENABLED":
        yield Violation("no grant while drained", event.where, f"{key} is {walk.status[key]}")
    if data["lease_id"] in walk.granted:
        yield Violation("a lease is granted once", event.where, f"{data['lease_id']} was there before")
    if claim is None:
        yield Violation("only who waits is granted", event.where, f"{data['claim_id']} is not in line")
    else:
        yield from _in_turn(walk, event, claim)
    walk.fences[key], walk.holders[key], walk.held[data["lease_id"]] = data["fence"], data["lease_id"], key
    walk.granted[data["lease_id"]] = (data["claim_id"], key, data["fence"])


def _in_turn(walk: Walk, event: Event, claim: Claim) -> Iterator[Violation]:
    """See that nobody before in line wants what is granted, and that a set is granted as a whole."""
    data = event.data
    if data["place"] == 1:
        others = [other for other in walk.line.values() if other is not claim and not walk.is_beside(other)]
        others = [other for other in others if any(walk.wants(other, key) for key in data["keys"])]
        for other in others:
            if other.rank < claim.rank:
                what = f"{other.data['claim_id']} of line {other.seq} was before {data['claim_id']} of line {claim.seq}"
                yield Violation("the line is kept", event.where, what)
        for other in others:
            other.overtaken += other.seq < claim.seq
    claim.got += 1
    if data["place"] != claim.got or data["key"] != data["keys"][claim.got - 1]:
        yield Violation("all or nothing", event.where, f"{data['key']} is {data['place']} of {data['keys']}")
    if claim.got == data["of"]:
        del walk.line[data["claim_id"]]


def _by_holder(walk: Walk, event: Event) -> Iterator[Violation]:
    lease_id = event.data["lease_id"]
    key = walk.held.get(lease_id)
    if key is None:
        yield Violation("nothing stale is accepted", event.where, f"{event.type} of {lease_id}, which nobody holds")
        return
    if event.type == "lease.transferred":
        if event.data["fence"] <= walk.fences[key]:
            yield Violation("fences grow", event.where, f"{event.data['fence']} after {walk.fences[key]} of {key}")
        walk.fences[key] = event.data["fence"]
    if event.type in ENDS:
        del walk.held[lease_id]
        if walk.holders.get(key) == lease_id:
            del walk.holders[key]


def _about_key(walk: Walk, event: Event) -> None:
    key = event.data["key"]
    statuses = {"resource.draining": "DRAINING", "resource.enabled": "ENABLED", "resource.retired": "RETIRED"}
    walk.status[key] = statuses.get(event.type, walk.status.get(key, "ENABLED"))
    if event.type == "resource.declared":
        walk.labels[key] = event.data["labels"]


def bound(runs: Iterable[Log], walk: Walk) -> Iterator[Violation]:
    """Say which run was said to hold what it was never granted, or went on holding after its end."""
    for log in runs:
        over = any(event.type in ("run.completed", "run.failed", "run.cancelled") for event in log.events)
        for event in log.events:
            if event.type != "run.lease_bound":
                continue
            for lease in event.data["leases"]:
                grant = (event.data["claim_id"], lease["key"], lease["fence"])
                if walk.granted.get(lease["lease_id"]) != grant:
                    yield Violation("a run holds what it was granted", event.where, f"{lease['lease_id']} was not")
                if over and lease["lease_id"] in walk.held:
                    what = f"{lease['lease_id']} is held, and the run has ended"
                    yield Violation("leases end with their run", event.where, what)


def unended(walk: Walk) -> Iterator[Violation]:
    """Name who still holds or waits: at the end of a soak there is nobody."""
    for lease_id, key in walk.held.items():
        yield Violation("every lease ends", "resources", f"{lease_id} still holds {key}")
    for claim_id in walk.line:
        yield Violation("every claim ends", "resources", f"{claim_id} still waits")
