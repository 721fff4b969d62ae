"""What is Ray's job server asked, and what do its answers mean to Merlin? Measured against Ray 2.60."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from merlin_es.errors import JobExists, ListUnreadable, Rejected, Unreachable, Usage
from merlin_es.ports import RayJob, RayNode, Session, Submission
from merlin_es.ray_adapter import records
from merlin_es.ray_adapter.address import Token
from merlin_es.ray_adapter.http import Answer, Exchanges, Limits, Request, TooMuch
from merlin_es.ray_adapter.records import BadRecord, NotUnderstood, complaint

LOG_BYTES_MAX = 64 * 1024 * 1024
PACKAGE_BYTES_MAX = 100 * 1024 * 1024
_NODES_MAX = 10_000  # Ray gives 100 unless asked, dead ones included, and refuses to give more than this.
_NOT_ASKED = 0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # Ray takes a `/`, fails, and leaves a job that pends for ever.
_T = TypeVar("_T")


class RayJobServer:
    """The job server of one Ray cluster, at the address of its dashboard. Threads may share it."""

    def __init__(self, address: str, token: Token | None = None, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._exchanges = Exchanges(address, token, self._limits)

    @property
    def address(self) -> str:
        """Where it is asked, as `http://host:port`."""
        return self._exchanges.address

    def close(self) -> None:
        """Give the connections back."""
        self._exchanges.close()

    def session(self) -> Session:
        """Ask for the life of a cluster that works: the version alone is answered long after the state store died."""
        health = self._get("/api/gcs_healthz")
        if health.status >= 500:
            what = f"{self.address} is up, but the state store of its cluster is not: {health.line()}"
            raise Unreachable(f"{what}. Wait, or restart that cluster.", "unhealthy")
        self._require_ok(health)
        return self._version()

    def submit(self, submission: Submission) -> None:
        """Have a job run, at most once per id and session; raises JobExists and Rejected."""
        body = _body(submission)
        answer = self._post("/api/jobs/", body)
        if answer.status in (400, 413):
            raise Rejected(f"Ray will not take {submission.submission_id}: {answer.line()}", answer.status)
        if answer.status >= 500:
            self._refused(answer, submission)
        accepted = self._read(answer, records.accepted)
        if accepted != submission.submission_id:
            self._no_ray(f"took {accepted!r} for {submission.submission_id!r}")

    def job(self, submission_id: str) -> RayJob | None:
        """Ask for one job; None when this session does not know it."""
        answer = self._get(_path(submission_id))
        if self._is_unknown(answer):
            return None
        return self._read(answer, records.job)

    def jobs(self) -> list[RayJob]:
        """Ask for all submitted jobs ever; raises ListUnreadable when one bad record spoils the list."""
        try:
            answer = self._get("/api/jobs/", limit_s=self._limits.post_s)
        except TooMuch as error:
            raise ListUnreadable(f"the list of jobs is too long: {error}") from error
        if answer.status >= 500:
            self.session()
            raise ListUnreadable(
                f"{self.address} works, but cannot list its jobs: one record of one job spoils it. Ask for jobs by id."
            )
        try:
            return self._read(answer, records.jobs)
        except BadRecord as error:
            what = f"a job in the list of {self.address} makes no sense ({error})"
            raise ListUnreadable(f"{what}. Ask for jobs by id.") from error

    def stop(self, submission_id: str) -> bool:
        """Ask Ray to stop a job; True says that somebody was told. False when it is unknown, or has ended."""
        answer = self._post(f"{_path(submission_id)}/stop")
        if answer.status == 400 or self._is_unknown(answer):  # 400: an id of a driver, which is no submission.
            return False
        return self._read(answer, records.stopped)

    def kick(self, submission_id: str) -> None:
        """Wake the agent that watches jobs, by stopping a job that has ended: that does nothing else."""
        self.stop(submission_id)

    def logs(self, submission_id: str) -> bytes | None:
        """Give everything that the driver has written so far; None when this session does not know the job.

        Of a log above LOG_BYTES_MAX the end, after a line that says so. The file is asked for, and not Ray's text of
        it: that fails for good after one byte that is not UTF-8, and turns every carriage return into a new line.
        """
        job = self.job(submission_id)
        if job is None:
            return None
        if job.node_id is None:
            return b""  # No driver was started.
        try:
            log = self._log_file(submission_id, job.node_id, -1)
        except Unreachable as error:
            if error.kind not in ("no_agent", "server_error"):
                raise
            log = None  # A durable head that started anew is another node, at the same place.
        return log or self._log_text(submission_id)

    def tail(self, submission_id: str, node_id: str, lines: int) -> bytes | None:
        """Give the last `lines` lines of the driver's log; None when there is none yet."""
        return self._log_file(submission_id, node_id, max(lines, 1))

    def nodes(self) -> list[RayNode]:
        """Ask for all machines, dead ones included."""
        return self._read(self._get(f"/api/v0/nodes?detail=1&limit={_NODES_MAX}"), records.nodes)

    def upload(self, package: Path) -> str:
        """Upload a zip that becomes a working directory; gives its URI, which names its content."""
        import hashlib

        content = _content(package)
        name = f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip"
        path = f"/api/packages/gcs/{name}"
        present = self._get(path)  # Also keeps Ray from dropping the package before a job uses it.
        if present.status != 404:
            self._require_ok(present)
            return f"gcs://{name}"
        limit_s = self._limits.upload_s
        answer = self._exchanges.ask(Request("PUT", path, limit_s, content, "application/octet-stream"))
        if answer.status == 413:
            raise Rejected(f"Ray will not take {package}: {answer.line()}", answer.status)
        self._require_ok(answer)
        return f"gcs://{name}"

    def _get(self, path: str, limit_s: float | None = None) -> Answer:
        return self._exchanges.ask(Request("GET", path, self._limits.read_s if limit_s is None else limit_s))

    def _post(self, path: str, body: bytes | None = None) -> Answer:
        return self._exchanges.ask(Request("POST", path, self._limits.post_s, body))

    def _log_file(self, submission_id: str, node_id: str, lines: int) -> bytes | None:
        name = f"job-driver-{submission_id}.log"
        path = f"/api/v0/logs/file?node_id={_quoted(node_id)}&filename={_quoted(name)}&lines={lines}"
        limit_s = self._limits.logs_s if lines < 0 else self._limits.read_s
        answer = self._exchanges.ask(Request("GET", path, limit_s, bytes_max=LOG_BYTES_MAX, keep_end=True))
        if answer.status >= 500 and complaint(answer.line()) == "no_file":
            return None
        self._require_ok(answer)
        if not answer.left_out:
            return (
                answer.body or None
            )  # Ray 2.60, measured: of a file that is missing it says at times that it is empty.
        return b"[merlin: %d bytes were left out before this line]\n" % answer.left_out + answer.body

    def _log_text(self, submission_id: str) -> bytes | None:
        answer = self._get(f"{_path(submission_id)}/logs", limit_s=self._limits.logs_s)
        return None if self._is_unknown(answer) else self._read(answer, records.logs)

    def _refused(self, answer: Answer, submission: Submission) -> None:
        """Raise what an error in answer to a submission says for sure; everything else leaves it open."""
        match complaint(answer.line()):
            case "exists":
                raise JobExists(f"{self.address} has a job {submission.submission_id} already")
            case "bad_labels" if submission.label_selector:
                why = answer.line().removeprefix("ValueError: ")
                raise Rejected(f"Ray will not take {submission.submission_id}: {why}", answer.status)

    def _is_unknown(self, answer: Answer) -> bool:
        """Tell whether Ray does not know what was asked for; any web server says 404, so see that it is Ray."""
        if answer.status != 404:
            return False
        self._version()
        return True

    def _version(self) -> Session:
        return self._read(self._get("/api/version"), records.session)

    def _require_ok(self, answer: Answer) -> None:
        if answer.status == 200:
            return
        if answer.status >= 500:
            kind = "no_agent" if complaint(answer.line()) == "no_agent" else "server_error"
            what = f"{self.address} answered {answer.status}: {answer.line()}"
            raise Unreachable(f"{what}. See whether that cluster is up.", kind)
        self._no_ray(f"answered {answer.status}: {answer.line()}")

    def _no_ray(self, what: str) -> NoReturn:
        raise Unreachable(
            f"{self.address} {what}. That is not how Ray's dashboard answers: see the address.", "not_ray"
        )

    def _read(self, answer: Answer, reader: Callable[[bytes], _T]) -> _T:
        self._require_ok(answer)
        try:
            return reader(answer.body)
        except BadRecord:
            raise
        except NotUnderstood as error:
            self._no_ray(f"answered what makes no sense ({error})")


