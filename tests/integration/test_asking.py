"""Is a wish that was only asked for decided in its order and as its asker's, and what if it is lost?"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventlog import FileLog
from merlin_es import bootstrap
from merlin_es.asking import Pipe, Wish
from merlin_es.bells import Bells
from merlin_es.commands import Reserve
from merlin_es.deciders import lease as rules
from merlin_es.drafts import Asked, Outcome
from merlin_es.errors import Busy, LeaseLost
from merlin_es.resources import Leases
from merlin_es.settings import Settings
from merlin_es.turns import Others, Turns
from projections.events import lease as e
from projections.layout import RESOURCES, StateLayout
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import Lease, Liveness, Resources
from tests.examples import happened, unsynced
from tests.holders import give_back, leases_of, wish
from tests.lease_examples import Clock, leases_at

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
LIMIT_S = 60.0


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def asked(owner: str) -> Reserve:
    return wish(owner, "slot0", ttl_s=30.0)


def test_what_was_asked_is_in_the_append_of_the_release_in_its_order_and_by_its_asker(tmp_path: Path) -> None:
    leases = leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    for owner in ("bob", "eve"):
        assert leases.desk.asking.wishes.put(Wish(f"{owner}@lab", asked(owner), "agent"))
    give_back(leases, held)
    *_, first, second, released, granted = LEASE_PROJECTION.codec.decode(leases.log.read(RESOURCES))
    assert [type(each.event) for each in (released, granted)] == [e.LeaseReleased, e.LeaseGranted]
    assert [each.actor for each in (first, second, released)] == ["bob@lab", "eve@lab", "ada@lab"]
    assert [each.door for each in (first, second, released, granted)] == ["agent", "agent", "cli", "cli"]
    assert {event.batch for event in list(leases.log.read(RESOURCES))[-4:]} == {f"{k}/4" for k in (1, 2, 3, 4)}
    [lease], [claim] = leases.state().leases.values(), leases.state().claims.values()
    assert (lease.owner, lease.actor, claim.owner) == ("bob", "bob@lab", "eve")


@contextmanager
def somebody_has_a_turn(root: Path) -> Iterator[Callable[[], None]]:
    """Keep everybody from a turn, until what this gives is called."""
    fd = os.open(root / RESOURCES / "turn.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield lambda: fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def test_a_wish_that_is_lost_with_who_has_read_it_is_recorded_by_its_asker(tmp_path: Path) -> None:
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    got: list[Lease] = []
    waiter = threading.Thread(target=lambda: got.extend(other.reserve(asked("bob"))), daemon=True)
    with somebody_has_a_turn(tmp_path) as end_turn:
        waiter.start()
        until(leases.desk.asking.wishes.empty)  # As by somebody who is killed before it has appended.
        end_turn()
    until(lambda: leases.turns.look()[0].claims)
    give_back(leases, held)
    waiter.join(LIMIT_S)
    assert [lease.owner for lease in got] == ["bob"]


class Accident(Pipe[Wish]):
    """A pipe at the end of which somebody grants what is asked for, and somebody else takes it away, at once."""

    def __init__(self, root: Path, what: Callable[[], None]) -> None:
        super().__init__(root / RESOURCES / "asked", Wish)
        self._what = what

    def put(self, thing: Wish) -> bool:
        """Put a wish into the pipe, and have the accident happen before the asker goes on."""
        done = super().put(thing)
        self._what()
        return done


def ask_and_lose_it(root: Path, later_s: float) -> tuple[Leases, tuple[Lease, ...] | LeaseLost]:
    """Ask to be put in line, and have the lease taken away before looking, which is so much later."""
    clock = Clock()
    leases, other = leases_at(root, clock), leases_at(root, clock)
    held = leases.reserve(replace(asked("ada"), waits=False))

    with somebody_has_a_turn(root) as end_turn:

        def grant_and_revoke() -> None:
            end_turn()
            give_back(leases, held)
            granted = leases.holder("slot0")
            assert granted.owner == "bob"
            leases.release(granted.lease_id, owner="boss", force=True, reason="it burns")
            clock.boottime_s += later_s

        other.desk.asking.wishes = Accident(root, grant_and_revoke)
        try:
            return leases, other.reserve(replace(asked("bob"), liveness=Liveness(30.0)))
        except LeaseLost as lost:
            return leases, lost


@pytest.mark.parametrize("later_s", [0.0, 5.0])
def test_a_claim_that_was_granted_and_taken_away_before_its_asker_looked_is_not_queued_again(
    tmp_path: Path, later_s: float
) -> None:
    leases, _ = ask_and_lose_it(tmp_path, later_s)
    queued = [event for event in leases.log.read(RESOURCES) if event.type == "claim.queued"]
    assert len({event.data["claim_id"] for event in queued}) == len(queued) == 2
    assert not leases.state().claims
    assert not leases.state().leases


def test_a_bell_that_was_not_listened_to_for_a_while_is_not_believed(tmp_path: Path) -> None:
    _, outcome = ask_and_lose_it(tmp_path, 5.0)
    assert isinstance(outcome, LeaseLost)
    assert "revoked before it was taken" in str(outcome)


def test_a_lease_that_is_lost_while_its_holder_is_told_of_it_is_refused_when_it_acts(tmp_path: Path) -> None:
    leases, outcome = ask_and_lose_it(tmp_path, 0.0)
    assert not isinstance(outcome, LeaseLost)
    [lease] = outcome
    with pytest.raises(LeaseLost, match="revoked"):
        leases.check(lease.lease_id, lease.fence)


def test_who_gives_back_while_somebody_has_a_turn_has_it_done_there_and_is_told(tmp_path: Path) -> None:
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    before = leases.log.head(RESOURCES)
    with somebody_has_a_turn(tmp_path) as end_turn:
        giver = threading.Thread(target=give_back, args=(leases, held), daemon=True)
        giver.start()
        until(lambda: other.desk.asking.returns.has_some(0))
        end_turn()
        other.take(lambda _: ())
    giver.join(LIMIT_S)
    assert not giver.is_alive()
    [released] = LEASE_PROJECTION.codec.decode(leases.log.read(RESOURCES, before.seq + 1))
    assert isinstance(released.event, e.LeaseReleased)
    assert released.actor == "ada@lab"
    again = leases.release(held[0].lease_id, fence=held[0].fence)
    assert again.ended == "released"
    assert leases.log.head(RESOURCES).seq == before.seq + 1


def test_what_nobody_gives_back_for_its_asker_is_given_back_by_it(tmp_path: Path) -> None:
    leases, thief = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    with somebody_has_a_turn(tmp_path) as end_turn:
        giver = threading.Thread(target=give_back, args=(leases, held), daemon=True)
        giver.start()
        until(thief.desk.asking.returns.empty)  # As by somebody who is killed before it has appended.
        end_turn()
        giver.join(LIMIT_S)
    assert not giver.is_alive()
    assert not leases.state().leases


def test_who_gives_back_with_an_old_fence_while_somebody_has_a_turn_is_refused(tmp_path: Path) -> None:
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    [lease] = leases.reserve(wish("ada", "slot0", waits=False))
    moved = leases.transfer(lease.lease_id, "bob", None, fence=lease.fence)
    lost: list[LeaseLost] = []

    def give_back_too_late() -> None:
        try:
            leases.release(lease.lease_id, fence=lease.fence)
        except LeaseLost as error:
            lost.append(error)

    with somebody_has_a_turn(tmp_path) as end_turn:
        giver = threading.Thread(target=give_back_too_late, daemon=True)
        giver.start()
        until(lambda: other.desk.asking.returns.has_some(0))
        end_turn()
        other.take(lambda _: ())
        giver.join(LIMIT_S)
    assert "bob's now" in str(lost[0])
    assert leases.state().leases[lease.lease_id].fence == moved.fence


def test_whoever_has_handed_a_key_on_stays_to_take_it_back(tmp_path: Path) -> None:
    """The next holder appends nothing itself: what it gives back is in an append of who has handed it the key."""
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    waiter = threading.Thread(target=lambda: give_back(other, other.reserve(asked("bob"))), daemon=True)
    waiter.start()
    until(lambda: leases.turns.look()[0].claims)
    leases.turns.stay_s = LIMIT_S
    turn = leases.take(lambda state: rules.release(held[0].lease_id, leases.caller(), state, leases.world.look()))
    waiter.join(LIMIT_S)
    assert [type(event) for event in turn.others] == [e.LeaseReleased]
    assert not turn.state.leases


class Crowd:
    """Others who ask for more and more, each of whom is granted something; `late` ones only when a turn has ended."""

    def __init__(self, *, late: int = 0) -> None:
        self.late = late
        self.is_over = bool(late)
        self._numbers = itertools.count()

    def asked(self) -> list[Asked]:
        """Take what they have asked for: to call a key something else each time."""
        if self.is_over and not self.late:
            return []
        if self.late:
            self.late -= 1
        declared = e.ResourceDeclared(key="slot0", labels={}, description=f"{next(self._numbers)}")
        return [Asked("crowd", "cli", lambda _: (declared,))]

    def wishes(self) -> list[Asked]:
        """Take what has time: nothing has."""
        return []

    def returns(self) -> list[Asked]:
        """Take what has none."""
        return self.asked()

    def is_asked(self) -> bool:
        """Tell whether they have asked for anything."""
        return bool(self.late)

    def is_given_back(self, _limit_s: float) -> bool:
        """Tell that they do, until it is over."""
        return not self.is_over

    def tell(self, _outcome: Outcome) -> bool:
        """Say that somebody was granted something."""
        return True


def turns_of(root: Path, others: Others) -> Turns:
    return Turns(FileLog(StateLayout(root), disk=unsynced()), root, unsynced(), "ada@lab", "cli", others)


def test_whoever_waits_for_a_turn_gets_one_although_others_ask_on_and_on(tmp_path: Path) -> None:
    crowd = Crowd()
    busy, patient = turns_of(tmp_path, crowd), leases_of(tmp_path, sync=False)
    busy.stay_max_s = 1e9
    server = threading.Thread(target=busy.take, daemon=True)
    server.start()
    until(lambda: busy.last().keys)
    try:
        patient.take(lambda _: ())  # Raises Locked when it has waited for too long.
    finally:
        crowd.is_over = True
        server.join(LIMIT_S)


def test_what_somebody_appends_without_a_turn_is_seen_and_decided_on_again(tmp_path: Path) -> None:
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    give_back(leases, leases.reserve(wish("ada", "slot0", waits=False)))
    seen: list[bool] = []

    def reserved(owner: str, state: Resources) -> rules.Events:
        command = replace(wish(owner, "slot0", waits=False), at=leases.world.host.now())
        return rules.reserve(command, f"{owner}@lab", state, leases.world.look())

    def decide(state: Resources) -> rules.Events:
        if not seen:
            other.log.append(RESOURCES, [event.recorded_by("bob@lab", "cli") for event in reserved("bob", state)])
        seen.append(state.holder("slot0") is None)
        return reserved("ada", state)

    with pytest.raises(Busy, match="held by bob"):
        leases.turns.take(decide)
    assert seen == [True, False]
    assert leases.holder("slot0").owner == "bob"


def test_what_is_asked_when_a_turn_has_just_ended_is_decided_by_who_had_it(tmp_path: Path) -> None:
    crowd = Crowd(late=3)
    turn = turns_of(tmp_path, crowd).take()
    assert len(turn.others) == 3
    assert not crowd.late


def test_a_wish_that_has_to_be_refused_spoils_nobodys_turn(tmp_path: Path) -> None:
    leases = leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    leases.reserve(wish("ada", "gone", waits=False))
    leases.set_status("gone", "retire", "sold")
    assert leases.desk.asking.wishes.put(Wish("bob@lab", wish("bob", "gone"), "cli"))
    assert leases.desk.asking.wishes.put(Wish("eve@lab", asked("eve"), "cli"))
    give_back(leases, held)
    holder = leases.state().holder("slot0")
    assert holder is not None
    assert holder.owner == "eve"
    assert not leases.state().claims


def test_a_wish_that_could_be_torn_is_not_put_into_the_pipe(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path, "ada@lab", sync=False)
    leases = bootstrap.leases(settings)
    leases.take()
    assert not leases.desk.asking.wishes.put(
        Wish("bob@lab", wish("bob", *(f"a-key-with-a-long-name-{n:06}" for n in range(200))), "cli")
    )
    assert leases.desk.asking.wishes.empty() == []


def test_a_bell_is_rung_again_and_again_and_taken_down_when_nobody_listens_any_more(tmp_path: Path) -> None:
    mine, other = Bells(tmp_path, unsynced()), Bells(tmp_path, unsynced())
    with other.one() as bell:
        for _ in range(3):
            mine.ring(bell.name)
            assert bell.wait(LIMIT_S)
            assert not bell.wait(0)
    path = tmp_path / RESOURCES / "bells" / bell.name
    assert path.exists()
    assert bell._fd is not None
    os.close(bell._fd)  # As when who waited is killed: the name stays.
    bell._fd = None
    mine.ring(bell.name)
    assert not path.exists()
    mine.ring(bell.name)


def test_a_log_that_skipped_what_its_caller_had_read_still_knows_its_keys(tmp_path: Path) -> None:
    mine, other = FileLog(tmp_path, disk=unsynced()), FileLog(tmp_path, disk=unsynced())
    mine.append("s", [happened("first")])
    for number in range(5):
        other.append("s", [happened(f"other-{number}")], key=f"key-{number}")
    mine.append("s", [happened("mine")], expected=other.head("s"))
    assert mine.append("s", [happened("other-3")], key="key-3").repeated
    assert mine.append("s", [happened("other-4")], key="key-4").repeated
    assert not mine.append("s", [happened("new")], key="key-5").repeated
