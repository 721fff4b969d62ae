"""Does a Ray that lives keep the promises of the port, and does it still answer as one did when it was recorded?"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, cast

import pytest

from merlin_es.errors import JobExists, Rejected, Unauthorized
from merlin_es.ports import JobServer, RayJob, Submission
from merlin_es.ray_adapter.address import Token, token_file
from merlin_es.ray_adapter.http import Answer, Exchanges, Limits, Request
from merlin_es.ray_adapter.jobs import RayJobServer
from merlin_es.ray_adapter.records import complaint
from tests.conftest import Figure
from tests.ray_cluster import RunningHead
from tests.ray_replay import Payload, load

pytestmark = pytest.mark.xdist_group("ray")
WAIT_S = 60.0
SLOW = Limits(read_s=30.0, post_s=60.0)  # A machine that runs other tests too.


@pytest.fixture(scope="module")
def server(ray_head: RunningHead) -> Iterator[JobServer]:
    server = RayJobServer(ray_head.dashboard_url, token_file(ray_head.token_path), SLOW)
    yield server
    server.close()


@pytest.fixture(scope="module")
def failed(server: JobServer) -> str:
    """Give the id of a job that has ended with 3, submitted as it was for the recording."""
    sent = load("030-submit-fail").sent
    submission_id = new_id()
    server.submit(Submission(submission_id, sent["entrypoint"], {}, sent["metadata"]))
    assert ended(server, submission_id).status == "FAILED"
    return submission_id


def new_id() -> str:
    return f"t-{secrets.token_hex(6)}"


def job_that(server: JobServer, submission_id: str, holds: Callable[[RayJob], bool]) -> RayJob:
    """Wait until something holds of a job."""
    deadline = time.monotonic() + WAIT_S
    while True:
        job = server.job(submission_id)
        assert job is not None
        if holds(job):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def ended(server: JobServer, submission_id: str) -> RayJob:
    return job_that(server, submission_id, lambda job: job.is_terminal)


def test_a_session_has_a_name_that_stays(server: JobServer, ray_head: RunningHead) -> None:
    session = server.session()
    assert session == server.session()
    assert session.session_name.startswith("session_")
    assert session.ray_version.startswith("2.60.")
    assert server.address == ray_head.dashboard_url


def test_a_job_is_submitted_runs_and_is_stopped(server: JobServer) -> None:
    submission_id = new_id()
    entrypoint = 'echo "$GREETING"; exec sleep 300'
    server.submit(Submission(submission_id, entrypoint, {"GREETING": "hé"}, {"merlin_run": "r"}, cpus=0.1))
    job = job_that(server, submission_id, lambda job: job.status == "RUNNING")
    assert (job.submission_id, job.entrypoint, job.exit_code) == (submission_id, entrypoint, None)
    assert (job.env["GREETING"], job.metadata["merlin_run"]) == ("hé", "r")
    assert job.accepted_ms is not None
    wait_for_log(server, submission_id, "hé\n".encode())
    assert submission_id in [each.submission_id for each in server.jobs()]
    assert server.stop(submission_id)
    assert ended(server, submission_id).status == "STOPPED"
    wait_until(lambda: not server.stop(submission_id))  # Its supervisor may outlive the record of its end by a moment.


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_log(server: JobServer, submission_id: str, text: bytes) -> bytes:
    deadline = time.monotonic() + WAIT_S
    while text not in (log := server.logs(submission_id) or b""):
        assert time.monotonic() < deadline, log
        time.sleep(0.05)
    return log


def test_a_job_that_fails_says_how(server: JobServer, failed: str) -> None:
    job = server.job(failed)
    assert job is not None
    assert (job.status, job.exit_code, job.error_type) == ("FAILED", 3, "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert "exit code 3" in job.message
    assert job.metadata == {"merlin_run": "r2"}
    assert job.ended_ms is not None


def test_an_unknown_job_is_unknown_to_every_verb(server: JobServer) -> None:
    assert server.job("nope") is None
    assert server.logs("nope") is None
    assert server.stop("nope") is False
    server.kick("nope")
    assert server.tail("nope", head_id(server), 5) is None


def head_id(server: JobServer) -> str:
    [head] = [node for node in server.nodes() if node.is_head]
    return head.node_id


def test_a_kick_changes_nothing_of_a_job_that_has_ended(server: JobServer, failed: str) -> None:
    before = server.job(failed)
    server.kick(failed)
    assert server.job(failed) == before


def test_sixteen_submissions_of_one_id_are_one_job(server: JobServer, tmp_path: Path, figure: Figure) -> None:
    submission_id, ran = new_id(), tmp_path / "ran"
    submission = Submission(submission_id, f"echo x >> {ran}", {}, {}, cpus=0.1)
    together = threading.Barrier(16)

    def submit(_: int) -> str:
        together.wait()
        try:
            server.submit(submission)
        except JobExists:
            return "exists"
        return "accepted"

    begin = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        results = sorted(pool.map(submit, range(16)))
    figure(f"16 at once in {(time.monotonic() - begin) * 1000:.0f} ms")
    assert results == ["accepted"] + ["exists"] * 15
    assert ended(server, submission_id).status == "SUCCEEDED"
    with pytest.raises(JobExists, match=submission_id):
        server.submit(submission)
    assert ran.read_text() == "x\n"


def test_a_log_comes_byte_for_byte_and_its_tail_too(server: JobServer) -> None:
    submission_id = new_id()
    code = r"import sys; sys.stdout.buffer.write(b'\xff\xfe\r10%\r100%\r\n' + b'last\n')"
    server.submit(Submission(submission_id, f'python3 -c "{code}"', {}, {}))
    job = ended(server, submission_id)
    assert (job.status, job.exit_code) == ("SUCCEEDED", 0)
    log = server.logs(submission_id)
    assert log is not None
    assert log.endswith(b"\xff\xfe\r10%\r100%\r\nlast\n")
    assert job.node_id is not None
    assert server.tail(submission_id, job.node_id, 1) == b"last\n"
    assert server.tail(submission_id, job.node_id, 1000) == log


def test_the_head_is_a_node_that_lives(server: JobServer) -> None:
    [head] = server.nodes()
    assert head.alive
    assert head.is_head
    assert head.resources["CPU"] > 0
    assert head.labels["ray.io/node-id"] == head.node_id


def test_a_package_is_uploaded_once_and_becomes_the_working_directory(server: JobServer, tmp_path: Path) -> None:
    package = tmp_path / "p.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("told.txt", secrets.token_hex(8))
        archive.writestr("sub/other.txt", "other")
    uri = server.upload(package)
    assert re.fullmatch(r"gcs://_ray_pkg_[0-9a-f]{32}\.zip", uri)
    assert server.upload(package) == uri
    submission_id = new_id()
    server.submit(Submission(submission_id, "cat told.txt sub/other.txt", {}, {}, working_dir=uri))
    assert ended(server, submission_id).status == "SUCCEEDED"
    with zipfile.ZipFile(package) as archive:
        assert archive.read("told.txt") + b"other" in (server.logs(submission_id) or b"")


def test_labels_that_ray_cannot_read_are_rejected_and_leave_no_job(server: JobServer) -> None:
    submission_id = new_id()
    with pytest.raises(Rejected, match="Invalid label") as caught:
        server.submit(Submission(submission_id, "true", {}, {}, label_selector={"board": "!!in(("}))
    assert caught.value.http_status == 500
    assert server.job(submission_id) is None


def test_a_wrong_token_and_none_are_told_apart_by_what_was_sent(ray_head: RunningHead, tmp_path: Path) -> None:
    for token, message in (
        (Token("$X", lambda: "wrong"), r"403.*the token in \$X is not its own"),
        (token_file(tmp_path / "none"), "401.*none was sent"),
        (None, "401.*no file with a token was named"),
    ):
        with pytest.raises(Unauthorized, match=message):
            RayJobServer(ray_head.dashboard_url, token, SLOW).jobs()


@pytest.mark.parametrize(
    ("name", "recorded_id", "which"),
    [
        ("001-version", "", ""),
        ("010-get-unknown", "", ""),
        ("011-stop-unknown", "", ""),
        ("013-logs-unknown", "", ""),
        ("020-submit-ok", "m-ok-1", "new"),
        ("023-logs-succeeded", "m-ok-1", "failed"),
        ("024-submit-duplicate-finished", "m-ok-1", "failed"),
        ("031-get-failed-exit3", "m-fail-1", "failed"),
        ("048-stop-already-succeeded", "m-ok-1", "failed"),
        ("060-submit-missing-entrypoint", "m-bad-1", "new"),
        ("061-submit-entrypoint-list", "", ""),
        ("062-submit-metadata-int", "", ""),
        ("063-submit-unknown-field", "", ""),
        ("068-submit-bad-label-selector", "m-bad-ls", "new"),
        ("161-auth-no-token-api-gcs_healthz", "", ""),
        ("184-package-get-missing", "", ""),
        ("200-nodes-state-api-alive", "", ""),
        ("212-state-api-log-file-tail", "f1", "failed"),
        ("213-state-api-log-by-submission-id", "f1", "failed"),
        ("301-log-file-unknown-node", "", ""),
        ("304-submit-bad-label-selector-value", "p-ls", "new"),
    ],
)
def test_ray_still_answers_as_recorded(
    ray_head: RunningHead, server: JobServer, failed: str, name: str, recorded_id: str, which: str
) -> None:
    recorded = load(name)
    text = json.dumps([recorded.path, recorded.sent])
    if recorded_id:
        text = re.sub(rf"\b{recorded_id}\b", failed if which == "failed" else new_id(), text)
    path, sent = json.loads(re.sub(r"node_id=(?!0{56})[0-9a-f]{56}", f"node_id={head_id(server)}", text))
    answer = ask(ray_head, recorded, path, sent)
    assert (answer.status, shape(body_of(answer))) == (recorded.status, shape(recorded.body))
    assert complaint(answer.line()) == complaint(Answer(recorded.status, recorded.content).line())


def test_ray_says_of_a_log_that_is_missing_what_was_recorded_or_that_it_is_empty(
    ray_head: RunningHead, server: JobServer, figure: Figure
) -> None:
    recorded, node = load("300-log-file-missing"), head_id(server)
    path = re.sub(r"node_id=[0-9a-f]{56}", f"node_id={node}", recorded.path)
    answers = [ask(ray_head, recorded, path, None) for _ in range(40)]
    kinds = {(answer.status, complaint(answer.line())) for answer in answers}
    assert kinds <= {(recorded.status, "no_file"), (200, None)}
    assert all(answer.body == b"" for answer in answers if answer.status == 200)
    assert [server.tail("nope", node, 5) for _ in range(40)] == [None] * 40
    figure(f"{sum(answer.status == 200 for answer in answers)} of 40 say that it is empty")


def test_ray_still_lists_jobs_as_recorded(ray_head: RunningHead, failed: str) -> None:
    answer = ask(ray_head, load("003-list-empty"), "/api/jobs/", None)
    jobs = json.loads(answer.body)
    [job] = [job for job in jobs if job["submission_id"] == failed]
    assert shape(job) == shape(load("031-get-failed-exit3").body)
    assert all(job.keys() == load("022-get-succeeded").body.keys() for job in jobs)


def ask(ray_head: RunningHead, recorded: Payload, path: str, sent: object) -> Answer:
    """Ask what a recording asked, at another path and with another body."""
    method = cast("Literal['GET', 'POST']", recorded.method)
    exchanges = Exchanges(ray_head.dashboard_url, token_file(ray_head.token_path), SLOW)
    try:
        return exchanges.ask(Request(method, path, 60.0, None if sent is None else json.dumps(sent).encode()))
    finally:
        exchanges.close()


def body_of(answer: Answer) -> object:
    try:
        return json.loads(answer.body)
    except ValueError:
        return answer.body.decode()


def shape(value: object) -> object:
    """Give the keys and the types of a JSON value; of the resources of a node, that each has an amount."""
    if isinstance(value, dict):
        return {key: "amounts" if key == "resources_total" else shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__