def _body(submission: Submission) -> bytes:
    """Give what Ray is sent, without what is not asked for; raises Rejected."""
    if "job_submission_id" in submission.metadata:
        # Ray 2.60, measured: the job with that id would be shown with this one's driver.
        raise Rejected("the metadata key job_submission_id is Ray's own: choose another name for it", _NOT_ASKED)
    if _ID.fullmatch(submission.submission_id) is None:
        what = f"{submission.submission_id[:200]!r} cannot be the id of a Ray job"
        raise Rejected(f"{what}: write letters, digits, `.`, `_` and `-`", _NOT_ASKED)
    amounts = [submission.cpus or 0, submission.gpus or 0, *submission.resources.values()]
    if not all(math.isfinite(amount) for amount in amounts):
        raise Rejected(f"{submission.submission_id} asks for what is no amount: {amounts}", _NOT_ASKED)
    runtime_env = {"env_vars": dict(submission.env), "working_dir": submission.working_dir}
    wanted = {
        "entrypoint": submission.entrypoint,
        "submission_id": submission.submission_id,
        "metadata": dict(submission.metadata),
        "runtime_env": {key: value for key, value in runtime_env.items() if value},
        "entrypoint_num_cpus": submission.cpus,
        "entrypoint_num_gpus": submission.gpus,
        "entrypoint_resources": dict(submission.resources),
        "entrypoint_label_selector": dict(submission.label_selector),
    }
    try:
        return msgspec.json.encode({key: value for key, value in wanted.items() if value not in (None, {})})
    except UnicodeEncodeError as error:
        raise Rejected(f"{submission.submission_id} is not all UTF-8 text: {error.reason}", _NOT_ASKED) from error


def _content(package: Path) -> bytes:
    """Read a package that Ray will take; raises Rejected and Usage."""
    try:
        with package.open("rb") as file:
            content = file.read(PACKAGE_BYTES_MAX + 1)
    except OSError as error:
        raise Usage(f"the package {package} cannot be read: {error.strerror}") from error
    if len(content) > PACKAGE_BYTES_MAX:
        raise Rejected(
            f"{package} is larger than the 100 MiB that Ray takes: leave out what the run does not need,"
            " or run in place, without an upload",
            _NOT_ASKED,
        )
    return content


def _path(submission_id: str) -> str:
    return f"/api/jobs/{_quoted(submission_id)}"


def _quoted(text: str) -> str:
    from urllib.parse import quote  # Takes 10 ms, and the HTTP client needs it too.

    return quote(text, safe="", errors="replace")
