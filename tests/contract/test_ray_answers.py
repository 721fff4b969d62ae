"""What becomes of each answer that a Ray gave once, and of answers that none would give, in the words of the port?"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from merlin_es.errors import ClusterError, JobExists, ListUnreadable, Rejected, Unreachable, Usage
from merlin_es.ports import RayJob, Session, Submission
from merlin_es.ray_adapter import jobs
from merlin_es.ray_adapter.http import Limits, Request
from merlin_es.ray_adapter.jobs import RayJobServer
from tests.ray_replay import PAYLOADS, Replay, load, replaying

NODE = "368108c56591de2094c80970c8301a16f36d91aeebd3e5ce422a4c9c"
PLAIN = Submission("m-1", "true", {}, {})
LABELLED = replace(PLAIN, label_selector={"a": "!!in(("})


@pytest.fixture
def ray() -> Iterator[Replay]:
    with replaying() as replay:
        yield replay


def server(ray: Replay, **limits: float) -> RayJobServer:
    return RayJobServer(ray.address, limits=Limits(**limits))


def submits(submission: Submission) -> Callable[[RayJobServer], object]:
    return lambda server: server.submit(submission)


def asks(verb: str, *arguments: object) -> Callable[[RayJobServer], object]:
    return lambda server: getattr(server, verb)(*arguments)


@pytest.mark.parametrize(
    ("name", "call", "result"),
    [
        ("001-version", asks("session"), Session("session_2026-11-23_07-04-36_530021_15956", "2.60.0")),
        ("003-list-empty", asks("jobs"), []),
        ("010-get-unknown", asks("job", "nope"), None),
        ("011-stop-unknown", asks("stop", "nope"), False),
        ("011-stop-unknown", asks("kick", "nope"), None),
        ("010-get-unknown", asks("logs", "nope"), None),
        ("020-submit-ok", submits(replace(PLAIN, submission_id="m-ok-1")), None),
        ("021-get-right-after-submit", asks("logs", "m-ok-1"), b""),
        ("044-stop-running", asks("stop", "m-long-1"), True),
        ("047-stop-already-stopped", asks("stop", "m-long-1"), False),
        ("048-stop-already-succeeded", asks("stop", "m-ok-1"), False),
        ("048-stop-already-succeeded", asks("kick", "m-ok-1"), None),
        ("087-stop-pending-infeasible", asks("stop", "m-pend-cpu"), True),
    ],
)
def test_a_recorded_answer_becomes(name: str, call: Callable[[RayJobServer], object], result: object) -> None:
    with replaying(name) as ray:
        assert call(server(ray)) == result


@pytest.mark.parametrize(
    ("name", "status", "error_type", "exit_code"),
    [
        ("021-get-right-after-submit", "PENDING", None, None),
        ("022-get-succeeded", "SUCCEEDED", None, 0),
        ("031-get-failed-exit3", "FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 3),
        ("041-get-running", "RUNNING", None, None),
        ("046-get-stopped", "STOPPED", None, None),
        ("073-get-m-bad-rt", "FAILED", "JOB_SUPERVISOR_ACTOR_START_FAILURE", None),
        ("102-get-supervisor-killed", "FAILED", "JOB_SUPERVISOR_ACTOR_DIED", None),
        ("105-get-worker-node-died", "FAILED", "JOB_SUPERVISOR_ACTOR_DIED", None),
        ("111-get-running-with-driver-info", "RUNNING", None, None),
        ("114-get-by-driver-job-id", "SUCCEEDED", None, 0),
        ("180-get-start-timeout", "FAILED", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", None),
        ("182-get-working-dir-missing", "FAILED", "RUNTIME_ENV_SETUP_FAILURE", None),
        ("203-get-running-although-head-raylet-dead", "RUNNING", None, None),
        ("230-get-end-before-start", "SUCCEEDED", None, 0),
        ("303-get-half-character", "FAILED", "JOB_ENTRYPOINT_COMMAND_START_ERROR", None),
    ],
)
def test_a_recorded_job_keeps_what_matters(
    name: str, status: str, error_type: str | None, exit_code: int | None
) -> None:
    recorded = load(name)
    with replaying(name) as ray:
        job = server(ray).job(recorded.path.rpartition("/")[2])
        ray.says("GET", "/api/jobs/", 200, [recorded.body])
        assert server(ray).jobs() == [job]
    assert job is not None
    assert (job.status, job.error_type, job.exit_code) == (status, error_type, exit_code)
    assert job.is_terminal is (status not in ("PENDING", "RUNNING"))
    assert (job.submission_id, job.node_id) == (recorded.body["submission_id"], recorded.body["driver_node_id"])
    assert (job.accepted_ms, job.ended_ms) == (recorded.body["start_time"], recorded.body["end_time"])
    assert job.metadata == (recorded.body["metadata"] or {})
    assert job.env == ((recorded.body["runtime_env"] or {}).get("env_vars") or {})
    assert (job.message + job.entrypoint).encode(), "fit to be written to a log"


@pytest.mark.parametrize(
    ("name", "call", "error", "kind"),
    [
        ("024-submit-duplicate-finished", submits(replace(PLAIN, submission_id="m-ok-1")), JobExists, None),
        ("042-submit-duplicate-running", submits(replace(PLAIN, submission_id="m-long-1")), JobExists, None),
        ("060-submit-missing-entrypoint", submits(PLAIN), Rejected, 400),
        ("061-submit-entrypoint-list", submits(PLAIN), Rejected, 400),
        ("062-submit-metadata-int", submits(PLAIN), Rejected, 400),
        ("063-submit-unknown-field", submits(PLAIN), Rejected, 400),
        ("064-submit-not-json", submits(PLAIN), Unreachable, "server_error"),
        ("068-submit-bad-label-selector", submits(LABELLED), Rejected, 500),
        ("304-submit-bad-label-selector-value", submits(LABELLED), Rejected, 500),
        ("068-submit-bad-label-selector", submits(PLAIN), Unreachable, "server_error"),
        ("116-submit-browser-blocked", submits(PLAIN), Unreachable, "not_ray"),
        ("204-submit-head-agent-dead", submits(PLAIN), Unreachable, "no_agent"),
        ("205-stop-head-agent-dead", asks("stop", "rl-run"), Unreachable, "no_agent"),
    ],
)
def test_a_recorded_error_becomes(
    name: str, call: Callable[[RayJobServer], object], error: type[ClusterError], kind: object
) -> None:
    with replaying(name) as ray, pytest.raises(error) as caught:
        call(server(ray))
    assert getattr(caught.value, "kind", None) == (kind if error is Unreachable else None)
    assert getattr(caught.value, "http_status", None) == (kind if error is Rejected else None)
    assert "Traceback" not in str(caught.value)


def test_an_agent_that_is_absent_is_told_apart(ray: Replay) -> None:
    ray.says("POST", "/api/jobs/", 500, "No available agent to submit job, please try again later.", "text/plain")
    with pytest.raises(Unreachable, match="No available agent") as caught:
        server(ray).submit(PLAIN)
    assert caught.value.kind == "no_agent"


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: Invalid label key name `Job with submission_id m-1 already exists.`. Name must be 63 chars",
        "RuntimeError: ValueError: Job with submission_id m-1 already exists. Please use a different submission_id.",
        "job m-1 already exists",
        "RuntimeError: the file already exists",
        "ValueError: Job with submission_id m-1 already exists.\nRuntimeError: and then something else went wrong",
        "",
    ],
)
def test_when_in_doubt_a_submission_is_open(ray: Replay, text: str) -> None:
    ray.says("POST", "/api/jobs/", 500, text, "text/plain")
    with pytest.raises(Unreachable) as caught:
        server(ray).submit(PLAIN)
    assert caught.value.kind == "server_error"


def test_an_answer_about_another_job_leaves_a_submission_open(ray: Replay) -> None:
    ray.says("POST", "/api/jobs/", 200, {"job_id": "other", "submission_id": "other"})
    with pytest.raises(Unreachable, match="took 'other' for 'm-1'") as caught:
        server(ray).submit(PLAIN)
    assert caught.value.kind == "not_ray"


def test_a_driver_that_was_not_submitted_is_not_stopped(ray: Replay) -> None:
    ray.says("POST", "/api/jobs/03000000/stop", 400, "Can only stop submission type jobs", "text/plain")
    assert server(ray).stop("03000000") is False


def test_only_what_is_asked_for_is_sent(ray: Replay) -> None:
    ray.says("POST", "/api/jobs/", 200, {"job_id": "m-1", "submission_id": "m-1"})
    server(ray).submit(PLAIN)
    every = Submission(
        "m-1", "exec true", {"A": "ü"}, {"merlin_run": "r"}, 0.0, 1.5, {"u250": 1}, {"board": "u250"}, "gcs://x.zip"
    )
    server(ray).submit(every)
    sent = [json.loads(asked.body) for asked in ray.asked]
    assert sent[0] == {"entrypoint": "true", "submission_id": "m-1"}
    assert sent[1] == {
        "entrypoint": "exec true",
        "submission_id": "m-1",
        "metadata": {"merlin_run": "r"},
        "runtime_env": {"env_vars": {"A": "ü"}, "working_dir": "gcs://x.zip"},
        "entrypoint_num_cpus": 0.0,
        "entrypoint_num_gpus": 1.5,
        "entrypoint_resources": {"u250": 1},
        "entrypoint_label_selector": {"board": "u250"},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"job_submission_id": "other"}}, "job_submission_id"),
        ({"submission_id": "../../tmp/evil"}, "cannot be the id"),
        ({"submission_id": ""}, "cannot be the id"),
        ({"submission_id": "a\n"}, "cannot be the id"),
        ({"cpus": float("nan")}, "no amount"),
        ({"resources": {"u250": float("inf")}}, "no amount"),
        ({"env": {"A": "\udcff"}}, "UTF-8"),
    ],
)
def test_what_ray_must_not_get_is_rejected_before_it_is_asked(
    ray: Replay, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        server(ray).submit(replace(PLAIN, **change))
    assert caught.value.http_status == 0
    assert ray.asked == []


def test_an_id_is_escaped_where_it_becomes_a_path(ray: Replay) -> None:
    assert server(ray).job("a/b?c#d%e é\n") is None
    assert ray.asked[0].path == "/api/jobs/a%2Fb%3Fc%23d%25e%20%C3%A9%0A"


def test_a_session_needs_a_state_store_that_is_well(ray: Replay) -> None:
    ray.says("GET", "/api/gcs_healthz", 503, "503: Health check failed: Timed out while waiting for GCS", "text/plain")
    with pytest.raises(Unreachable, match="Timed out while waiting for GCS") as caught:
        server(ray).session()
    assert caught.value.kind == "unhealthy"


def test_drivers_are_left_out_of_the_list(ray: Replay) -> None:
    drivers = json.loads((PAYLOADS / "093-list-driver-type-jobs.json").read_text())
    ray.says("GET", "/api/jobs/", 200, [*drivers, load("022-get-succeeded").body])
    assert [job.submission_id for job in server(ray).jobs()] == ["m-ok-1"]
    ray.says("GET", "/api/jobs/03000000", 200, drivers[0])
    assert server(ray).job("03000000") is None


def test_a_list_that_ray_cannot_read_is_one_only_where_ray_is_well() -> None:
    with replaying("231-list-500-because-of-one-bad-record") as ray:
        with pytest.raises(ListUnreadable, match="by id"):
            server(ray).jobs()
        ray.says("GET", "/api/gcs_healthz", 503, "503", "text/plain")
        with pytest.raises(Unreachable) as caught:
            server(ray).jobs()
        assert caught.value.kind == "unhealthy"


@pytest.mark.parametrize(
    "change",
    [{"status": "PAUSED"}, {"status": None}, {"submission_id": None}, {"entrypoint": ["true"]}, {"end_time": "now"}],
)
def test_a_job_that_makes_no_sense_is_no_job_and_spoils_the_list(ray: Replay, change: dict[str, Any]) -> None:
    record = {**load("022-get-succeeded").body, **change}
    ray.says("GET", "/api/jobs/m-ok-1", 200, record)
    with pytest.raises(Unreachable, match="makes no sense") as caught:
        server(ray).job("m-ok-1")
    assert caught.value.kind == "not_ray"
    ray.says("GET", "/api/jobs/", 200, [load("031-get-failed-exit3").body, record])
    with pytest.raises(ListUnreadable, match="makes no sense"):
        server(ray).jobs()


def test_a_job_of_a_newer_ray_may_say_more_and_one_that_waits_less(ray: Replay) -> None:
    ray.says(
        "GET", "/api/jobs/x", 200,
        {"type": "SUBMISSION", "submission_id": "x", "status": "PENDING", "entrypoint": "e", "new": {"a": [1]}},
    )  # fmt: skip
    assert server(ray).job("x") == RayJob("x", "PENDING", "e")


def test_a_number_that_is_none_in_somebodys_job_does_not_spoil_the_list(ray: Replay) -> None:
    record = {**load("022-get-succeeded").body, "runtime_env": {"config": {"x": float("nan")}}}
    ray.says("GET", "/api/jobs/", 200, [record])
    assert [job.submission_id for job in server(ray).jobs()] == ["m-ok-1"]


def test_a_list_that_is_too_long_is_one_that_cannot_be_read(ray: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.says("GET", "/api/jobs/", 200, [load("022-get-succeeded").body] * 10)
    assert len(server(ray).jobs()) == 10
    small = functools.partial(Request, bytes_max=1000)
    monkeypatch.setattr(jobs, "Request", small)
    with pytest.raises(ListUnreadable, match="too long"):
        server(ray).jobs()


@pytest.mark.parametrize("runtime_env", [5, "x", [], {"env_vars": "A=1"}, {"env_vars": {"A": 1}}, {"pip": 5}, None])
def test_a_runtime_env_that_ray_could_not_use_does_not_spoil_the_job(ray: Replay, runtime_env: object) -> None:
    ray.says("GET", "/api/jobs/", 200, [{**load("022-get-succeeded").body, "runtime_env": runtime_env}])
    assert [job.env for job in server(ray).jobs()] == [{}]


CALLS: list[Callable[[RayJobServer], object]] = [
    asks("session"), submits(PLAIN), asks("job", "x"), asks("jobs"), asks("stop", "x"), asks("kick", "x"),
    asks("logs", "x"), asks("nodes"),
]  # fmt: skip
PATHS = [
    ("GET", "/api/gcs_healthz"), ("GET", "/api/version"), ("POST", "/api/jobs/"), ("GET", "/api/jobs/x"),
    ("GET", "/api/jobs/"), ("POST", "/api/jobs/x/stop"), ("GET", "/api/v0/nodes?detail=1&limit=10000"),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", load("161-auth-no-token-").body),
        (200, "application/json", {"hello": "world"}),
        (200, "application/json", 5),
        (200, "application/json", "[" * 100_000),
        (200, "application/json", '{"type": "SUBMIS'),
        (200, "application/json", ""),
        (302, "text/html", "Please log in"),
        (404, "application/json", {"detail": "Not Found"}),
        (405, "text/plain", "no"),
        (418, "text/plain", "\x1b[31mteapot\x07"),
    ],
    ids=["html", "json", "number", "deep", "half", "empty", "redirect", "not found", "not allowed", "teapot"],
)
def test_what_is_no_ray_is_told_apart(
    ray: Replay, call: Callable[[RayJobServer], object], status: int, content_type: str, body: object
) -> None:
    for method, path in PATHS:
        ray.says(method, path, status, body, content_type)
    with pytest.raises(Unreachable) as caught:
        call(server(ray))
    assert caught.value.kind == "not_ray"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_the_tail_of_a_log_is_given_and_a_log_that_is_not_there_yet_is_none() -> None:
    recorded = load("212-state-api-log-file-tail")
    with replaying("212-state-api-log-file-tail") as ray:
        node = recorded.path.partition("node_id=")[2].partition("&")[0]
        assert server(ray).tail("f1", node, 5) == recorded.content
        missing, unknown = load("300-log-file-missing"), load("301-log-file-unknown-node")
        path = f"/api/v0/logs/file?node_id={NODE}&filename=job-driver-x.log&lines=5"
        ray.says("GET", path, missing.status, missing.body, "text/plain")
        assert server(ray).tail("x", NODE, 5) is None
        ray.says("GET", path, 200, "", "text/plain")
        assert server(ray).tail("x", NODE, 5) is None
        for other, kind in ((unknown, "no_agent"), (load("213-state-api-log-by-submission-id"), "server_error")):
            ray.says("GET", path, other.status, other.body, "text/plain")
            with pytest.raises(Unreachable) as caught:
                server(ray).tail("x", NODE, 5)
            assert caught.value.kind == kind


def test_all_of_a_log_comes_from_its_file_else_from_rays_text_of_it() -> None:
    name = "023-logs-succeeded"
    node = load("022-get-succeeded").body["driver_node_id"]
    path = f"/api/v0/logs/file?node_id={node}&filename=job-driver-m-ok-1.log&lines=-1"
    with replaying("022-get-succeeded", name) as ray:
        ray.says("GET", path, 200, "a\r\x1b[31mb\n", "text/plain")
        assert server(ray).logs("m-ok-1") == b"a\r\x1b[31mb\n"
        ray.says("GET", path, 500, load("301-log-file-unknown-node").body, "text/plain")
        assert server(ray).logs("m-ok-1") == load(name).body["logs"].encode()
        for other, kind in (("206-logs-head-agent-dead", "no_agent"), ("302-logs-not-utf8", "server_error")):
            ray.says("GET", "/api/jobs/m-ok-1/logs", 500, load(other).body, "text/plain")
            with pytest.raises(Unreachable) as caught:
                server(ray).logs("m-ok-1")
            assert caught.value.kind == kind
        ray.says("GET", "/api/jobs/m-ok-1/logs", 200, {"logs": ""})
        for status, body in ((500, load("300-log-file-missing").body), (200, "")):
            ray.says("GET", path, status, body, "text/plain")
            assert server(ray).logs("m-ok-1") == b""


def test_of_a_log_that_is_too_large_the_end_is_given(ray: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOG_BYTES_MAX", 10)
    ray.says(
        "GET",
        f"/api/v0/logs/file?node_id={NODE}&filename=job-driver-x.log&lines=9",
        200,
        "0123456789abcdef",
        "text/plain",
    )
    assert server(ray).tail("x", NODE, 9) == b"[merlin: 6 bytes were left out before this line]\n6789abcdef"


def test_nodes_are_alive_or_dead_and_have_resources_and_labels(ray: Replay) -> None:
    path = "/api/v0/nodes?detail=1&limit=10000"
    ray.says("GET", path, 200, load("250-nodes-two-with-labels").body)
    nodes = server(ray).nodes()
    assert sorted((node.is_head, node.alive) for node in nodes) == [(False, True), (True, True)]
    [worker] = [node for node in nodes if not node.is_head]
    assert worker.resources["u250"] == 1
    assert worker.labels["board"] == "u250"
    ray.says("GET", path, 200, load("202-nodes-state-api-head-raylet-dead").body)
    assert [node.alive for node in server(ray).nodes()] == [False]


def test_a_package_is_uploaded_unless_it_is_there(ray: Replay, tmp_path: Path) -> None:
    package = tmp_path / "p.zip"
    package.write_bytes(b"PK")
    missing, put, present = load("184-package-get-missing"), load("185-package-put"), load("186-package-get-present")
    path = _package_path(package)
    ray.says("GET", path, missing.status, missing.body, "text/plain")
    ray.says("PUT", path, put.status, put.body)
    uri = server(ray).upload(package)
    assert uri == f"gcs://{path.rpartition('/')[2]}"
    ray.says("GET", path, present.status, present.body)
    assert server(ray).upload(package) == uri
    assert [(asked.method, asked.body) for asked in ray.asked] == [("GET", b""), ("PUT", b"PK"), ("GET", b"")]


def test_a_package_that_ray_does_not_take_is_rejected(ray: Replay, tmp_path: Path) -> None:
    package = tmp_path / "p.zip"
    package.write_bytes(b"PK")
    too_large = load("191-package-put-101MiB")
    ray.says("PUT", _package_path(package), too_large.status, too_large.body, "text/plain")
    with pytest.raises(Rejected, match="104857600 exceeded") as caught:
        server(ray).upload(package)
    assert caught.value.http_status == 413


def test_a_package_above_the_limit_is_rejected_before_it_is_sent(ray: Replay, tmp_path: Path) -> None:
    package = tmp_path / "large.zip"
    with package.open("wb") as file:
        file.truncate(jobs.PACKAGE_BYTES_MAX + 1)
    with pytest.raises(Rejected, match=r"100 MiB.*leave out"):
        server(ray).upload(package)
    assert ray.asked == []


def test_a_package_that_cannot_be_read_is_named(ray: Replay, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.zip", tmp_path):
        with pytest.raises(Usage, match=f"{path} cannot be read"):
            server(ray).upload(path)
    assert ray.asked == []


def _package_path(package: Path) -> str:
    """Learn from a question where a package goes: its name is made of its content."""
    with replaying() as ray:
        with pytest.raises(Unreachable):
            server(ray).upload(package)
        return ray.asked[0].path
