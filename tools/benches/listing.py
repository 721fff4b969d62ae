"""Does a list of the newest runs cost more when there are many others?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benches.race import Goal, Row, Turn, race, timed
from benches.samples import unsynced
from eventlog import FileLog
from projections.events.run import RunCompleted, RunRequested, RunSubmitted, SubmissionStarted
from projections.index import Index, Selection
from projections.layout import StateLayout, run_stream

FEW, MANY, MOST = 100, 10_000, 100_000
SHOWN = 50
ACTIVE = 10
_RUNS_PER_LOG = 1_000


def listing_rows(directory: Path, rounds: int, *, most: int = MOST) -> Iterator[Row]:
    """Measure `jobs list` over many runs, nearly all of them ended, against the same over a few."""
    turns = {f"{count:,} runs": _listing(directory / str(count), count) for count in (FEW, MANY, most)}
    few, many, all_of_them = race(turns, rounds, speed=False)
    yield Row(f"list the newest {SHOWN} of {most:,} runs", "µs", Goal(False, 1.0, 2.0), few, all_of_them, (many,))


def _listing(root: Path, count: int) -> Turn:
    _live(root, count)
    Index(root, sync=False).rebuild()
    times = 5

    def lists() -> None:
        for _ in range(times):
            # As a process does that has just begun.
            assert len(Index(root).list(Selection(limit=SHOWN))) == SHOWN

    return lambda: timed(times, lists)


def _live(root: Path, count: int) -> None:
    """Record `count` runs, of which the last ones still run."""
    for first in range(0, count, _RUNS_PER_LOG):
        log = FileLog(StateLayout(root), disk=unsynced())
        for number in range(first, min(first + _RUNS_PER_LOG, count)):
            record(log, f"saturn-20261123071351-{number:08x}", ended=number < count - ACTIVE)
        log.close()


def record(log: FileLog, run_id: str, *, ended: bool) -> None:
    """Record a run that Ray has taken, and that has `ended` or not."""
    events = [
        RunRequested(
            run_id=run_id,
            target="saturn",
            workflow="targetgen",
            source="cli",
            command=("true",),
            workdir="/w",
            target_dir="/w/out",
        ),
        SubmissionStarted(
            attempt=1, submission_id=run_id, cluster_address="http://127.0.0.1:8265", session_name="s", entrypoint="e"
        ),
        RunSubmitted(attempt=1, submission_id=run_id, session_name="s", how="answered"),
        *([RunCompleted(attempt=1, source="wrapper", exit_code=0)] if ended else []),
    ]
    log.append(run_stream(run_id), [event.recorded_by("ada@lab3", "cli", corr=run_id) for event in events])
