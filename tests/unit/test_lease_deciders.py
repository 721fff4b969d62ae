"""Who gets what, who keeps it, and what ends it? Each rule: yes, no, and asked twice."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from merlin_es.commands import Declare
from merlin_es.deciders import lease as rules
from merlin_es.errors import Busy, Drained, LeaseLost, NotFound, Refused, Unsatisfiable
from projections.lease_state import Liveness, Pool, Process, Waiter
from tests.lease_examples import BOOT, NOW, OTHER_BOOT, PROCESS, Room

MANUAL = Liveness()


@pytest.fixture
def room() -> Room:
    return Room()


def reserve(room: Room, *keys: str, **more: object) -> str:
    """Reserve, and give the claim."""
    wish = room.wish(*keys, **more)  # type: ignore[arg-type]
    room.take(rules.reserve(wish, f"{wish.owner}@lab", room.state, room.sight))
    return wish.claim_id


def release(room: Room, claim_id: str) -> list[str]:
    lease = room.state.leases[room.lease_of(claim_id)]
    caller = room.caller("x@y", fence=lease.fence)
    return room.take(rules.release(lease.lease_id, caller, room.state, room.sight))


def holders(room: Room) -> dict[str, str]:
    return {lease.key: lease.owner for lease in room.state.leases.values()}


def reap(room: Room) -> list[str]:
    return room.take(rules.reap(NOW, "reaper@lab", room.state, room.sight))


# reserve: transitions 1, 2, 3


def test_a_free_key_is_granted_in_the_append_of_its_claim(room: Room) -> None:
    wish = room.wish("u250", waits=False)
    assert room.take(rules.reserve(wish, "ada@lab", room.state, room.sight)) == ["claim.queued", "lease.granted"]
    lease = room.state.leases[room.lease_of(wish.claim_id)]
    assert (lease.key, lease.owner, lease.fence, lease.status) == ("u250", "ada", 1, "active")
    assert rules.reserve(wish, "ada@lab", room.state, room.sight) == ()


def test_a_key_that_is_held_is_refused_and_the_holder_is_named(room: Room) -> None:
    reserve(room, "u250", owner="ada", on_behalf_of="eve")
    reserve(room, "u250", owner="cid")
    with pytest.raises(Busy, match=r"held by ada on behalf of eve since 2026.* until 2026.*ttl:60.*1 wait"):
        reserve(room, "u250", owner="bob", waits=False)
    assert holders(room) == {"u250": "ada"}


def test_who_waits_is_in_line_and_gets_the_key_in_the_append_of_its_release(room: Room) -> None:
    first = reserve(room, "u250", owner="ada")
    second = reserve(room, "u250", owner="bob")
    assert second in room.state.claims
    assert release(room, first) == ["lease.released", "lease.granted"]
    assert holders(room) == {"u250": "bob"}
    assert room.state.keys["u250"].fence == 2
    assert not room.state.claims


def test_who_does_not_wait_does_not_pass_those_in_line(room: Room) -> None:
    reserve(room, "a", owner="ada")
    reserve(room, "a", "b", owner="bob")
    with pytest.raises(Busy, match="b is free, but 1 are in line before"):
        reserve(room, "b", owner="cid", waits=False)


def test_what_nobody_can_ever_get_is_refused_at_once(room: Room) -> None:
    with pytest.raises(Unsatisfiable, match="1 keys with board=x60 are wanted, and there are 0"):
        reserve(room, pool=Pool("board", "x60"))
    reserve(room, "u250")
    room.take(rules.retire("u250", room.caller(reason="sold"), room.state, room.sight))
    with pytest.raises(Unsatisfiable, match=r"u250 \(sold\) was retired"):
        reserve(room, "u250")


# order, sets, pools


def test_the_higher_priority_is_first_and_within_one_who_came_first(room: Room) -> None:
    first = reserve(room, "k", owner="ada")
    for owner, priority in (("bob", 0), ("cid", 5), ("dan", 0), ("eve", 5)):
        reserve(room, "k", owner=owner, priority=priority)
    served = []
    claim = first
    while room.state.leases:
        served.append(holders(room)["k"])
        claim = room.state.leases[next(iter(room.state.leases))].claim_id
        release(room, claim)
    assert served == ["ada", "cid", "eve", "bob", "dan"]


def test_nobody_is_overtaken_more_than_eight_times(room: Room) -> None:
    claim = reserve(room, "k", owner="first")
    reserve(room, "k", owner="patient")
    served = []
    for number in range(12):
        reserve(room, "k", owner=f"pushy{number}", priority=9)
        release(room, claim)
        served.append(holders(room)["k"])
        claim = next(iter(room.state.leases.values())).claim_id
    assert served.index("patient") == 8


def test_a_set_is_granted_when_all_of_it_is_free_and_holds_nothing_while_it_waits(room: Room) -> None:
    held = reserve(room, "a", owner="ada")
    reserve(room, "a", "b", owner="bob")
    assert holders(room) == {"a": "ada"}
    assert release(room, held) == ["lease.released", "lease.granted", "lease.granted"]
    assert holders(room) == {"a": "bob", "b": "bob"}


def test_a_set_does_not_starve_behind_single_keys(room: Room) -> None:
    a, b = reserve(room, "a", owner="ada"), reserve(room, "b", owner="bob")
    reserve(room, "a", "b", owner="both")
    reserve(room, "a", owner="late")
    release(room, a)
    assert holders(room) == {"b": "bob"}
    release(room, b)
    assert holders(room) == {"a": "both", "b": "both"}


def test_a_pool_gives_as_many_as_were_asked_for(room: Room) -> None:
    for key in ("x1", "x2", "x3"):
        room.take(rules.declare(Declare(key, {"board": "x"}), room.caller(), room.state, room.sight))
    reserve(room, "x1", owner="ada")
    reserve(room, pool=Pool("board", "x", 2), owner="bob")
    assert holders(room) == {"x1": "ada", "x2": "bob", "x3": "bob"}
    claim = reserve(room, pool=Pool("board", "x"), owner="cid")
    assert claim in room.state.claims


# transition 4, to renew


def test_a_renewal_begins_the_time_to_live_again(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    room.sight.now_s += 50
    assert room.take(rules.renew(lease_id, room.caller(fence=1), room.state, room.sight)) == ["lease.renewed"]
    assert rules.renew(lease_id, room.caller(fence=1), room.state, room.sight) == ()
    room.sight.now_s += 50
    assert reap(room) == []


def test_a_renewal_with_an_old_fence_is_refused(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    room.take(rules.transfer(lease_id, "eve", None, room.caller(), room.state, room.sight))
    with pytest.raises(LeaseLost, match="is eve's now, with the fence 2"):
        rules.renew(lease_id, room.caller(fence=1), room.state, room.sight)


def test_a_lease_without_a_time_to_live_needs_no_renewal(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250", liveness=MANUAL))
    with pytest.raises(Refused, match="it needs no renewal"):
        rules.renew(lease_id, room.caller(), room.state, room.sight)


# release, revoke: 5, 7


def test_only_its_owner_releases_a_lease(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    for caller in (room.caller("bob@lab"), room.caller(owner="bob"), room.caller("bob@lab", force=True)):
        with pytest.raises(Refused):
            rules.release(lease_id, caller, room.state, room.sight)
    for caller in (room.caller("ada@lab"), room.caller("x@y", owner="ada"), room.caller("x@y", fence=1)):
        assert len(rules.release(lease_id, caller, room.state, room.sight)) == 1


def test_releasing_what_is_released_is_success_and_says_nothing(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    room.take(rules.release(lease_id, room.caller(), room.state, room.sight))
    past = room.state.touched
    assert past
    assert rules.release(lease_id, room.caller(), room.state, room.sight, past) == ()
    with pytest.raises(NotFound):
        rules.release("lease-ffffffffff", room.caller(), room.state, room.sight)


def test_force_takes_a_lease_away_and_sends_its_owner_out_of_the_line(room: Room) -> None:
    claim = reserve(room, "u250", owner="ada")
    again, other = reserve(room, "u250", owner="ada"), reserve(room, "u250", owner="bob")
    caller = room.caller("boss@lab", force=True, reason="it burns")
    lease_id = room.lease_of(claim)
    types = room.take(rules.release(lease_id, caller, room.state, room.sight))
    assert types == ["lease.revoked", "claim.cancelled", "lease.granted"]
    assert again not in room.state.claims
    assert holders(room) == {"u250": "bob"}
    assert room.lease_of(other)


def test_a_revoked_lease_is_lost_to_its_holder_who_is_told_by_whom_and_when(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    room.take(rules.release(lease_id, room.caller("boss@lab", force=True, reason="it burns"), room.state, room.sight))
    past = room.state.touched
    with pytest.raises(LeaseLost, match=r"revoked at 2026.* by boss@lab \(it burns\)"):
        rules.check(lease_id, 1, room.caller(), room.state, past)
    with pytest.raises(LeaseLost):
        rules.release(lease_id, room.caller(fence=1), room.state, room.sight, past)


# transition 6, to expire


def test_a_time_to_live_is_a_lower_bound_by_the_clock_of_the_boot(room: Room) -> None:
    reserve(room, "u250")
    room.sight.now_s += 60
    assert reap(room) == []
    room.sight.now_s += 0.001
    assert reap(room) == ["lease.expired"]
    assert reap(room) == []


def test_another_boot_expires_a_lease_only_after_it_has_itself_seen_a_whole_time_to_live(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    room.sight.boot_id, room.sight.now_s = OTHER_BOOT, 1e6
    assert reap(room) == []
    room.sight.now_s += 59
    assert reap(room) == []
    room.sight.boot_id = BOOT
    room.sight.now_s = 1050
    room.take(rules.renew(lease_id, room.caller(), room.state, room.sight))
    room.sight.boot_id, room.sight.now_s = OTHER_BOOT, 1e6 + 61
    assert reap(room) == []
    room.sight.now_s += 61
    assert reap(room) == ["lease.expired"]


def test_a_lease_of_a_process_ends_when_that_very_process_is_gone(room: Room) -> None:
    reserve(room, "u250", liveness=Liveness(ttl_s=60.0, process=PROCESS))
    room.sight.gone = {Process(PROCESS.pid, PROCESS.started + 1, BOOT)}
    assert reap(room) == []
    room.sight.gone = {PROCESS}
    assert reap(room) == ["lease.expired"]


def test_a_manual_lease_never_ends_by_itself(room: Room) -> None:
    reserve(room, "u250", liveness=MANUAL)
    room.sight.now_s += 1e9
    assert reap(room) == []


def test_no_lease_of_a_key_lasts_longer_than_the_key_allows(room: Room) -> None:
    room.take(rules.declare(Declare("u250", max_duration_s=100.0), room.caller(), room.state, room.sight))
    lease_id = room.lease_of(reserve(room, "u250"))
    for _ in range(4):
        room.sight.now_s += 25
        assert reap(room) == []
        room.take(rules.renew(lease_id, room.caller(), room.state, room.sight))
    room.sight.now_s += 1
    assert reap(room) == ["lease.expired"]


def test_the_dead_are_put_away_and_what_they_held_goes_to_the_living(room: Room) -> None:
    dead = Process(1, 1, BOOT)
    reserve(room, "u250", owner="ada", liveness=Liveness(ttl_s=60.0, process=dead))
    reserve(room, "u250", owner="bob", waiter=Waiter(30.0, dead))
    reserve(room, "u250", owner="cid")
    room.sight.gone = {dead}
    assert reap(room) == ["claim.abandoned", "lease.expired", "lease.granted"]
    assert holders(room) == {"u250": "cid"}


def test_who_is_seen_to_be_gone_is_not_granted_anything(room: Room) -> None:
    claim = reserve(room, "u250", owner="ada")
    dead = Process(1, 1, BOOT)
    reserve(room, "u250", owner="bob", waiter=Waiter(30.0, dead))
    reserve(room, "u250", owner="cid")
    room.sight.gone = {dead}
    assert release(room, claim) == ["lease.released", "claim.abandoned", "lease.granted"]
    assert holders(room) == {"u250": "cid"}


def test_a_manual_lease_that_was_handed_to_a_waiter_who_died_meanwhile_ends(room: Room) -> None:
    claim = reserve(room, "u250", owner="ada")
    waiter = Process(1, 1, BOOT)
    mine = reserve(room, "u250", owner="bob", liveness=MANUAL, waiter=Waiter(30.0, waiter))
    release(room, claim)
    room.sight.gone = {waiter}
    before = room.state
    assert reap(room) == ["lease.expired"]
    room.state = before
    assert room.take(rules.accept(room.lease_of(mine), room.state)) == ["lease.accepted"]
    assert rules.accept(room.lease_of(mine), room.state) == ()
    assert reap(room) == []


# run ended: 8


def test_a_lease_of_a_run_ends_with_it(room: Room) -> None:
    reserve(room, "u250", liveness=Liveness(run_id="r"), waiter=None)
    reserve(room, "u250", owner="bob", liveness=Liveness(run_id="q"), waiter=None)
    assert reap(room) == []
    room.sight.ended = {"r": "completed", "q": "cancelled"}
    assert reap(room) == ["claim.cancelled", "lease.released"]
    assert reap(room) == []


# transition 9, the ends of claims


def test_who_leaves_the_line_frees_those_behind(room: Room) -> None:
    reserve(room, "a", owner="ada")
    claim = reserve(room, "a", "b", owner="bob")
    reserve(room, "b", owner="cid")
    caller = room.caller()
    assert room.take(rules.leave(claim, "lunch", caller, room.state, room.sight)) == [
        "claim.cancelled",
        "lease.granted",
    ]
    assert rules.leave(claim, "lunch", caller, room.state, room.sight) == ()


def test_a_waiter_that_is_not_heard_of_is_abandoned_and_one_that_is_not(room: Room) -> None:
    reserve(room, "u250", owner="ada", liveness=MANUAL)
    silent, alive = reserve(room, "u250", owner="bob"), reserve(room, "u250", owner="cid")
    room.sight.now_s += 20
    assert room.take(rules.beat(alive, room.state, room.sight)) == ["claim.renewed"]
    assert rules.beat(alive, room.state, room.sight) == ()
    room.sight.now_s += 20
    assert reap(room) == ["claim.abandoned"]
    assert (silent in room.state.claims, alive in room.state.claims) == (False, True)


def test_a_wait_that_was_long_enough_ends(room: Room) -> None:
    reserve(room, "u250", owner="ada")
    claim = reserve(room, "u250", owner="bob")
    assert room.take(rules.time_out(claim, 10.0, room.caller(), room.state, room.sight)) == ["claim.timed_out"]
    assert rules.time_out(claim, 10.0, room.caller(), room.state, room.sight) == ()


# drain, enable, retire: 10


def test_a_drained_key_is_left_to_its_holder_and_granted_to_nobody(room: Room) -> None:
    claim = reserve(room, "u250", owner="ada")
    caller = room.caller(reason="a new fan")
    assert room.take(rules.drain("u250", caller, room.state, room.sight)) == ["resource.draining"]
    assert rules.drain("u250", caller, room.state, room.sight) == ()
    assert holders(room) == {"u250": "ada"}
    reserve(room, "u250", owner="bob")
    assert release(room, claim) == ["lease.released"]
    with pytest.raises(Drained, match="a new fan"):
        reserve(room, "u250", owner="cid", waits=False)
    assert room.take(rules.enable("u250", room.caller(), room.state, room.sight)) == [
        "resource.enabled",
        "lease.granted",
    ]
    assert rules.enable("u250", room.caller(), room.state, room.sight) == ()


def test_who_waits_for_a_drained_key_keeps_nobody_from_the_others(room: Room) -> None:
    reserve(room, "a", owner="ada")
    reserve(room, "a", "b", owner="bob")
    reserve(room, "b", owner="cid")
    types = room.take(rules.drain("a", room.caller(reason="fan"), room.state, room.sight))
    assert types == ["resource.draining", "lease.granted"]


def test_a_retired_key_is_nobodys_any_more_and_who_waits_in_vain_is_sent_away(room: Room) -> None:
    reserve(room, "u250", owner="ada")
    reserve(room, "u250", owner="bob")
    caller = room.caller(reason="sold")
    assert room.take(rules.retire("u250", caller, room.state, room.sight)) == ["resource.retired", "claim.cancelled"]
    assert rules.retire("u250", caller, room.state, room.sight) == ()
    for verb in (rules.enable, rules.drain):
        with pytest.raises(Refused, match="was retired"):
            verb("u250", caller, room.state, room.sight)


@pytest.mark.parametrize("verb", [rules.drain, rules.retire])
def test_what_keeps_others_from_a_key_takes_a_reason(room: Room, verb: object) -> None:
    reserve(room, "u250")
    with pytest.raises(Refused, match="takes a reason"):
        verb("u250", room.caller(), room.state, room.sight)  # type: ignore[operator]
    with pytest.raises(NotFound, match="declare nothing"):
        verb("nothing", room.caller(reason="r"), room.state, room.sight)  # type: ignore[operator]


def test_declaring_the_same_again_says_nothing_and_a_new_label_serves_who_waits_for_it(room: Room) -> None:
    x = Declare("x1", {"board": "x"})
    assert room.take(rules.declare(x, room.caller(), room.state, room.sight)) == ["resource.declared"]
    assert rules.declare(x, room.caller(), room.state, room.sight) == ()
    reserve(room, "x1", owner="ada")
    reserve(room, pool=Pool("board", "x"), owner="bob")
    types = room.take(rules.declare(replace(x, key="x2"), room.caller(), room.state, room.sight))
    assert types == ["resource.declared", "lease.granted"]


# transfer: 11; old fences: 12


def test_a_transfer_gives_another_fence_and_the_old_one_changes_nothing_any_more(room: Room) -> None:
    lease_id = room.lease_of(reserve(room, "u250"))
    with pytest.raises(Refused):
        rules.transfer(lease_id, "eve", None, room.caller("bob@lab"), room.state, room.sight)
    caller = room.caller(fence=1)
    assert room.take(rules.transfer(lease_id, "eve", "boss", caller, room.state, room.sight)) == ["lease.transferred"]
    lease = room.state.leases[lease_id]
    assert (lease.owner, lease.on_behalf_of, lease.fence) == ("eve", "boss", 2)
    assert rules.transfer(lease_id, "eve", "boss", room.caller(fence=2), room.state, room.sight) == ()
    for stale in (
        lambda: rules.transfer(lease_id, "bob", None, caller, room.state, room.sight),
        lambda: rules.release(lease_id, caller, room.state, room.sight),
        lambda: rules.renew(lease_id, caller, room.state, room.sight),
        lambda: rules.check(lease_id, 1, room.caller(), room.state),
    ):
        with pytest.raises(LeaseLost):
            stale()
    assert rules.check(lease_id, 2, room.caller(), room.state) == lease
