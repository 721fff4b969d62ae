"""Are the odd things that Ray was measured to do told as what they are?"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from merlin_es import bootstrap, processes
from merlin_es.commands import StartLocal
from merlin_es.deciders import run as rules
from merlin_es.ray_adapter.heads import head_processes
from projections.events.run import RunEvent
from projections.run_record import RunRecord
from tests.conftest import Figure
from tests.e2e.lab import Lab, until, with_token
from tests.ray_cluster import RunningHead

pytestmark = pytest.mark.xdist_group("ray")

_PUT_RECORD = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
if sys.argv[3]:
    client.internal_kv_put(sys.argv[2].encode(), sys.argv[3].encode(), True, b"job")
else:
    client.internal_kv_del(sys.argv[2].encode(), False, b"job")
"""


def test_a_cancel_that_races_with_the_end_is_told_as_it_went(lab: Lab, figure: Figure) -> None:
    outcomes = []
    for delay_s in random.Random(3).choices([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], k=6):
        run = lab.running(lab.submit("sleep", "0.3").run_id).run_id
        subprocess.run(["sleep", str(delay_s)], check=True)
        lab.merlin.cancel(run)
        outcomes.append(lab.ended(run).status)
        said = {job.submission_id: job.status for job in lab.jobs()}[run]
        finished = lab.merlin.witnesses.read(run, 1).ended
        if said == "SUCCEEDED" or (finished and finished.exit_code == 0 and finished.stopped_by is None):
            assert outcomes[-1] == "completed", "the command was done before it could be stopped"
        else:
            assert outcomes[-1] == "cancelled"
        assert lab.types(run).count(f"run.{outcomes[-1]}") == 1
    figure(f"6 races: {outcomes}")


def test_a_job_whose_package_is_gone_was_never_started_and_is_repeated_when_asked(lab: Lab) -> None:
    lab.merlin.ledger.change_run("board-x-1", lambda known: rules.request(lab.wish("true", run_id="board-x-1"), known))
    link = lab.merlin.cluster.link()
    entrypoint = lab.merlin.submissions.entrypoint(lab.merlin.ledger.run("board-x-1"), 1)
    missing = "gcs://_ray_pkg_0123456789abcdef0123456789abcdef01234567.zip"
    address, session_name = link.server.address, link.session.session_name

    def intend(known: RunRecord | None) -> tuple[RunEvent, ...]:
        assert known
        return rules.intend(known, address, session_name, entrypoint, missing)

    lab.merlin.ledger.change_run("board-x-1", intend)
    ended = lab.ended("board-x-1")
    assert (ended.status, ended.failure_kind, ended.error_type) == (
        "failed",
        "never_started",
        "RUNTIME_ENV_SETUP_FAILURE",
    )


def test_one_record_that_ray_cannot_read_does_not_stop_the_others(lab: Lab, ray_head: RunningHead) -> None:
    running = lab.submit("sh", "-c", "sleep 1; exit 7").run_id
    with record_in_ray(ray_head, "merlin-unreadable", {"entrypoint": "x", "status": "PENDING", "no_such_field": 1}):
        lab.build().reconcile_once()
        ended = lab.ended(running, lab.build())
    assert (ended.status, ended.exit_code) == ("failed", 7)


def test_a_job_that_ends_before_it_starts_by_the_clocks_of_ray_has_no_negative_duration(
    lab: Lab, ray_head: RunningHead
) -> None:
    run = lab.ended(lab.submit("true").run_id).run_id
    shutil.rmtree(lab.root / "runs" / run)
    job = lab.merlin.cluster.link().server.job(run)
    assert job
    record = {
        "entrypoint": job.entrypoint,
        "status": "SUCCEEDED",
        "start_time": 2_000_000_000_000,
        "end_time": 1_000_000_000_000,
        "metadata": dict(job.metadata),
        "driver_exit_code": 0,
    }
    with record_in_ray(ray_head, run, record):
        merlin = lab.build()
        ended = lab.ended_after_adoption(run, merlin)
    assert ended.status == "completed"
    assert ended.attempt
    assert (ended.attempt.duration_s or 0) >= 0


def test_a_job_whose_record_is_deleted_in_ray_ends_by_its_wrapper(lab: Lab) -> None:
    run = lab.accepted("sh", "-c", "sleep 1; exit 6")
    server = lab.merlin.cluster.link().server
    until(lambda: (job := server.job(run)) and job.is_terminal)
    lab.delete_in_ray(run)
    ended = lab.ended(run)
    assert (ended.status, ended.exit_code) == ("failed", 6)


def test_a_cluster_that_wants_a_token_says_so(lab: Lab, alone: Lab, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    assert lab.url
    for token in ((), ("--token-file", str(wrong))):
        done = alone.cli("cluster", "attach", lab.url, *token)
        assert done.returncode == 6
        assert "token" in done.stderr


def test_start_local_twice_is_once_and_stop_ends_only_this_head(alone: Lab, ray_head: RunningHead) -> None:
    wish = StartLocal("127.0.0.1", None, None, "merlin", durable=False)
    clusters = bootstrap.clusters(alone.settings)
    try:
        first = clusters.start_local(wish)
        assert first.status == "active"
        assert clusters.start_local(wish).record == first.record
        pid = first.record.pid
        assert pid
        run = alone.running(alone.submit("sleep", "600").run_id).run_id
        os.kill(pid, signal.SIGKILL)
        until(lambda: clusters.status().status == "error")
        assert f"process {pid}" in (clusters.status().message or "")
        second = clusters.start_local(wish)
        assert second.record.pid != pid
        assert alone.ended(run).status == "lost"
        run = alone.running(alone.submit("sleep", "600").run_id).run_id
        assert clusters.stop(alone.merlin.quiesce).status == "stopped"
        assert alone.merlin.ledger.run(run).status == "cancelled"
        assert second.record.temp_dir
        assert head_processes(Path(second.record.temp_dir)) == []
        assert clusters.stop(alone.merlin.quiesce).status == "stopped"
        assert ray_head.heads.is_alive(ray_head.head.process)
    finally:
        clusters.stop(alone.merlin.quiesce)


@contextmanager
def record_in_ray(head: RunningHead, submission_id: str, record: dict[str, object]) -> Iterator[None]:
    """Put a job into Ray's state store as it is, and take it out again."""
    key = f"_ray_internal_job_info_{submission_id}"

    def put(text: str) -> None:
        argv = [sys.executable, "-c", _PUT_RECORD, head.head.address, key, text]
        done = subprocess.run(argv, env=with_token(head), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    put(json.dumps(record))
    try:
        yield
    finally:
        put("")


def supervisor_of(pid: int) -> int:
    """Give the process of Ray's JobSupervisor above a wrapper."""
    while pid > 1:
        if any("JobSupervisor" in word for word in processes.command_line(pid)):
            return pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    raise AssertionError("no supervisor above the wrapper")
