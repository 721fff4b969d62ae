"""Does the wrapper keep its promises when real Ray starts, stops and loses its jobs?"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from merlin_es import entrypoint as wrapper
from merlin_es.ports import JobServer, RayJob, Submission, Witness
from merlin_es.ray_adapter.address import token_file
from merlin_es.ray_adapter.http import Limits
from merlin_es.ray_adapter.jobs import RayJobServer
from merlin_es.witness import WitnessFiles, entrypoint
from tests.conftest import Figure
from tests.ray_cluster import OwnHead, RunningHead

pytestmark = pytest.mark.xdist_group("ray")

LIMIT_S = 120.0
SLOW = Limits(read_s=60, post_s=60)

# In the background, in a session of its own, and double-forked: Ray leaves the last two running (Ray 2.60, measured).
LINGER = "{doze} 1000 & setsid {doze} 1000 & (setsid {doze} 1000 &)\n"


class Job:
    """A job whose command runs through the wrapper."""

    def __init__(self, head: RunningHead, top: Path) -> None:
        self.id = f"run-{uuid.uuid4().hex[:8]}"
        self.server: JobServer = RayJobServer(head.dashboard_url, token_file(head.token_path), SLOW)
        self.files = WitnessFiles(top / "runs")
        self.files.directory(self.id).mkdir(parents=True)
        self.workdir = top / "work"
        self.workdir.mkdir()
        self.doze = top / "doze"
        self.doze.symlink_to(shutil.which("sleep") or "/bin/sleep")

    def submit(self, script: str) -> None:
        words = ["sh", "-c", script.replace("{doze}", str(self.doze))]
        witness = self.files.directory(self.id)
        text = entrypoint(Path(wrapper.__file__), sys.executable, witness, self.id, 1, str(self.workdir), words)
        self.server.submit(Submission(self.id, text, {}, {}))

    def stop(self) -> None:
        self.server.stop(self.id)

    def witness(self) -> Witness:
        return self.files.read(self.id, 1)

    def wait_for_file(self, name: str) -> None:
        wait_until(lambda: (self.workdir / name).exists(), name)

    def ended(self) -> RayJob:
        wait_until(lambda: (job := self.server.job(self.id)) is not None and job.is_terminal, "the end of the job")
        job = self.server.job(self.id)
        assert job
        return job

    def left(self) -> dict[int, str]:
        """Give the wrapper, its guard, the command and everything that it has started."""
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                of_run = f"MERLIN_RUN={self.id}\0".encode() in (entry / "environ").read_bytes()
                if entry.name.isdigit() and words and (of_run or os.fsencode(self.doze) in words):
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode()
        return found

    def nothing_is_left(self) -> None:
        wait_until(lambda: not self.left(), lambda: f"the end of {self.left()}")


def wait_until(condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what if isinstance(what, str) else what()}"
        time.sleep(0.02)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def job(ray_head: RunningHead, tmp_path: Path) -> Iterator[Job]:
    job = Job(ray_head, tmp_path)
    yield job
    end(job)


def end(job: Job) -> None:
    """Leave nothing running, whatever the test has found."""
    job.server.close()
    for pid in job.left():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_job_ends_with_the_commands_code_and_what_it_left_is_gone(job: Job) -> None:
    job.submit(LINGER + "echo out; env >environment; exit 3")
    done = job.ended()
    assert (done.status, done.exit_code, done.error_type) == ("FAILED", 3, "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert job.server.logs(job.id) is not None
    assert (job.server.logs(job.id) or b"").endswith(b"\nout\n")
    job.nothing_is_left()
    ended = job.witness().ended
    assert ended
    assert (ended.exit_code, ended.how, ended.stopped_by) == (3, "exited", None)
    environment = (job.workdir / "environment").read_text()
    assert f"MERLIN_RUN={job.id}\n" in environment
    assert "OMP_NUM_THREADS" not in environment  # Ray sets it to 1 for a job that asks for no CPUs.


def test_a_stopped_job_leaves_its_exit_and_nothing_else(job: Job, figure: Figure) -> None:
    job.submit(LINGER + "trap 'echo told >>told; exit 7' TERM; sleep 2.5; touch ready; while :; do sleep 0.05; done")
    job.wait_for_file("ready")
    begun = time.monotonic()
    job.stop()
    job.nothing_is_left()
    took_s = time.monotonic() - begun
    assert job.ended().status == "STOPPED"
    ended = job.witness().ended
    assert ended
    assert (ended.exit_code, ended.how, ended.stopped_by) == (7, "exited", "SIGTERM")
    assert (job.workdir / "told").read_text() == "told\n", "Ray tells the whole tree, and the wrapper not once more"
    figure(f"stop: nothing left after {took_s:.1f} s")


def test_a_job_that_ignores_the_stop_is_killed_with_all_it_has_started(job: Job, figure: Figure) -> None:
    job.submit("trap '' TERM\n" + LINGER + "touch ready; while :; do sleep 0.05; done")
    job.wait_for_file("ready")
    begun = time.monotonic()
    job.stop()
    job.nothing_is_left()
    took_s = time.monotonic() - begun
    assert job.ended().status == "STOPPED"
    ended = job.witness().ended
    assert ended
    assert (ended.exit_code, ended.how, ended.stopped_by) == (None, "wrapper_killed", "SIGTERM")
    figure(f"stop of what ignores SIGTERM: nothing left after {took_s:.1f} s")


def test_a_job_whose_supervisor_is_killed_leaves_an_end_and_nothing_else(job: Job, figure: Figure) -> None:
    job.submit(LINGER + "touch ready; {doze} 1000; :")
    job.wait_for_file("ready")
    started = job.witness().started
    assert started
    supervisor = parent_of(started.pid)
    assert b"JobSupervisor" in Path(f"/proc/{supervisor}/cmdline").read_bytes()
    begun = time.monotonic()
    os.kill(supervisor, signal.SIGKILL)
    job.nothing_is_left()
    took_s = time.monotonic() - begun
    assert job.ended().error_type == "JOB_SUPERVISOR_ACTOR_DIED"
    ended = job.witness().ended
    assert ended
    assert (ended.exit_code, ended.how) == (None, "wrapper_killed")
    figure(f"supervisor SIGKILL: nothing left after {took_s:.1f} s")


def test_a_cancelled_run_that_ray_starts_all_the_same_does_not_run(job: Job) -> None:
    job.files.forbid(job.id)
    job.submit("touch ran")
    assert job.ended().exit_code == 75
    assert job.witness() == Witness(refused="cancelled")
    assert not (job.workdir / "ran").exists()
    assert json.loads((job.files.directory(job.id) / "a1.refused.json").read_bytes())["why"] == "cancelled"


def test_a_job_whose_raylet_is_killed_leaves_an_end_and_nothing_else(
    own_head: Callable[..., OwnHead], tmp_path: Path, figure: Figure
) -> None:
    job = Job(own_head(), tmp_path)
    try:
        job.submit(LINGER + "touch ready; {doze} 1000; :")
        job.wait_for_file("ready")
        started = job.witness().started
        assert started
        raylet = parent_of(parent_of(started.pid))
        assert b"/raylet/raylet" in Path(f"/proc/{raylet}/cmdline").read_bytes().split(b"\0")[0]
        begun = time.monotonic()
        os.kill(raylet, signal.SIGKILL)
        job.nothing_is_left()
        took_s = time.monotonic() - begun
        ended = job.witness().ended
        assert ended
        assert (ended.exit_code, ended.how) == (None, "wrapper_killed")
        figure(f"raylet SIGKILL: nothing left after {took_s:.1f} s")
    finally:
        end(job)
