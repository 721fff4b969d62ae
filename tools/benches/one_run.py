"""What does one run cost that Merlin looks at or wraps, whatever Ray does?"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from benches.listing import record
from benches.race import OURS, Goal, Row, Turn, race, timed
from benches.samples import unsynced
from eventlog import Append, FileLog
from merlin_es import entrypoint as wrapper
from merlin_es import view
from merlin_es.settings import Settings
from merlin_es.witness import entrypoint
from projections.events.run import PendingExplained, RunCompleted
from projections.files import Publisher
from projections.layout import StateLayout, run_stream

SHORT, LONG = 10, 100_000
RUN = "saturn-20261123071351-abcdef01"
_BATCH = 512
_BY = ("ada@lab3", "cli")


def length_row(directory: Path, rounds: int, *, long: int = LONG) -> Row:
    """Measure the status of a run with many events, whose files are fresh, against one with a few."""
    turns = {f"{count:,} events": _looking(directory / str(count), count) for count in (SHORT, long)}
    few, many = race(turns, rounds, speed=False)
    return Row(f"one status of a run with {long:,} events", "µs", Goal(False, 1.0, 1.2), few, many)


def wrapper_row(directory: Path, rounds: int) -> Row:
    """Measure a job that does nothing through the wrapper against the same without, as Ray's `/bin/sh -c` runs both."""
    directory.mkdir(parents=True)
    attempts = itertools.count(1)

    def wrapped() -> None:
        text = entrypoint(
            wrapper=Path(wrapper.__file__),
            python=sys.executable,
            witness=directory / "witness",
            run_id=RUN,
            attempt=next(attempts),
            workdir=str(directory),
            command=("true",),
        )
        _shell(text)

    turns: dict[str, Turn] = {
        "bare": lambda: timed(1, lambda: _shell("true")),
        OURS: lambda: timed(1, wrapped),
        "an empty Python": lambda: timed(1, lambda: _shell(f"exec {sys.executable} -I -S -c ''")),
    }
    bare, ours, *peers = race(turns, rounds, speed=False)
    return Row("`true` as a job through the wrapper", "ms", None, bare, ours, tuple(peers))


def _looking(root: Path, count: int) -> Turn:
    settings = with_long_run(root, count)
    times = 20

    def looks() -> None:
        for _ in range(times):
            assert view.status(settings, RUN, cached=False)["status"] == "completed"

    return lambda: timed(times, looks)


def with_long_run(root: Path, count: int) -> Settings:
    """Make a run of `count` events that has ended, and publish it."""
    disk = unsynced()
    log = FileLog(StateLayout(root), disk=disk)
    record(log, RUN, ended=False)
    waits = PendingExplained(attempt=1, reason="resources", message="no machine is free").recorded_by(*_BY)
    between = count - log.head(run_stream(RUN)).seq - 1
    for first in range(0, between, _BATCH):
        log.commit(run_stream(RUN), [Append((waits,))] * min(_BATCH, between - first))
    end = RunCompleted(attempt=1, source="wrapper", exit_code=0)
    assert log.append(run_stream(RUN), [end.recorded_by(*_BY)]).events[-1].seq == count
    Publisher(log, root, disk=disk).publish(run_stream(RUN))
    log.close()
    return Settings(root, root, "ada@lab3")


def _shell(text: str) -> None:
    subprocess.run(["/bin/sh", "-c", text], check=True)
