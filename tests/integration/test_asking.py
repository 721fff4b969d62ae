"""Is a wish that was only asked for decided in its order and as its asker's, and what if it is lost?"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog import FileLog
from merlin_es import bootstrap
from merlin_es.asking import Asking, Wish
from merlin_es.bells import Bells
from merlin_es.commands import Reserve
from merlin_es.errors import LeaseLost
from merlin_es.settings import Settings
from projections.events import lease as e
from projections.layout import RESOURCES
from projections.lease_state import Lease
from projections.projection import LEASE_PROJECTION
from tests.examples import happened, unsynced
from tests.holders import give_back, leases_of, wish

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
        assert leases.asking.ask(Wish(f"{owner}@lab", asked(owner)))
    give_back(leases, held)
    *_, first, second, released, granted = LEASE_PROJECTION.codec.decode(leases.log.read(RESOURCES))
    assert [type(each.event) for each in (released, granted)] == [e.LeaseReleased, e.LeaseGranted]
    assert [each.actor for each in (first, second, released)] == ["bob@lab", "eve@lab", "ada@lab"]
    assert {event.batch for event in list(leases.log.read(RESOURCES))[-4:]} == {f"{k}/4" for k in (1, 2, 3, 4)}
    [lease], [claim] = leases.state().leases.values(), leases.state().claims.values()
    assert (lease.owner, lease.actor, claim.owner) == ("bob", "bob@lab", "eve")


def test_a_wish_that_is_lost_with_who_has_read_it_is_recorded_by_its_asker(tmp_path: Path) -> None:
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    got: list[Lease] = []
    waiter = threading.Thread(target=lambda: got.extend(other.reserve(asked("bob"))), daemon=True)
    stop = threading.Event()
    thief = threading.Thread(target=lambda: [leases.asking.heard() for _ in iter(stop.is_set, True)], daemon=True)
    thief.start()
    waiter.start()
    until(lambda: leases.turns.last().claims)
    stop.set()
    thief.join()
    give_back(leases, held)
    waiter.join(LIMIT_S)
    assert [lease.owner for lease in got] == ["bob"]


class Accident(Asking):
    """A pipe at the end of which somebody grants what is asked for, and somebody else takes it away, at once."""

    def __init__(self, root: Path, what: Callable[[], None]) -> None:
        super().__init__(root)
        self._what = what

    def ask(self, wish: Wish) -> bool:
        """Put a wish into the pipe, and have the accident happen before the asker goes on."""
        done = super().ask(wish)
        self._what()
        return done


def test_a_claim_that_was_granted_and_taken_away_before_its_asker_looked_is_not_queued_again(tmp_path: Path) -> None:
    leases, other = leases_of(tmp_path, sync=False), leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))

    def grant_and_revoke() -> None:
        give_back(leases, held)
        granted = leases.holder("slot0")
        assert granted.owner == "bob"
        leases.release(granted.lease_id, owner="boss", force=True, reason="it burns")

    other.asking = Accident(tmp_path, grant_and_revoke)
    with pytest.raises(LeaseLost, match="revoked before it was taken"):
        other.reserve(asked("bob"))
    queued = [event for event in leases.log.read(RESOURCES) if event.type == "claim.queued"]
    assert len({event.data["claim_id"] for event in queued}) == len(queued) == 2
    assert not leases.state().claims
    assert not leases.state().leases


def test_a_wish_that_has_to_be_refused_spoils_nobodys_turn(tmp_path: Path) -> None:
    leases = leases_of(tmp_path, sync=False)
    held = leases.reserve(wish("ada", "slot0", waits=False))
    leases.reserve(wish("ada", "gone", waits=False))
    leases.set_status("gone", "retire", "sold")
    assert leases.asking.ask(Wish("bob@lab", wish("bob", "gone")))
    assert leases.asking.ask(Wish("eve@lab", asked("eve")))
    give_back(leases, held)
    holder = leases.state().holder("slot0")
    assert holder is not None
    assert holder.owner == "eve"
    assert not leases.state().claims


def test_a_wish_that_could_be_torn_is_not_put_into_the_pipe(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path, "ada@lab", sync=False)
    leases = bootstrap.leases(settings)
    leases.take()
    assert not leases.asking.ask(Wish("bob@lab", wish("bob", *(f"a-key-with-a-long-name-{n:06}" for n in range(200)))))
    assert leases.asking.heard() == []


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
