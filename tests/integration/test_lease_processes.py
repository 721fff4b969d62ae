"""Does a key have one holder, whoever asks at once, dies, stops, or waits for somebody who does?"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merlin_es.errors import LeaseLost
from projections.events import lease as e
from projections.layout import RESOURCES
from projections.lease_projection import LEASE_PROJECTION
from projections.line import in_line
from tests import holders
from tests.conftest import Figure
from tests.holders import leases_of, wish
from tests.writers import context

PROCESSES = 16
TURNS = 15
OWNERS = 200
LIMIT_S = 120.0


def run_all(target: Callable[..., None], root: Path, *arguments: object) -> list[Any]:
    """Run 16 processes at once, and give what each of them tells."""
    ready = context.Barrier(PROCESSES)
    pairs = [context.Pipe() for _ in range(PROCESSES)]
    workers = [
        context.Process(target=target, args=(root, f"owner{number}", *arguments, ready, pairs[number][1]))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    answers = [outside.recv() if outside.poll(LIMIT_S) else None for outside, _ in pairs]
    for worker in workers:
        worker.join(30)
        worker.kill()
    return answers


def judged(root: Path) -> tuple[int, int, int]:
    """Go through the whole log: give the grants, those to a second holder, and those out of order."""
    leases = leases_of(root, sync=False)
    state, held, grants, doubles, disorders = LEASE_PROJECTION.origin, set[str](), 0, 0, 0
    key_of: dict[str, str] = {}
    for recorded in LEASE_PROJECTION.codec.decode(leases.log.read(RESOURCES)):
        match recorded.event:
            case e.LeaseGranted(key=key, lease_id=lease_id, place=place, claim_id=claim_id):
                grants += 1
                doubles += key in held
                held.add(key)
                key_of[lease_id] = key
                if place == 1:
                    wanted = set(state.claims[claim_id].keys)
                    before = [claim for claim in in_line(state) if wanted & set(claim.keys)]
                    disorders += before[0].claim_id != claim_id
            case e.LeaseReleased() | e.LeaseExpired() | e.LeaseRevoked():
                held.discard(key_of[recorded.event.lease_id])
            case _:
                pass
        state = LEASE_PROJECTION.evolve(state, recorded)
    return grants, doubles, disorders


def shares(root: Path) -> tuple[list[float], int]:
    """Give of each owner which part of all grants it had while it was in line, and how often somebody had two then.

    Its first turn and its last do not count: the line forms and ends then.
    """
    leases = leases_of(root, sync=False)
    meanwhile: dict[str, Counter[str]] = {}
    waits: dict[str, list[Counter[str]]] = {}
    for recorded in LEASE_PROJECTION.codec.decode(leases.log.read(RESOURCES)):
        match recorded.event:
            case e.ClaimQueued(claim_id=claim_id):
                meanwhile[claim_id] = Counter()
            case e.LeaseGranted(claim_id=claim_id, owner=owner):
                waits.setdefault(owner, []).append(meanwhile.pop(claim_id))
                for others in meanwhile.values():
                    others[owner] += 1
            case _:
                pass
    twice = sum(max(others.values(), default=0) > 1 for each in waits.values() for others in each)
    inner = [each[1:-1] for each in waits.values()]
    return [len(each) / (len(each) + sum(others.total() for others in each)) for each in inner], twice


def jain(shares: list[float]) -> float:
    """Give Jain's index: 1 when all have the same."""
    return float(sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares)))


def until(what: Callable[[], object]) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_of_sixteen_processes_on_one_key_one_holds_it_and_all_in_their_order(disk_path: Path, figure: Figure) -> None:
    counts = run_all(holders.take_turns, disk_path, TURNS)
    assert None not in counts
    grants, doubles, disorders = judged(disk_path)
    assert grants == sum(counts) == PROCESSES * TURNS
    assert (doubles, disorders) == (0, 0)
    parts, twice = shares(disk_path)
    assert twice == 0, "somebody had the key twice while somebody else stood in line for it"
    assert len(parts) == PROCESSES  # How even these are depends on how long the machine keeps who out of line.
    assert not leases_of(disk_path).state().leases
    figure(
        f"{PROCESSES} processes, real fdatasync: {grants} grants, {doubles} double, {disorders} out of order, "
        f"Jain {jain(parts):.4f}"
    )


