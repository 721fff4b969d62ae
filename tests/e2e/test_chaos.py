"""Do 200 runs of 8 processes end as Ray says, each once, while runs are cancelled and the reconciler is killed?"""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Figure
from tests.e2e.lab import Lab, until

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(1500)]

RUNS, SUBMITTERS, CANCELLED = 200, 8, 20
_SUBMIT = """
import sys
from pathlib import Path
from merlin_es import bootstrap, run_ids
from merlin_es.commands import SubmitRun
from merlin_es.settings import Settings
root, work, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
merlin = bootstrap.build(Settings(root, Path(work), "ada@lab", sync=False))
for number in range(count):
    run = run_ids.new_run_id("board", bootstrap.now())
    command = ("sh", "-c", f"echo {run} >> executed; exit {number % 3}")
    merlin.submit(SubmitRun(run, "board", "chaos", "test", command, work, work + "/none", cpus=1.0))
    print(run, flush=True)
"""
_STATUSES = {"SUCCEEDED": "completed", "FAILED": "failed", "STOPPED": "cancelled"}


def test_two_hundred_runs_of_eight_processes_end_as_ray_says_each_once(lab: Lab, figure: Figure) -> None:
    watcher = watch(lab)
    try:
        with ThreadPoolExecutor(SUBMITTERS) as pool:
            submitted = [run for runs in pool.map(lambda _: submit(lab), range(SUBMITTERS)) for run in runs]
        assert len(set(submitted)) == RUNS
        cancelled = random.Random(7).sample(submitted, CANCELLED)
        for place, run in enumerate(cancelled):
            lab.merlin.cancel(run)
            if place == CANCELLED // 2:
                watcher.kill()
                watcher.communicate()
                watcher = watch(lab)
        index = lab.build().ledger.index
        until(lambda: not index.active(), limit_s=1_200, step_s=1.0)
    finally:
        watcher.kill()
        watcher.communicate()
    said = {job.submission_id: _STATUSES[job.status] for job in lab.jobs()}
    ledger = lab.build().ledger
    records = {run: ledger.run(run) for run in submitted}
    for run, record in records.items():
        if run not in cancelled:
            assert record.status == said[run]
        else:
            assert record.status == said.get(run, "cancelled") or record.status == "cancelled"
        assert sum(kind in ("run.completed", "run.failed", "run.cancelled") for kind in lab.types(run)) == 1
    executed = (lab.work / "executed").read_text().split()
    assert len(executed) == len(set(executed)), "a run was executed twice"
    counts = {status: sum(record.status == status for record in records.values()) for status in _STATUSES.values()}
    figure(f"{RUNS} runs by {SUBMITTERS} processes, {CANCELLED} cancelled, the reconciler killed once: {counts}")


def submit(lab: Lab) -> list[str]:
    """Submit a share of the runs from a process of its own."""
    argv = [sys.executable, "-W", "ignore", "-c", _SUBMIT, str(lab.root), str(lab.work), str(RUNS // SUBMITTERS)]
    done = subprocess.run(argv, env=lab.environment(), cwd=lab.work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def watch(lab: Lab) -> subprocess.Popen[bytes]:
    """Start a reconciler."""
    argv = [sys.executable, "-W", "ignore", "-m", "merlin_es", "ray", "--state-root", str(lab.root), "reconcile"]
    argv.append("--unblock")  # A head that is busy with all that may be slow to answer a submitter.
    return subprocess.Popen(
        argv, env=lab.environment(), cwd=lab.work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
