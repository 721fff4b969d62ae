"""What does it cost to look back, beside folding all that ever happened?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from benches.one_run import RUN, with_long_run
from benches.peers import aggregates
from benches.race import OURS, Absent, Goal, Row, Turn, race, timed
from benches.samples import sample
from eventlog import FileLog
from merlin_es.past import Past, difference
from merlin_es.walk import Walk
from projections.layout import StateLayout, run_stream
from projections.projection import RUN_PROJECTION
from projections.snapshots import EVERY, Snapshots

COUNT = 10_000
STREAM = run_stream(RUN)
_NEVER = 10**12
_BATCH = 64
_LOOKS = 5


def rows(directory: Path, quick: bool, *, count: int = COUNT) -> Iterator[Row]:
    """Measure views of a run's past with `count` events, with files in `directory`."""
    rounds, middle = 3 if quick else 15, count // 2
    past = _past(directory / "run", count)
    whole = {f"a fold of all {count:,}": _turn(lambda: RUN_PROJECTION.fold_all(STREAM, past.log))}
    yield _view_row(directory, past, whole, rounds, count, middle)
    for what, goal, look in (
        (f"`why` of the status after {count:,} events", Goal(False, 1.5, 3.0), lambda: _why(past)),
        (
            f"`diff` of events {middle - 1000:,} and {middle + 1000:,}",
            Goal(False, 0.3, 0.6),
            lambda: _diff(past, middle),
        ),
        (f"a step back at event {middle:,}", None, _stepping(past, middle)),
    ):
        everything, ours = race({**whole, OURS: _turn(look)}, rounds, speed=False)
        yield Row(what, "ms", goal, everything, ours)


def _view_row(directory: Path, past: Past, whole: dict[str, Turn], rounds: int, count: int, middle: int) -> Row:
    """Measure the view in the middle, with the snapshots that the first such view has left, and without any."""
    bare = Snapshots(past.log, directory / "none", every=_NEVER)
    turns = {
        **whole,
        OURS: _turn(lambda: past.at(STREAM, middle), _LOOKS),
        "without snapshots": _turn(lambda: bare.at(STREAM, middle)),
    }
    there = aggregates(directory / "aggregates.sqlite")
    absent: tuple[Absent, ...] = ()
    if isinstance(there, Absent):
        absent = (there,)
    else:
        for _ in range(0, count, _BATCH):
            there.append([sample()] * _BATCH)
        turns["eventsourcing"] = _turn(lambda: there.view(middle))
        kept = aggregates(directory / "snapshots.sqlite")
        assert not isinstance(kept, Absent)
        for _ in range(0, count, _BATCH):
            kept.append([sample()] * _BATCH)
        kept.snapshot(middle // EVERY * EVERY)
        turns["eventsourcing with snapshots"] = _turn(lambda: kept.view(middle), _LOOKS)
    everything, ours, *peers = race(turns, rounds, speed=False)
    what = f"view at event {middle:,} of {count:,}"
    return Row(what, "ms", Goal(False, 0.1, 0.6), everything, ours, (*peers, *absent))


def _past(root: Path, count: int) -> Past:
    with_long_run(root, count)
    log = FileLog(StateLayout(root))
    return Past(log, root, lambda: datetime.now(UTC), Snapshots(log, root))


def _why(past: Past) -> None:
    assert past.why_field(RUN, "status").settings[-1].value == "completed"


def _diff(past: Past, middle: int) -> None:
    one, two = (past.end(RUN, str(seq)) for seq in (middle - 1000, middle + 1000))
    assert len(difference(one, two).between) == 2000


def _stepping(past: Past, middle: int) -> Callable[[], object]:
    walk = Walk(past, STREAM)
    walk.see(middle)
    return lambda: walk.see(middle - 1)


def _turn(work: Callable[[], object], times: int = 1) -> Turn:
    def several() -> None:
        for _ in range(times):
            work()

    return lambda: timed(times, several)