def test_sets_of_keys_neither_deadlock_nor_starve(tmp_path: Path, figure: Figure) -> None:
    waits = run_all(holders.take_sets, tmp_path, 4)
    assert None not in waits, "a deadlock"
    grants, doubles, disorders = judged(tmp_path)
    assert (doubles, disorders) == (0, 0)
    state = leases_of(tmp_path).state()
    assert (len(state.leases), len(state.claims)) == (0, 0)
    figure(f"{PROCESSES} processes, sets of 1 to 4 of 8 keys: {grants} grants, longest wait {max(waits):.1f} s")


def test_what_killed_owners_held_is_granted_again_and_their_fences_are_worth_nothing(
    tmp_path: Path, figure: Figure
) -> None:
    keys = [f"slot{number}" for number in range(OWNERS)]
    inside, outside = context.Pipe()
    killer = context.Process(target=holders.hold_and_die, args=(tmp_path, keys, inside))
    killer.start()
    dead = [outside.recv() for _ in keys if outside.poll(LIMIT_S)]
    killer.join(30)
    leases, accepted = leases_of(tmp_path, sync=False), 0
    assert len(dead) == OWNERS
    for key, lease_id, fence in dead:
        [lease] = leases.reserve(wish("next", key, waits=False))
        assert lease.fence > fence
        try:
            leases.check(lease_id, fence)
            accepted += 1
        except LeaseLost:
            pass
    assert accepted == 0
    assert {lease.owner for lease in leases.state().leases.values()} == {"next"}
    figure(f"{OWNERS} owners killed with -9: {OWNERS} keys granted again, {accepted} stale fences accepted")


def test_an_owner_that_was_stopped_beyond_its_time_to_live_is_told_that_it_lost(tmp_path: Path) -> None:
    inside, outside = context.Pipe()
    owner = context.Process(target=holders.hold_and_renew, args=(tmp_path, inside))
    owner.start()
    lease_id, fence, pid = outside.recv()
    os.kill(pid, signal.SIGSTOP)
    try:
        leases = leases_of(tmp_path)
        [lease] = leases.reserve(wish("next", "slot0"), limit_s=LIMIT_S)
        assert lease.fence == fence + 1
        with pytest.raises(LeaseLost):
            leases.check(lease_id, fence)
    finally:
        os.kill(pid, signal.SIGCONT)
    outside.send("renew")
    assert outside.recv().startswith(f"lost: {lease_id} on slot0 expired at ")
    owner.join(30)
    assert leases.check(lease.lease_id, lease.fence).owner == "next"


def test_a_waiter_that_is_killed_is_abandoned_and_the_next_one_served(tmp_path: Path) -> None:
    leases = leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("holder", "slot0", waits=False))
    inside, _ = context.Pipe()
    waiter = context.Process(target=holders.wait_for_ever, args=(tmp_path, "slot0", inside))
    waiter.start()
    until(lambda: leases.state().claims)
    waiter.kill()
    waiter.join(30)
    holders.give_back(leases, held)
    [lease] = leases.reserve(wish("next", "slot0"), limit_s=LIMIT_S)
    assert lease.owner == "next"
    events = [event.type for event in leases.log.read(RESOURCES)]
    assert Counter(events)["claim.abandoned"] + Counter(events)["lease.expired"] == 1


def test_a_waiter_is_woken_by_the_release(tmp_path: Path) -> None:
    leases = leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("holder", "slot0", waits=False))
    inside, outside = context.Pipe()
    waiter = context.Process(target=holders.wait_for_ever, args=(tmp_path, "slot0", inside))
    waiter.start()
    until(lambda: leases.state().claims)
    outside.recv()
    holders.give_back(leases, held)
    assert outside.poll(LIMIT_S)
    assert outside.recv() == "granted"
    waiter.kill()
    waiter.join(30)


def test_no_child_keeps_a_turn_that_its_parent_has_given_back_or_died_with(tmp_path: Path) -> None:
    inside, outside = context.Pipe()
    parent = context.Process(target=holders.fork_in_a_turn, args=(tmp_path, inside))
    parent.start()
    children = outside.recv()
    try:
        parent.kill()
        parent.join(30)
        leases = leases_of(tmp_path, sync=False)
        [lease] = leases.reserve(wish("next", "other", waits=False))
        assert lease.owner == "next"
        for child in children:
            open_files = {str(path.readlink()) for path in Path(f"/proc/{child}/fd").iterdir()}
            assert not any("turn.lock" in name or "events.jsonl" in name for name in open_files)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_all_processes_were_started_afresh() -> None:
    assert isinstance(context, multiprocessing.context.ForkServerContext)
