"""Does a run end once and rightly, whoever is killed at whichever point around a call to the world?"""

from __future__ import annotations

import signal

import pytest

from tests.e2e.lab import Lab, until

pytestmark = pytest.mark.xdist_group("ray")

SUBMITTING = [
    "request.before",
    "append.before",
    "append.before:2",
    "append.after:2",
    "append.before:3",
    "append.after:3",
    "publish.after:3",
]
"""Where the runs of `stories.SUBMITTER_DIES` are not killed, which say the same of five more points."""
ENDING = [
    "logs.before",
    "logs.after",
    "artifacts.before",
    "artifacts.after",
    "record.before",
    "append.before",
    "append.after",
    "publish.after",
]
CANCELLING = [
    "append.before",
    "append.after",
    "publish.after",
    "forbid.before",
    "forbid.after",
    "stop.before",
    "stop.after",
]


@pytest.mark.parametrize("failpoint", SUBMITTING)
def test_a_submitter_killed_anywhere_leaves_one_job_or_no_run(lab: Lab, failpoint: str) -> None:
    done = lab.cli(
        "jobs", "submit", "--target", "board", "--workflow", "w", "--target-dir", ".", "--cpus", "0.1",
        "--", *lab.marked(), failpoint=failpoint,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    merlin = lab.build()
    runs = lab.runs()
    if failpoint in ("request.before", "append.before"):
        assert runs == []
        return
    (run,) = runs
    ended = lab.ended(run, merlin)
    assert ended.status == "completed"
    assert lab.executed() == 1
    assert [job.submission_id for job in lab.jobs()] == [run]
    assert lab.types(run).count("run.submitted") == 1
    assert lab.types(run).count("run.completed") == 1


@pytest.mark.parametrize("failpoint", ENDING)
def test_a_reconciler_killed_anywhere_at_the_end_of_a_run_costs_nothing(lab: Lab, failpoint: str) -> None:
    run = lab.accepted(*lab.marked("sleep 1; echo out"))
    server = lab.merlin.cluster.link().server
    until(lambda: (job := server.job(run)) and job.is_terminal)
    assert lab.cli("reconcile", "--once", failpoint=failpoint).returncode == -signal.SIGKILL
    ended = lab.ended(run, lab.build())
    assert (ended.status, ended.exit_code) == ("completed", 0)
    assert lab.types(run).count("run.completed") == 1
    assert lab.types(run).count("run.logs_captured") == 1
    assert b"".join(lab.build().output(run)) == b"out\n"


@pytest.mark.parametrize("failpoint", CANCELLING)
def test_who_cancels_may_be_killed_anywhere(lab: Lab, failpoint: str) -> None:
    run = lab.running(lab.submit(*lab.marked("sleep 600")).run_id).run_id
    assert lab.cli("jobs", "cancel", run, failpoint=failpoint).returncode == -signal.SIGKILL
    merlin = lab.build()
    if failpoint == "append.before":
        assert merlin.ledger.run(run).cancel_requested_at is None
        merlin.cancel(run)
    ended = lab.ended(run, merlin)
    assert ended.status == "cancelled"
    assert lab.types(run).count("run.cancelled") == 1


@pytest.mark.parametrize("failpoint", ["append.after", "submit.before", "submit.after"])
def test_a_run_cancelled_while_its_submission_is_in_doubt_is_never_executed_after_that(
    lab: Lab, failpoint: str
) -> None:
    done = lab.cli(
        "jobs", "submit", "--target", "board", "--workflow", "w", "--target-dir", ".", "--cpus", "640",
        "--", *lab.marked(), failpoint=failpoint,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    (run,) = lab.runs()
    merlin = lab.build()
    merlin.cancel(run)
    assert lab.ended(run, merlin).status == "cancelled"
    assert lab.executed() == 0
