"""What does Merlin need from the world, in its own words? Adapters speak Ray's; nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct, field

from merlin_es.hosts import Host as Host
from merlin_es.hosts import ProcessId as ProcessId

RayStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"]
RAY_TERMINAL: frozenset[str] = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


class Session(Struct, frozen=True):
    """One life of a cluster: a head that starts anew with an empty memory has another `session_name`."""

    session_name: str
    ray_version: str


class Submission(Struct, frozen=True):
    """What a job server is asked to run: `entrypoint` goes to `/bin/sh -c`, resources are per driver.

    `working_dir` is a `gcs://` package URI that was uploaded before, or None to run in place.
    """

    submission_id: str
    entrypoint: str
    env: Mapping[str, str]
    metadata: Mapping[str, str]
    cpus: float | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    label_selector: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None


class RayJob(Struct, frozen=True):
    """What Ray says of a job. Times are Ray's, in milliseconds since 1970, of clocks that need not agree with ours."""

    submission_id: str
    status: RayStatus
    entrypoint: str
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    node_id: str | None = None
    accepted_ms: int | None = None
    ended_ms: int | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether Ray will never say anything else of it."""
        return self.status in RAY_TERMINAL


class RayNode(Struct, frozen=True):
    """A machine of the cluster, with everything it has, taken or not."""

    node_id: str
    alive: bool
    is_head: bool
    resources: Mapping[str, float]
    labels: Mapping[str, str]


class JobServer(Protocol):
    """A cluster's job server. Every call has a time limit; see merlin_es.errors for what each may raise.

    All raise Unreachable (no useful answer: says nothing about any job) and Unauthorized.
    """

    @property
    def address(self) -> str:
        """Where it is asked, as `http://host:port`."""
        ...

    def session(self) -> Session:
        """Ask for the life of a cluster that works: its job server answers and its state store does too."""
        ...

    def submit(self, submission: Submission) -> None:
        """Have a job run, at most once per id and session; raises JobExists and Rejected (it will never be taken)."""
        ...

    def job(self, submission_id: str) -> RayJob | None:
        """Ask for one job; None when this session does not know it."""
        ...

    def jobs(self) -> list[RayJob]:
        """Ask for all submitted jobs ever; raises ListUnreadable when one bad record spoils Ray's list."""
        ...

    def stop(self, submission_id: str) -> bool:
        """Ask Ray to stop a job; True says that somebody was told, not that it stopped. False when it is unknown."""
        ...

    def kick(self, submission_id: str) -> None:
        """Wake the agent that watches jobs: after a restart nobody does until a request reaches it."""
        ...

    def logs(self, submission_id: str) -> bytes | None:
        """Give everything that the driver has written so far; None when this session does not know the job."""
        ...

    def tail(self, submission_id: str, node_id: str, lines: int) -> bytes | None:
        """Give the last `lines` lines of the driver's log; None when there is none yet."""
        ...

    def nodes(self) -> list[RayNode]:
        """Ask for all machines, dead ones included."""
        ...

    def upload(self, package: Path) -> str:
        """Upload a zip that becomes a working directory; gives its URI. Raises Rejected when it is too large."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Wanted(Struct, frozen=True):
    """How a head is to be started. None for a port: the default when it is free, else any free one."""

    host: str
    port: int | None
    dashboard_port: int | None
    directory: Path
    durable: bool


class Head(Struct, frozen=True):
    """A head that was started and has answered."""

    process: ProcessId
    address: str
    dashboard_url: str
    session: Session
    token_path: Path
    temp_dir: Path
    argv: tuple[str, ...]


class Heads(Protocol):
    """Starts and ends Ray heads on this host."""

    def start(self, wanted: Wanted) -> Head:
        """Start a head and wait until it takes jobs; raises RayMissing or HeadFailed, and leaves nothing."""
        ...

    def is_alive(self, process: ProcessId) -> bool:
        """Tell whether that very process still runs, on this boot of this host."""
        ...

    def stop(self, process: ProcessId, temp_dir: Path) -> Literal["gone", "terminated", "killed"]:
        """End that head and everything it started, and nothing else; raises ClusterError when something stays."""
        ...

    def clean(self, directory: Path) -> None:
        """End a head that runs in `directory` without anybody's record."""
        ...


class Witness(Struct, frozen=True):
    """What the entrypoint wrapper of one attempt has left beside the run's log; None where it left nothing."""

    started: Started | None = None
    ended: Ended | None = None
    refused: Literal["cancelled", "already_started"] | None = None


class Started(Struct, frozen=True):
    """The command was started: where and when, by that host's clocks (`time` ISO 8601, `boottime_s` since boot)."""

    host: str
    pid: int
    time: str
    boot_id: str
    boottime_s: float


class Ended(Struct, frozen=True):
    """The command ended; `exit_code` is negative for a signal, `stopped_by` the signal that we were sent before.

    `how` is `exited`, or `wrapper_killed` when the wrapper died first and the guard cleaned up.
    """

    exit_code: int | None
    how: Literal["exited", "wrapper_killed"]
    time: str
    duration_s: float | None
    stopped_by: str | None = None


class Witnesses(Protocol):
    """The files of the entrypoint wrapper."""

    def read(self, run_id: str, attempt: int) -> Witness:
        """Give what there is."""
        ...

    def forbid(self, run_id: str) -> None:
        """Durably leave the tombstone that keeps every attempt of the run from starting."""
        ...
