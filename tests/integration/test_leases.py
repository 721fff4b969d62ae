"""Do leases live and end as they should, over real files: whatever is deleted, torn, set back, or from another boot?"""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import FileLog
from merlin_es.clerk import REAP_EVERY_S
from merlin_es.commands import Reserve
from merlin_es.errors import Busy, LeaseLost, NotFound, Refused, TimedOut, Usage
from merlin_es.hosts import ProcessId
from merlin_es.lock_probe import require_locks, require_locks_once
from merlin_es.observer import BELIEVED_S
from merlin_es.resources import Leases
from projections import checkpoint
from projections.events import lease as e
from projections.events.recorded import Recorded
from projections.layout import RESOURCES, StateLayout, catalog_path, leases_path
from projections.lease_files import LeaseFiles
from projections.lease_state import NOTHING, Liveness, Pool, Process, Waiter
from projections.leases import evolve
from projections.rebuilding import rebuild
from tests.conftest import Figure
from tests.examples import unsynced
from tests.lease_examples import BOOT, LEASE_EVENTS, OTHER_BOOT, Clock, at, leases_at

LIMIT_S = 60.0


def wish(owner: str, *keys: str, ttl_s: float | None = 60.0, waits: bool = False, **more: object) -> Reserve:
    claim_id = f"claim-{secrets.token_hex(5)}"
    waiter = Waiter(30.0) if waits else None
    return Reserve(claim_id, owner, "", keys, liveness=Liveness(ttl_s), waits=waits, waiter=waiter, **more)  # type: ignore[arg-type]  # the tests name its fields


def history(leases: Leases, count: int) -> None:
    """Have keys go from hand to hand."""
    for number in range(count):
        held = leases.reserve(wish("ada", f"k{number % 3}"))
        leases.release(held[0].lease_id, fence=held[0].fence)


def files(root: Path) -> dict[str, bytes]:
    paths = [*leases_path(root).glob("*.json"), catalog_path(root)]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.exists()}


def checked(root: Path) -> set[str]:
    log = FileLog(StateLayout(root), disk=unsynced())
    return {verdict.state for verdict in rebuild(log, root, check=True, disk=unsynced())}


def rebuilt(root: Path) -> None:
    log = FileLog(StateLayout(root), disk=unsynced())
    assert {verdict.state for verdict in rebuild(log, root, disk=unsynced())} <= {"written", "same"}


# The fold and its files.


def test_there_is_an_example_of_each_event() -> None:
    assert {type(event) for event in LEASE_EVENTS} == set(get_args(e.LeaseEvent))


