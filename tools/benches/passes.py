"""What does a reconcile pass cost, and does it cost more when many runs have ended?"""

from __future__ import annotations

import http.client
import shutil
from collections.abc import Iterator
from pathlib import Path

from benches.cluster import Cluster, until
from benches.listing import record
from benches.race import Goal, Row, Turn, race, timed
from benches.samples import unsynced
from eventlog import FileLog
from merlin_es import bootstrap, run_ids
from merlin_es.app import Merlin
from merlin_es.commands import SubmitRun
from projections.layout import StateLayout

ACTIVE, FINISHED = 10, 1_000
_PASSES = 3
_AS_MANY = Goal(False, 0.2, 1.2)
"""At most one for each active run, and what tells the session; aimed at is one list for all, however many they are."""


def pass_rows(directory: Path, cluster: Cluster, rounds: int) -> Iterator[Row]:
    """Measure passes over active jobs against asking for these jobs, and against passes over many ended runs too."""
    first = cluster.merlin(directory / "few")
    ids = [sleeping(first, directory) for _ in range(ACTIVE)]
    # The same ledger once more: its jobs are the same, so the passes over either ask for as many.
    shutil.copytree(directory / "few", directory / "many")
    _end_many(directory / "many")
    few, many = cluster.merlin(directory / "few"), cluster.merlin(directory / "many")
    for merlin in (few, many):
        until(lambda merlin=merlin: _is_quiet(merlin), "a pass that has nothing to record")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    asked = {f"{ACTIVE} GETs": _asking(cluster, ids), f"{ACTIVE} active runs": _passing(few)}
    turns = {**asked, f"and {FINISHED:,} ended ones": _passing(many)}
    requests, alone, among = race(turns, rounds, speed=False)
    yield Row(f"reconcile pass, {ACTIVE} active runs", "ms", Goal(False, 2.0), requests, alone, (among,))
    names = (f"{ACTIVE} active runs", f"and {FINISHED:,} ended ones")
    alone, among = race({name: turns[name] for name in names}, rounds, speed=False)
    yield Row(f"reconcile pass, {FINISHED:,} ended runs more", "ms", Goal(False, 1.0, 1.2), alone, among)
    yield _request_row(few, many)


def _request_row(few: Merlin, many: Merlin) -> Row:
    """Count what a pass asks Ray, against one request for each active run; runs that have ended add none."""
    turns = {
        "one a run": lambda: float(ACTIVE),
        f"{ACTIVE} active runs": lambda: _requests_of(few),
        f"and {FINISHED:,} ended ones": lambda: _requests_of(many),
    }
    each, alone, among = race(turns, 3, speed=False)
    return Row(f"Ray requests of a reconcile pass, {ACTIVE} active runs", "requests", _AS_MANY, each, among, (alone,))


def _requests_of(merlin: Merlin) -> float:
    """Give how many requests one pass sends."""
    send, sent = http.client.HTTPConnection.putrequest, []

    def counted(self: http.client.HTTPConnection, method: str, url: str, **more: bool) -> None:
        sent.append(url)
        send(self, method, url, **more)

    http.client.HTTPConnection.putrequest = counted  # type: ignore[assignment,method-assign]  # for the length of one pass
    try:
        assert merlin.reconcile_once().looked_at == ACTIVE
    finally:
        http.client.HTTPConnection.putrequest = send  # type: ignore[method-assign]  # as it was
    return float(len(sent))


def sleeping(merlin: Merlin, directory: Path) -> str:
    """Submit a run that does nothing for longer than any benchmark takes, and wait until Ray runs it."""
    run_id = merlin.submit(wish(directory, "sleep", "86400")).run_id
    until(lambda: merlin.status(run_id).status == "running", f"the start of {run_id}")
    return run_id


def wish(directory: Path, *command: str) -> SubmitRun:
    """Give a command to submit, which waits for no CPU."""
    return SubmitRun(
        run_id=run_ids.new_run_id("saturn", bootstrap.now()),
        target="saturn",
        workflow="targetgen",
        source="bench",
        command=command,
        workdir=str(directory),
        target_dir=str(directory / "out"),
        cpus=0,
    )


def _is_quiet(merlin: Merlin) -> bool:
    done = merlin.reconcile_once()
    assert not done.sick, done.sick
    return not done.changed and done.looked_at == ACTIVE


def _passing(merlin: Merlin) -> Turn:
    def passes() -> None:
        for _ in range(_PASSES):
            done = merlin.reconcile_once()
            assert done.looked_at == ACTIVE, done

    return lambda: timed(_PASSES, passes)


def _asking(cluster: Cluster, ids: list[str]) -> Turn:
    def asks() -> None:
        for _ in range(_PASSES):
            for submission_id in ids:
                assert cluster.status(submission_id) == "RUNNING"

    return lambda: timed(_PASSES, asks)


def _end_many(root: Path) -> None:
    log = FileLog(StateLayout(root), disk=unsynced())
    for number in range(FINISHED):
        record(log, f"saturn-20261123071351-{number:08x}", ended=True)
    log.close()
