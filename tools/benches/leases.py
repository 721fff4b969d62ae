"""How fast do keys go from hand to hand, beside the bare lock that nobody could do without, and beside the old way?"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

from benches.programs import Programs
from benches.race import OURS, Goal, Row, Turn, race, timed
from merlin_es import bootstrap
from merlin_es.lease_commands import Reserve
from merlin_es.resources import Leases, this_process
from merlin_es.settings import Settings
from projections.events.lease import ClaimQueued, LeaseEvent, LeaseGranted, LeaseReleased
from projections.layout import RESOURCES
from projections.lease_projection import LEASE_PROJECTION
from projections.lease_state import Liveness, Resources, Tick, Waiter

PROCESSES = 16
PAST = 10_000
_AT_ONCE = 400
_LINE = b"x" * 700 + b"\n"
_context = multiprocessing.get_context("fork")
BARE = "flock, write and fdatasync, twice"
OLD = "list the files, check, write"
WARM_S = 2.0
"""How long who warms up does so."""


class Told(NamedTuple):
    """What one process tells: when it wanted the key and when it had it, each time, and when somebody else did too."""

    spans: list[tuple[float, float]]
    doubles: int = 0


Work = Callable[[Path, str, float, Barrier, "Queue[Told]"], None]


def rows(directory: Path, quick: bool) -> Iterator[Row]:
    """Measure leases, with files in `directory`."""
    _cycle(_opened(directory / "warm"), "warm", waits=True)  # What is forked later has imported everything.
    yield contention_row(directory / "contention", 2.0 if quick else 20.0, 2)
    yield from past_rows(directory / "past", 5 if quick else 30, 500 if quick else PAST)
    yield from program_rows(directory / "program", 3 if quick else 10)


def contention_row(directory: Path, length_s: float, rounds: int) -> Row:
    """Measure 16 processes on one key; whoever has it gives it back at once."""
    warm: set[str] = set()

    def turn(name: str, work: Work) -> float:
        here_s = length_s if name in warm else min(length_s, WARM_S)
        warm.add(name)
        root = directory / f"{name}-{secrets.token_hex(4)}"
        root.mkdir(parents=True)
        told = _together(work, root, here_s)
        counts = [len(each.spans) for each in told]
        total = sum(counts)
        jain = total**2 / (len(counts) * sum(count * count for count in counts)) if total else 0.0
        text = f"{total / here_s:,.0f} cycles/s in {here_s:g} s, Jain {jain:.4f}"
        if name != BARE:
            doubles, disorders = _judged(told) if name == OLD else _judged_by_its_log(root)
            text += f", {doubles} double grants, {disorders} out of order"
        print(f"        {name}: {text}", file=sys.stderr)
        return here_s / max(1, total)

    works = {BARE: _bare, OURS: _reserve_and_release, OLD: _old_way}
    bare, ours, old = race({name: partial(turn, name, work) for name, work in works.items()}, rounds)
    shutil.rmtree(directory)  # Not before: a file system may take long for new files where many were removed just now.
    what = f"reserve and release by {PROCESSES} processes on one key"
    return Row(what, "events/s", Goal(True, 0.8, 0.5), bare, ours, (old,))


def past_rows(directory: Path, rounds: int, past: int) -> Iterator[Row]:
    """Measure a reserve and a list after many leases, against the same after none."""
    few, many = _opened(directory / "few"), _opened(directory / "many")
    for leases, count in ((few, 20), (many, past)):
        _give_a_past(leases, count)
    verbs: dict[str, Callable[[Leases], object]] = {"reserve and release": _cycle_alone, "list": Leases.state}
    for name, verb in verbs.items():
        turns = {"20 leases": _five_times(verb, few), f"{past:,} leases": _five_times(verb, many)}
        short, long = race(turns, rounds, speed=False)
        yield Row(f"{name} with {past:,} leases in the past", "ms", Goal(False, 1.0, 1.5), short, long)
    programs = Programs(directory / "programs")
    hold = ["resources", "hold", "slot1", "--owner", "ada", "--", "true"]
    for name, words in (("list", ["resources", "list"]), ("hold", hold)):
        programs_of = {
            label: programs.running(programs.merlin(leases.root, *words))
            for label, leases in (("20 leases", few), (f"{past:,} leases", many))
        }
        short, long = race(programs_of, max(3, rounds // 3), speed=False)
        yield Row(f"`resources {name}` with {past:,} leases in the past", "ms", Goal(False, 1.0, 1.5), short, long)


def _give_a_past(leases: Leases, count: int) -> None:
    """Have had many leases, in appends of many at once."""
    _cycle(leases, "past", waits=False)
    for begin in range(0, count, _AT_ONCE):
        more = min(_AT_ONCE, count - begin)
        leases.turns.take(partial(_of_old, leases.world.look().tick, more))
    leases.clerk.files.publish_all()


def _of_old(tick: Tick, count: int, state: Resources) -> list[LeaseEvent]:
    """Give many leases that came and went, for one append."""
    events: list[LeaseEvent] = []
    for number in range(state.granted + 1, state.granted + 1 + count):
        claim_id, lease_id = f"claim-{number:010x}", state.lease_id(number)
        events += [
            ClaimQueued(claim_id=claim_id, owner="past", keys=("slot0",), tick=tick),
            LeaseGranted(
                lease_id=lease_id,
                key="slot0",
                fence=number,
                claim_id=claim_id,
                owner="past",
                keys=("slot0",),
                tick=tick,
            ),
            LeaseReleased(lease_id=lease_id, by="past"),
        ]
    return events


def program_rows(directory: Path, rounds: int) -> Iterator[Row]:
    """Measure `resources reserve` and `list` as programs against the least that an app with typer takes."""
    programs = Programs(directory / "programs")
    words = programs.merlin(directory / "state", "resources", "reserve", "--owner", "ada")

    def reserve() -> None:
        programs.output([*words, f"key-{secrets.token_hex(4)}"])

    list_ = programs.running(programs.merlin(directory / "state", "resources", "list"))
    verbs: dict[str, Turn] = {"reserve": lambda: timed(1, reserve), "list": list_}
    for name, verb in verbs.items():
        least, ours = race({"typer": programs.running(programs.typer()), OURS: verb}, rounds, speed=False)
        yield Row(f"`resources {name}` against a bare app", "ms", Goal(False, 1.3, 2.0), least, ours)


def _together(work: Work, root: Path, length_s: float) -> list[Told]:
    """Have 16 processes do the same for a while."""
    ready, answers = _context.Barrier(PROCESSES), _context.Queue()
    workers = [
        _context.Process(target=work, args=(root, f"owner{number}", length_s, ready, answers))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    told = [answers.get(timeout=length_s + 120) for _ in workers]
    for worker in workers:
        worker.join()
    return told


def _reserve_and_release(root: Path, name: str, length_s: float, ready: Barrier, answers: Queue[Told]) -> None:
    leases, spans = _opened(root), []
    _cycle(leases, name, key=name, waits=False)  # Whatever is imported, probed and opened only when needed is, by now.
    ready.wait()
    end = time.monotonic() + length_s
    while (begin := time.monotonic()) < end:
        _cycle(leases, name, waits=True)
        spans.append((begin, 0.0))
    answers.put(Told(spans))


def _bare(root: Path, _name: str, length_s: float, ready: Barrier, answers: Queue[Told]) -> None:
    fd, spans = os.open(root / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND), []
    ready.wait()
    end = time.monotonic() + length_s
    while (begin := time.monotonic()) < end:
        for _ in range(2):
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(fd, _LINE)
            os.fdatasync(fd)
            fcntl.flock(fd, fcntl.LOCK_UN)
        spans.append((begin, 0.0))
    answers.put(Told(spans))


def _old_way(root: Path, name: str, length_s: float, ready: Barrier, answers: Queue[Told]) -> None:
    """List the files, see that none is active, and write one that is: what this replaces does it so."""
    spans, doubles, path = [], 0, root / f"lease-{name}.json"
    ready.wait()
    begin = time.monotonic()
    end = begin + length_s
    while time.monotonic() < end:
        if _old_holders(root):
            continue
        path.write_text(json.dumps({"owner": name, "status": "active"}))
        spans.append((begin, time.monotonic()))
        doubles += len(_old_holders(root)) > 1
        path.write_text(json.dumps({"owner": name, "status": "released"}))  # It has one more file for each lease.
        begin = time.monotonic()
    answers.put(Told(spans, doubles))


def _judged(told: Sequence[Told]) -> tuple[int, int]:
    """Count who had the key while somebody else did, and who while somebody still waited who had wanted it before."""
    earliest, passed = float("inf"), 0
    for begin, _ in sorted((span for each in told for span in each.spans), key=lambda span: -span[1]):
        passed += earliest < begin
        earliest = min(earliest, begin)
    return sum(each.doubles for each in told), passed


def _judged_by_its_log(root: Path) -> tuple[int, int]:
    """Count in the log the grants to a second holder, and those to somebody who was not the first in line."""
    state, doubles, passed = Resources(), 0, 0
    for recorded in LEASE_PROJECTION.codec.decode(_opened(root).log.read(RESOURCES)):
        if isinstance(recorded.event, LeaseGranted):
            first = min(state.claims.values(), key=lambda claim: claim.seq)
            passed += first.claim_id != recorded.event.claim_id
            doubles += state.holder(recorded.event.key) is not None
        state = LEASE_PROJECTION.evolve(state, recorded)
    return doubles, passed


def _old_holders(root: Path) -> list[str]:
    found = []
    for path in root.glob("lease-*.json"):
        try:
            found += [path.name] if json.loads(path.read_text())["status"] == "active" else []
        except (OSError, ValueError):
            continue
    return found


def _cycle(leases: Leases, owner: str, *, waits: bool, key: str = "slot0") -> None:
    """Reserve and release."""
    process = this_process()
    wish = Reserve(
        claim_id=f"claim-{secrets.token_hex(5)}",
        owner=owner,
        at="",
        keys=(key,),
        liveness=Liveness(ttl_s=30.0),
        waits=waits,
        waiter=Waiter(30.0, process) if waits else None,
    )
    [lease] = leases.reserve(wish)
    leases.release(lease.lease_id, fence=lease.fence)


def _cycle_alone(leases: Leases) -> None:
    _cycle(leases, "ada", waits=False)


def _five_times(verb: Callable[[Leases], object], leases: Leases) -> Turn:
    return lambda: timed(5, lambda: [verb(leases) for _ in range(5)])


def _opened(root: Path) -> Leases:
    return bootstrap.leases(Settings(root, root, "ada@lab3"))