@settings(deadline=None, max_examples=60)
@given(events=st.lists(st.sampled_from(LEASE_EVENTS), max_size=20))
def test_a_fold_refuses_nothing_and_a_checkpoint_at_any_point_changes_nothing(events: list[e.LeaseEvent]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, state, kept = Path(name), NOTHING, NOTHING
        (root / RESOURCES).mkdir()
        log = FileLog(StateLayout(root), disk=unsynced())
        for seq, event in enumerate(events, 1):
            recorded = Recorded(seq, at(seq), "ada@lab", "cli", event)
            state, kept = evolve(state, recorded), evolve(kept, recorded)
            head = log.append(RESOURCES, [event.recorded_by("ada@lab", "cli")]).head
            checkpoint.Checkpoint(root).store(kept, head)
            loaded = checkpoint.Checkpoint(root).load()
            assert loaded is not None
            kept = loaded[0]
            assert kept.keys == state.keys
            assert (kept.leases, kept.claims, kept.granted) == (state.leases, state.claims, state.granted)


def test_a_lease_has_the_fields_of_old_in_their_order_and_its_file_outlives_it(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    [lease] = leases.reserve(wish("ada", "u250", metadata={"why": "täst"}))
    path = leases_path(tmp_path) / f"{lease.lease_id}.json"
    names = ["lease_id", "resource_type", "owner", "status", "metadata", "created_at", "updated_at"]
    document = json.loads(path.read_text())
    assert list(document)[:7] == names
    assert (document["resource_type"], document["status"], document["metadata"]) == ("u250", "active", {"why": "täst"})
    leases.release(lease.lease_id)
    document = json.loads(path.read_text())
    assert (document["status"], document["ended"], document["fence"]) == ("released", "released", 1)
    assert checked(tmp_path) == {"same"}


def test_deleted_files_of_leases_come_back_with_the_same_bytes(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    history(leases, 6)
    leases.reserve(wish("bob", "k1"))
    before = files(tmp_path)
    assert len(before) == 8
    for name in before:
        (tmp_path / name).unlink()
    assert checked(tmp_path) == {"missing"}
    rebuilt(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("when", ["before it is alone", "before it writes", "when it has written"])
@pytest.mark.parametrize("publishes", ["all", "its turn"])
def test_who_publishes_takes_nothing_back_and_leaves_out_nothing_of_those_who_append_meanwhile(
    tmp_path: Path, when: str, publishes: str
) -> None:
    leases, others = leases_at(tmp_path), leases_at(tmp_path)
    [lease] = others.reserve(wish("bob", "u250"))
    meanwhile: Iterator[Callable[[], object]] = iter([lambda: others.release(lease.lease_id, fence=lease.fence)])

    class Met(LeaseFiles):
        @contextmanager
        def _alone(self, *, wait: bool) -> Iterator[bool]:
            for release in meanwhile if when == "before it is alone" else ():
                release()
            with super()._alone(wait=wait) as alone:
                for release in meanwhile if when == "before it writes" else ():
                    release()
                yield alone
                for release in meanwhile if when == "when it has written" else ():
                    release()

    leases.clerk.files = Met(leases.log, tmp_path, unsynced(), BOOT)
    if publishes == "all":
        leases.clerk.files.publish_all()
    else:
        leases.reserve(wish("ada", "x60"))
    assert checked(tmp_path) == {"same"}
    assert "u250" not in {lease.key for lease in leases.state().leases.values()}
    assert not [*meanwhile]


def test_a_file_that_somebody_edited_is_named_and_one_of_no_lease_is_an_orphan(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    history(leases, 2)
    paths = sorted(leases_path(tmp_path).glob("*.json"))
    paths[0].write_text(paths[0].read_text().replace("ada", "eve"))
    (leases_path(tmp_path) / "lease-0123456789.json").write_text("{}\n")
    assert checked(tmp_path) == {"same", "edited", "orphan"}


def test_what_a_power_cut_took_from_the_files_is_written_again_after_the_next_boot(tmp_path: Path) -> None:
    history(leases_at(tmp_path), 3)
    before = files(tmp_path)
    lost = next(leases_path(tmp_path).glob("*.json"))
    lost.write_bytes(b"")
    history(leases_at(tmp_path, Clock(OTHER_BOOT)), 1)
    assert (
        before.items() - {"resources/catalog.json": before["resources/catalog.json"]}.items() <= files(tmp_path).items()
    )
    assert checked(tmp_path) == {"same"}


@pytest.mark.parametrize("harm", ["deleted", "cut", "of another log", "older"])
def test_a_checkpoint_can_be_thrown_away_spoilt_or_old_and_nothing_changes(tmp_path: Path, harm: str) -> None:
    leases = leases_at(tmp_path)
    [lease] = leases.reserve(wish("ada", "u250"))
    kept = {path: path.read_bytes() for path in checkpoint.checkpoint_paths(tmp_path) if path.exists()}
    history(leases, 4)
    other = tmp_path / "other"
    history(leases_at(other), 5)
    for path, twin in zip(checkpoint.checkpoint_paths(tmp_path), checkpoint.checkpoint_paths(other), strict=True):
        if harm == "deleted":
            path.unlink()
        elif harm == "cut":
            path.write_bytes(path.read_bytes()[:-3])
        elif harm == "older":
            path.write_bytes(kept.get(path, b""))
        else:
            shutil.copy(twin, path)
    again = leases_at(tmp_path)
    with pytest.raises(Busy, match="held by ada"):
        again.reserve(wish("bob", "u250"))
    again.release(lease.lease_id)
    assert again.reserve(wish("bob", "u250"))[0].fence == 2
    shutil.rmtree(other)
    assert checked(tmp_path) == {"same"}


def test_a_tail_torn_at_any_byte_of_the_last_three_appends_leaves_one_holder_and_goes_on(
    tmp_path: Path, figure: Figure
) -> None:
    root = tmp_path / "root"
    leases = leases_at(root)
    path = leases.log.path(RESOURCES)
    [first] = leases.reserve(wish("ada", "u250"))
    sizes = [path.stat().st_size]
    threading.Thread(target=leases.reserve, args=(wish("bob", "u250", ttl_s=30.0, waits=True),), daemon=True).start()
    until(lambda: leases.turns.look()[0].claims)
    sizes.append(path.stat().st_size)
    leases.release(first.lease_id)
    sizes.append(path.stat().st_size)
    leases.reserve(wish("cid", "x60"))
    whole, cuts = path.read_bytes(), 0
    torn = tmp_path / "torn"
    for size in range(sizes[0], len(whole)):
        (torn / RESOURCES).mkdir(parents=True, exist_ok=True)
        (torn / RESOURCES / "events.jsonl").write_bytes(whole[:size])
        again = leases_at(torn)
        held = again.turns.look()[0].leases.values()
        assert [lease.owner for lease in held if lease.key == "u250"] == (["bob"] if size >= sizes[2] else ["ada"])
        cuts += 1
        if size % 97 == 0:
            assert again.reserve(wish("dan", "fresh"))[0].fence == 1
            assert checked(torn) == {"same"}
            shutil.rmtree(torn)
    figure(f"{cuts} cuts within three appends: one holder after each, and the next append goes on")


# Clocks and liveness.


def test_wall_time_that_jumps_by_a_year_expires_nothing_and_extends_nothing(tmp_path: Path) -> None:
    clock = Clock()
    leases = leases_at(tmp_path, clock)
    [lease] = leases.reserve(wish("ada", "u250"))
    for year in ("2021-11-23", "2031-11-23"):
        with freeze_time(year):
            assert leases.check(lease.lease_id, 1).owner == "ada"
            with pytest.raises(Busy):
                leases.reserve(wish("bob", "u250"))
    clock.boottime_s += 60.5
    with freeze_time("2021-11-23"), pytest.raises(LeaseLost):
        leases.check(lease.lease_id, 1)


def test_a_restart_of_everything_changes_no_lease(tmp_path: Path) -> None:
    [lease] = leases_at(tmp_path, Clock(boottime_s=1000.0)).reserve(wish("ada", "u250"))
    again = leases_at(tmp_path, Clock(boottime_s=1059.9))
    assert again.state().leases[lease.lease_id] == lease


def test_calls_that_last_a_moment_can_together_say_that_a_lease_of_another_boot_is_dead(tmp_path: Path) -> None:
    leases_at(tmp_path, Clock()).reserve(wish("ada", "u250"))
    for boottime_s, is_held in ((5.0, True), (60.0, True), (65.5, False)):
        leases = leases_at(tmp_path, Clock(OTHER_BOOT, boottime_s))  # A process of its own, which forgets all.
        assert bool(leases.state().leases) == is_held


def test_nobody_is_refused_for_somebody_who_has_died_since_the_dead_were_put_away(tmp_path: Path) -> None:
    clock = Clock()
    mortal = ProcessId(17, 170, BOOT)
    clock.alive.add(mortal)
    leases = leases_at(tmp_path, clock)
    held = Liveness(60.0, process=Process(mortal.pid, mortal.started, mortal.boot_id))
    leases.reserve(Reserve("claim-00000000a1", "ada", "", ("u250",), liveness=held))
    with pytest.raises(Busy):
        leases.reserve(wish("bob", "u250"))
    leases.take()
    clock.alive.clear()
    clock.boottime_s += (BELIEVED_S + REAP_EVERY_S) / 2
    [lease] = leases.reserve(wish("bob", "u250"))
    assert lease.owner == "bob"


def test_a_lost_run_keeps_its_leases_for_a_while_and_an_ended_one_does_not(tmp_path: Path) -> None:
    clock, runs = Clock(), {"run-1": ("running", 3)}
    leases = leases_at(tmp_path, clock, runs)
    bound = Reserve("claim-00000000a1", "ada", "", ("u250",), liveness=Liveness(run_id="run-1"), waits=True)
    leases.reserve(bound)
    runs["run-1"] = ("lost", 4)
    for later_s, is_held in ((10.0, True), (590.0, True), (20.0, False)):
        clock.boottime_s += later_s
        assert bool(leases.state().leases) == is_held
    leases.reserve(Reserve("claim-00000000a2", "ada", "", ("u250",), liveness=Liveness(run_id="run-1"), waits=True))
    runs["run-1"] = ("completed", 5)
    clock.boottime_s += 10
    assert not leases.state().leases


# Asking again, waiting, leaving.


def test_the_same_idempotency_key_gives_the_same_lease_even_when_it_has_ended(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    [first] = leases.reserve(wish("ada", "u250", idempotency_key="nightly"))
    for _ in range(2):
        [again] = leases.reserve(wish("ada", "u250", idempotency_key="nightly"))
        assert again.lease_id == first.lease_id
    with pytest.raises(Refused, match="used for another reservation"):
        leases.reserve(wish("ada", "x60", idempotency_key="nightly"))
    leases.release(first.lease_id)
    [ended] = leases.reserve(wish("ada", "u250", idempotency_key="nightly"))
    assert (ended.lease_id, ended.status) == (first.lease_id, "released")
    assert not leases.state().leases


def test_releasing_twice_is_once_and_what_never_was_is_not_found(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    [lease] = leases.reserve(wish("ada", "u250"))
    assert leases.release(lease.lease_id).status == "released"
    size = leases.log.path(RESOURCES).stat().st_size
    for path in leases_path(tmp_path).glob("*.json"):
        path.unlink()
    assert leases.release(lease.lease_id).status == "released"
    assert leases.log.path(RESOURCES).stat().st_size == size
    for nothing in ("lease-ffffffffff", "../../../victim", ""):
        with pytest.raises(NotFound):
            leases.release(nothing)


def test_who_has_waited_for_long_enough_leaves_the_line(tmp_path: Path) -> None:
    clock = Clock()
    leases = leases_at(tmp_path, clock)
    leases.reserve(wish("ada", "u250", ttl_s=None))
    ticking = threading.Event()
    ticker = threading.Thread(target=lambda: tick(clock, ticking), daemon=True)
    ticker.start()
    with pytest.raises(TimedOut):
        leases.reserve(wish("bob", "u250", waits=True), limit_s=20.0)
    ticking.set()
    ticker.join()
    assert not leases.state().claims


def test_who_is_interrupted_leaves_the_line(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    leases.reserve(wish("ada", "u250", ttl_s=None))

    def interrupt(*_seen: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leases.reserve(wish("bob", "u250", waits=True), tell=interrupt)
    assert not leases.state().claims


def test_who_waits_is_told_when_the_key_is_retired(tmp_path: Path) -> None:
    leases = leases_at(tmp_path)
    leases.reserve(wish("ada", "u250", ttl_s=None))

    def sell(*_seen: object) -> None:
        leases.set_status("u250", "retire", "sold")

    with pytest.raises(Refused, match="no longer in line: u250"):
        leases.reserve(wish("bob", "u250", waits=True), tell=sell)


def test_a_claim_of_a_pool_gets_any_of_its_keys(tmp_path: Path) -> None:
    from merlin_es.commands import Declare

    leases = leases_at(tmp_path)
    for key in ("x1", "x2"):
        leases.declare(Declare(key, {"board": "x"}))
    held = [leases.reserve(wish("ada", pool=Pool("board", "x")))[0].key for _ in range(2)]
    assert held == ["x1", "x2"]


# The past, and the file system.


def test_ten_thousand_released_leases_do_not_slow_down_reserve_or_list(tmp_path: Path, figure: Figure) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    with_past(large, 10_000)
    for root in (small, large):
        history(leases_at(root), 20)
    verbs: dict[str, Callable[[Leases], object]] = {"list": Leases.state, "reserve": lambda one: history(one, 1)}
    known = {root: leases_at(root) for root in (small, large)}
    for name, verb in verbs.items():
        costs: dict[Path, list[float]] = {small: [], large: []}
        for _, root in itertools.product(range(40), (small, large)):
            begin = time.process_time()
            verb(known[root])
            costs[root].append(time.process_time() - begin)
        few, many = (min(costs[root][1:]) for root in (small, large))
        assert many <= 1.5 * few, name
        figure(f"{name}: {few * 1e3:.2f} ms of CPU with 20 leases in the past, {many * 1e3:.2f} ms with 10,000")
    leases = leases_at(large)
    state, _ = leases.turns.look()
    assert len(state.leases) + len(state.claims) == 0
    assert sum(path.stat().st_size for path in checkpoint.checkpoint_paths(large)) < 10_000


def with_past(root: Path, count: int) -> None:
    """Make a log with many released leases, quickly."""
    leases = leases_at(root)
    history(leases, 1)
    state, log = leases.turns.look()[0], leases.log
    for number in range(count // 500):
        events: list[e.LeaseEvent] = []
        for place in range(500):
            lease_id = state.lease_id(2 + number * 500 + place)
            claim_id, fence = f"claim-{number * 500 + place:010x}", 2 + number * 500 + place
            tick = leases.world.look().tick
            events.append(e.ClaimQueued(claim_id=claim_id, owner="ada", keys=("k0",), tick=tick))
            events.append(
                e.LeaseGranted(
                    lease_id=lease_id, key="k0", fence=fence, claim_id=claim_id, owner="a", keys=("k0",), tick=tick
                )
            )
            events.append(e.LeaseReleased(lease_id=lease_id, by="ada"))
        log.append(RESOURCES, [event.recorded_by("ada@lab", "cli") for event in events])
    leases.take()


def test_a_file_system_that_keeps_locks_is_used_and_nothing_is_left_of_the_measurement(tmp_path: Path) -> None:
    require_locks(tmp_path)
    assert not list(tmp_path.iterdir())


def test_locks_are_measured_once_a_boot_and_again_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_locks_once(tmp_path, BOOT)
    monkeypatch.setattr(fcntl, "flock", lambda _fd, _how: None)
    require_locks_once(tmp_path, BOOT)
    with pytest.raises(Usage, match="does not keep locks"):
        require_locks_once(tmp_path, OTHER_BOOT)


def test_a_file_system_whose_locks_do_not_work_is_refused_before_anything_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def lies(fd: int, how: int) -> None:
        if ".locks." not in str(Path(f"/proc/self/fd/{fd}").readlink()):
            real(fd, how)

    monkeypatch.setattr(fcntl, "flock", lies)
    leases = leases_at(tmp_path)
    with pytest.raises(Usage, match="does not keep locks"):
        leases.reserve(wish("ada", "u250"))

    def has_none(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", has_none)
    with pytest.raises(Usage, match="has no locks"):
        leases.reserve(wish("ada", "u250"))
    assert not leases.log.path(RESOURCES).exists()


def tick(clock: Clock, stop: threading.Event) -> None:
    while not stop.wait(0.01):
        clock.boottime_s += 0.05


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)
