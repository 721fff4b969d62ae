"""What is said of runs when what runs them dies, hangs, forgets or lies?"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from merlin_es import bootstrap, processes
from merlin_es.commands import StartLocal
from merlin_es.ray_adapter.heads import LocalHeads, find_ray, head_processes
from projections.layout import CLUSTER
from tests.conftest import Figure
from tests.e2e.lab import Lab, until, with_token
from tests.ray_cluster import ENOUGH_FOR_ALL_TESTS, OwnHead, RunningHead, free_place, watched_directory

pytestmark = pytest.mark.xdist_group("ray")

OwnLab = Callable[..., tuple[Lab, OwnHead]]


@pytest.fixture(scope="module")
def spoilt_head() -> Iterator[OwnHead]:
    """Give a head to those that let it live: what they do to it is over when they are."""
    with watched_directory() as directory:
        head = OwnHead(LocalHeads(ENOUGH_FOR_ALL_TESTS), free_place(directory))
        try:
            yield head
        finally:
            head.stop()


def test_a_head_that_is_killed_and_restarted_has_lost_what_ran_and_nothing_else(own_lab: OwnLab) -> None:
    lab, head = own_lab()
    done = lab.ended(lab.submit("sh", "-c", "echo out").run_id)
    running = lab.running(lab.submit(*lab.marked("sleep 600")).run_id)
    pending = lab.submit("true", cpus=640.0)
    before = len(list(lab.merlin.ledger.log.read(CLUSTER)))  # A busy machine may have been slow to answer already.
    head.kill()
    for _ in range(3):
        assert lab.merlin.reconcile_once().unreachable
    assert lab.merlin.status(running.run_id).status == "running", "no answer says nothing about a run"
    assert lab.merlin.status(pending.run_id).status == "submitted"
    assert lab.merlin.cluster.peek().unreachable_since
    types = [event.type for event in lab.merlin.ledger.log.read(CLUSTER, before + 1)]
    assert types == ["cluster.unreachable"], "one event of the cluster, not one for each look or run"
    assert b"".join(lab.merlin.output(done.run_id)) == b"out\n", "what was captured is there without a cluster"
    head.restart()
    lost = lab.ended(running.run_id)
    assert lost.status == "lost"
    assert f"jobs retry {running.run_id}" in (lost.message or "")
    assert lab.ended(pending.run_id).status == "lost"
    assert lab.merlin.ledger.run(done.run_id) == done
    assert "cluster.session_changed" in [event.type for event in lab.merlin.ledger.log.read(CLUSTER, before + 1)]
    assert lab.merlin.retry(pending.run_id).attempts[-1].submission_id == f"{pending.run_id}-a2"
    lab.merlin.cancel(pending.run_id)
    assert lab.ended(pending.run_id).status == "cancelled"


def test_a_durable_head_keeps_what_it_ran_over_a_kill(own_lab: OwnLab, figure: Figure) -> None:
    lab, head = own_lab(durable=True)
    done = lab.accepted("sh", "-c", "sleep 1; exit 4")
    running = lab.running(lab.submit("sleep", "600").run_id).run_id
    server = lab.merlin.cluster.link().server
    until(lambda: (job := server.job(done)) and job.is_terminal)
    (lab.root / "runs" / done / "witness" / "a1.ended.json").unlink(missing_ok=True)
    first = head.head
    head.kill()
    began = time.monotonic()
    head.restart()
    figure(f"durable head restarted in {time.monotonic() - began:.1f} s")
    assert head.head.process != first.process
    assert (head.head.session, head.dashboard_url) == (first.session, first.dashboard_url)
    ended = lab.ended(done)
    assert (ended.status, ended.exit_code) == ("failed", 4)
    ended = lab.ended(running)
    assert ended.status in ("failed", "lost"), "Ray says RUNNING of it until somebody wakes its agent"
    assert ended.failure_kind in ("infrastructure", None)


def test_a_head_that_hangs_is_unreachable_within_the_limits(tmp_path: Path, spoilt_head: OwnHead) -> None:
    head = spoilt_head
    lab = Lab(tmp_path, head.dashboard_url, head.token_path)
    run = lab.running(lab.submit("sleep", "600").run_id).run_id
    stopped = [
        process
        for process in head_processes(head.head.temp_dir)
        if any("dashboard" in word or "gcs_server" in word for word in processes.command_line(process.pid))
    ]
    assert stopped
    for process in stopped:
        os.kill(process.pid, signal.SIGSTOP)
    done = lab.merlin.reconcile_once()
    assert done.unreachable
    assert lab.merlin.ledger.run(run).status == "running"
    for process in stopped:
        os.kill(process.pid, signal.SIGCONT)
    until(lambda: not lab.merlin.reconcile_once().unreachable)
    assert lab.merlin.ledger.run(run).status == "running"
    lab.merlin.cancel(run)
    assert lab.ended(run).status == "cancelled"


def test_a_start_that_was_killed_before_it_was_recorded_leaves_nothing_in_the_way(alone: Lab) -> None:
    clusters = bootstrap.clusters(alone.settings)
    try:
        done = alone.cli("cluster", "start-local", failpoint="head.after")
        assert done.returncode == -signal.SIGKILL
        view = clusters.start_local(StartLocal("127.0.0.1", None, None, "merlin", durable=False))
        assert view.status == "active"
        assert alone.ended(alone.submit("true").run_id).status == "completed"
    finally:
        clusters.stop(alone.merlin.quiesce)


def test_a_job_that_waits_for_longer_than_ray_lets_it_never_started(
    tmp_path: Path, own_head: Callable[..., OwnHead]
) -> None:
    head = own_head(job_start_timeout_s=6)
    lab = Lab(tmp_path, head.dashboard_url, head.token_path)
    ended = lab.ended(lab.submit(*lab.marked(), cpus=640.0, retries_max=1).run_id)
    assert (ended.status, ended.failure_kind, len(ended.attempts)) == ("failed", "never_started", 2)
    assert lab.executed() == 0


def test_a_worker_that_dies_with_its_job_is_a_failure_of_the_infrastructure_and_its_output_is_kept(
    tmp_path: Path, spoilt_head: OwnHead
) -> None:
    lab = Lab(tmp_path, spoilt_head.dashboard_url, spoilt_head.token_path)
    with worker(spoilt_head, tmp_path) as pid:
        record = lab.submit("sh", "-c", "echo on the board; sleep 600", resources={"board": 1.0})
        run = lab.running(record.run_id).run_id
        until(lambda: b"on the board" in b"".join(lab.merlin.output(run)))
        for process in session_of(pid):
            if any("raylet/raylet" in word for word in processes.command_line(process)[:1]):
                os.kill(process, signal.SIGKILL)
        ended = lab.ended(run)
    assert ended.status in ("failed", "lost")
    assert ended.failure_kind in ("infrastructure", None)


@contextmanager
def worker(head: RunningHead, top: Path) -> Iterator[int]:
    """Join a machine with a board to the cluster, as far as one host can play two."""
    argv = [
        str(find_ray()), "start", "--block", f"--address={head.head.address}", "--num-cpus=2",
        '--resources={"board": 1}', "--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    with (top / "worker.log").open("wb") as log:
        process = subprocess.Popen(argv, env=with_token(head), stdout=log, stderr=log, start_new_session=True)
    try:
        yield process.pid
    finally:
        for pid in session_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def session_of(leader: int) -> list[int]:
    """Give the processes in the session of `leader`."""
    found = []
    for pid in processes.pids():
        try:
            if os.getsid(pid) == leader:
                found.append(pid)
        except ProcessLookupError:
            continue
    return found
