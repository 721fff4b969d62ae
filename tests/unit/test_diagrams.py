"""Do the READMEs draw the states that the code has, and arrows that lead where its folds and rules lead?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias, get_args, get_type_hints

from msgspec.structs import replace

from eventlog.__main__ import EXIT_CODES
from merlin_es.cli.execution import OUTCOMES
from merlin_es.commands import Caller, Declare
from merlin_es.deciders import lease as rules
from merlin_es.errors import MerlinError
from projections.cluster import ClusterStatus
from projections.events import cluster as c
from projections.events import execution as x
from projections.events import lease as e
from projections.lease_state import Ending, KeyStatus, Resources
from tests.examples import ROOT
from tests.lease_examples import Room, Sight, folded
from tests.run_examples import CLUSTER_EVENTS, CLUSTER_IMPORTED, CLUSTER_STARTED, cluster_after, kinds
from tests.unit.test_cluster_fold import ATTACHED, STOPPED, WISH

Arrow: TypeAlias = tuple[str, str, str]
"""From which state to which, and the type of the event that does it."""


def drawn(heading: str, part: str = "") -> set[Arrow]:
    """Give the arrows of the diagram below a heading of the README, or of one part of it."""
    text = (ROOT / "projections" / "README.md").read_text().partition(f"\n## {heading}\n")[2]
    diagram = text.partition("```mermaid\nstateDiagram-v2\n")[2].partition("```")[0]
    if part:
        diagram = diagram.partition(f" as {part} {{\n")[2].partition("    }\n")[0]
    arrows = re.findall(r"(\S+) --> ([^\s:]+)(?:: (.*))?", diagram)
    assert arrows, heading
    return {(start, end, type_) for start, end, label in arrows for type_ in label.split(", ")}


def states(arrows: set[Arrow]) -> set[str]:
    return {state for start, end, _ in arrows for state in (start, end)} - {"[*]"}


KEYS = "The states of a key, and of who wants it"
SIGHT = Sight()
LEASE = "lease-0000000001"
QUEUED = e.ClaimQueued(claim_id="claim-0000000001", owner="ada", keys=("k",), tick=SIGHT.tick)
GRANTED = e.LeaseGranted(
    lease_id=LEASE, key="k", fence=1, claim_id=QUEUED.claim_id, owner="ada", keys=("k",), tick=SIGHT.tick
)
OF_THE_CLAIM: Sequence[e.LeaseEvent] = (
    e.ClaimRenewed(claim_id=QUEUED.claim_id, tick=Sight(1001.0).tick),
    e.ClaimCancelled(claim_id=QUEUED.claim_id, by="ada", reason="r"),
    e.ClaimAbandoned(claim_id=QUEUED.claim_id, evidence="ttl"),
    e.ClaimTimedOut(claim_id=QUEUED.claim_id, waited_s=1),
)
OF_THE_LEASE: Sequence[e.LeaseEvent] = (
    e.LeaseAccepted(lease_id=LEASE),
    e.LeaseRenewed(lease_id=LEASE, tick=SIGHT.tick),
    e.LeaseTransferred(lease_id=LEASE, owner="bob", fence=2, by="ada", tick=SIGHT.tick),
    e.LeaseReleased(lease_id=LEASE, by="ada"),
    e.LeaseExpired(lease_id=LEASE, evidence="ttl", tick=SIGHT.tick),
    e.LeaseRevoked(lease_id=LEASE, by="bob", reason="r"),
)
OF_A_KEY = (e.ResourceDeclared, e.ResourceDraining, e.ResourceEnabled, e.ResourceRetired)


def test_the_events_of_claims_and_leases_that_are_tried_are_all_that_there_are() -> None:
    tried = {type(event) for event in (QUEUED, GRANTED, *OF_THE_CLAIM, *OF_THE_LEASE)} | {*OF_A_KEY}
    assert tried | {e.ResourcesLogRepaired} == set(get_args(e.LeaseEvent))


def test_who_wants_a_key_goes_the_ways_that_are_drawn_and_no_other() -> None:
    seen: set[Arrow] = {("[*]", standing(folded([QUEUED])), QUEUED.type)}
    for before in ((QUEUED,), (QUEUED, GRANTED), *((QUEUED, GRANTED, end) for end in OF_THE_LEASE[-3:])):
        state = folded(before)
        events = [*OF_THE_CLAIM, *OF_THE_LEASE, *([GRANTED] if len(before) == 1 else [])]
        for event in events:
            after = folded([event], state, len(before) + 1)
            if (after.claims, after.leases) != (state.claims, state.leases):
                seen.add((standing(state), standing(after), event.type))
    arrows = drawn(KEYS, "who")
    assert seen == {arrow for arrow in arrows if arrow[2]}
    assert {start for start, _, type_ in arrows if not type_} == set(get_args(Ending))
    assert states(arrows) == {"waiting", "active", *get_args(Ending)}


def standing(state: Resources) -> str:
    """Say how it stands with the one claim, and the one lease, of these tests."""
    if state.claims:
        return "waiting"
    if state.leases:
        return "active"
    return str(state.touched.ended) if state.touched else "[*]"


def declare(key: str, caller: Caller, state: Resources, observer: Sight) -> Sequence[e.LeaseEvent]:
    return rules.declare(Declare(key), caller, state, observer)


VERBS = (declare, rules.drain, rules.enable, rules.retire)


def test_a_key_goes_the_ways_that_are_drawn_and_no_other() -> None:
    queued = folded([QUEUED])
    seen: set[Arrow] = {("[*]", queued.keys["k"].status, QUEUED.type)}
    for before in ((), (declare,), (declare, rules.drain), (declare, rules.retire)):
        for verb in VERBS:
            room = Room()
            for earlier in before:
                room.take(earlier("k", room.caller(reason="r"), room.state, room.sight))
            start = room.state.keys["k"].status if before else "[*]"
            with suppress(MerlinError):
                events = verb("k", room.caller(reason="r"), room.state, room.sight)
                room.take(events)
                seen |= {(start, room.state.keys["k"].status, event.type) for event in events}
    arrows = drawn(KEYS, "key")
    assert {arrow for arrow in seen if arrow[0] != arrow[1]} == {arrow for arrow in arrows if arrow[2]}
    assert states(arrows) == set(get_args(KeyStatus))


BEGINNINGS: Mapping[str, Sequence[c.ClusterEvent]] = {
    "[*]": (),
    "not_started": (WISH,),
    "active": (WISH, CLUSTER_STARTED),
    "unavailable": (WISH, c.StartFailed(reason="ray_missing", message="m")),
    "error": (WISH, c.StartFailed(reason="head_failed", message="m")),
    "stopped": (WISH, CLUSTER_STARTED, STOPPED),
}
FOLLOWING: Sequence[c.ClusterEvent] = (
    *CLUSTER_EVENTS,
    ATTACHED,
    c.StartFailed(reason="ray_missing", message="m"),
    c.StartFailed(reason="head_failed", message="m"),
    *(replace(CLUSTER_IMPORTED, status=status) for status in ("active", "stopped", "error", "not_started")),
)


def test_the_cluster_goes_the_ways_that_are_drawn() -> None:
    arrows = drawn("The states of the cluster")
    assert states(arrows) == set(get_args(ClusterStatus)) - {"dry_run"}
    possible = {
        (start, cluster_after(*before, event).status, event.type)
        for start, before in BEGINNINGS.items()
        for event in FOLLOWING
    }
    assert arrows <= possible
    changes = {(end, type_) for start, end, type_ in possible if start not in ("[*]", end)}
    assert {(end, type_) for _, end, type_ in arrows} == changes


def test_the_states_of_a_log_and_the_events_of_executions_that_are_drawn_are_those_of_the_code() -> None:
    log = (ROOT / "eventlog" / "README.md").read_text().partition("stateDiagram-v2\n")[2].partition("```")[0]
    assert {word for line in log.splitlines() for word in re.findall(r"\w+", line.partition(":")[0])} == set(EXIT_CODES)
    executions = (ROOT / "merlin_es" / "targetgen" / "README.md").read_text()
    diagrams = re.findall(r"```mermaid\n(stateDiagram.*?)```", executions, re.DOTALL)
    labels = {name for each in diagrams for line in re.findall(r": (.*)", each) for name in line.split(", ")}
    assert len(labels) > 15
    assert labels <= {name for kind in kinds(x.ExecutionEvent) for name in get_args(get_type_hints(kind)["type"])}
    codes = re.findall(r"^\| (\d+) \| `(\w+)`", executions, re.MULTILINE)
    assert {outcome: int(code) for code, outcome in codes} == OUTCOMES
