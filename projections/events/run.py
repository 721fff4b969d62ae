"""What can happen to a run?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from projections.events.base import Checkpointed, Codec, DomainEvent, Repaired
from projections.lease_wish import Bound, LeaseWish
from projections.statuses import Status

FailureKind = Literal["user", "infrastructure", "never_started", "timeout"]
Source = Literal["ray", "wrapper", "inferred"]


class Wish(DomainEvent):
    """Somebody wants `command` to run in `workdir`; everything that the submission needs is here.

    `timeout_s` counts from the start of the command, `stop_grace_s` from SIGTERM to SIGKILL; `retries_max` attempts
    follow the first where the evidence says that repeating is safe, and after a failure of the command itself only with
    `retry_on_failure`. `captures` are globs of artifacts whose bytes are kept. `redacted`
    points (RFC 6901) at what was a secret and is not recorded.
    """

    rare: ClassVar[frozenset[str]] = frozenset({"redacted"})

    run_id: str
    target: str
    workflow: str
    source: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    metadata: dict[str, str] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    resources: dict[str, float] = Field(default_factory=dict)
    label_selector: dict[str, str] = Field(default_factory=dict)
    working_dir: str | None = None
    timeout_s: float | None = None
    stop_grace_s: float = 3.0
    retries_max: int = 0
    retry_on_failure: bool = False
    captures: tuple[str, ...] = ()
    idempotency_key: str | None = None
    traceparent: str | None = None
    redacted: tuple[str, ...] = ()


class RunRequested(Wish):
    """Somebody wants a run."""

    type: Literal["run.requested"] = "run.requested"


class RunForked(Wish):
    """Somebody wants a run that goes on from a past point of another one, which stays as it is.

    `parent` is the stream of that one, and `parent_head` (`seq:h`) its head at that point. `answers` are the ones that
    were given anew, by their questions.
    """

    type: Literal["run.forked"] = "run.forked"
    parent: str
    parent_head: str
    answers: dict[str, str] = Field(default_factory=dict)


class RunBlocked(DomainEvent):
    """Ray could not take the run; `message` says what the operator must do, `reason` is a word for programs."""

    type: Literal["run.blocked"] = "run.blocked"
    reason: str
    message: str


class RunUnblocked(DomainEvent):
    """A blocked run, or one that was lost, is to be submitted after all."""

    type: Literal["run.unblocked"] = "run.unblocked"


class RunWaiting(DomainEvent):
    """The run is to hold leases before it is submitted, and waits for them with this claim."""

    type: Literal["run.waiting"] = "run.waiting"
    claim_id: str
    wish: LeaseWish
    message: str = ""


class LeaseBound(DomainEvent):
    """The run holds all that it waited for, and can be submitted; the leases end with it."""

    type: Literal["run.lease_bound"] = "run.lease_bound"
    claim_id: str
    leases: tuple[Bound, ...]


class LeaseUnbound(DomainEvent):
    """The run holds its leases no longer, or is not to: it has ended, or has lost them."""

    type: Literal["run.lease_unbound"] = "run.lease_unbound"
    leases: tuple[Bound, ...]
    reason: str


class DryRunRecorded(DomainEvent):
    """Nothing was submitted; this is what would have been."""

    type: Literal["run.dry_run_recorded"] = "run.dry_run_recorded"
    entrypoint: str
    message: str


class SubmissionStarted(DomainEvent):
    """The wish: attempt `attempt` is about to be given to Ray under `submission_id`."""

    type: Literal["run.submission_started"] = "run.submission_started"
    attempt: int
    submission_id: str
    cluster_address: str
    session_name: str
    entrypoint: str
    package: str | None = None


class RunSubmitted(DomainEvent):
    """Ray has the attempt: it said so, or it was seen there, or Ray refused a repeated request because it has it."""

    type: Literal["run.submitted"] = "run.submitted"
    attempt: int
    submission_id: str
    session_name: str
    how: Literal["answered", "observed", "repeated"]


class SubmissionFailed(DomainEvent):
    """Ray will never take this submission."""

    type: Literal["run.submission_failed"] = "run.submission_failed"
    attempt: int
    http_status: int
    message: str


class PendingExplained(DomainEvent):
    """Ray has the attempt and does not start it; `message` says why, as far as that can be seen, and what to do."""

    type: Literal["run.pending_explained"] = "run.pending_explained"
    attempt: int
    reason: str
    message: str


class RunStarted(DomainEvent):
    """The command runs, or has run, since some moment in the interval; times are ISO 8601, UTC."""

    type: Literal["run.started"] = "run.started"
    attempt: int
    source: Source
    not_before: str | None = None
    not_after: str | None = None
    node_id: str | None = None
    host: str | None = None
    boot_id: str | None = None
    boottime_s: float | None = None


class Outcome(DomainEvent):
    """How an attempt ended, with what was seen.

    `source` is the witness that was believed; `ray_*` is what Ray said, which may be something else. The end lies in
    the interval from `not_before` to `not_after` (ISO 8601, UTC). `redacted` names the fields that had secrets in them.
    """

    rare: ClassVar[frozenset[str]] = frozenset({"redacted"})

    attempt: int
    source: Source
    exit_code: int | None = None
    message: str = ""
    ray_status: str | None = None
    ray_message: str | None = None
    error_type: str | None = None
    node_id: str | None = None
    duration_s: float | None = None
    not_before: str | None = None
    not_after: str | None = None
    cancel_lost_race: bool = False
    redacted: tuple[str, ...] = ()


class RunCompleted(Outcome):
    """The command ended with 0."""

    type: Literal["run.completed"] = "run.completed"


class RunFailed(Outcome):
    """The command failed, or could not be run, and no attempt follows."""

    type: Literal["run.failed"] = "run.failed"
    kind: FailureKind


class AttemptFailed(Outcome):
    """An attempt failed in a way that is safe to repeat, and another one follows."""

    type: Literal["run.attempt_failed"] = "run.attempt_failed"
    kind: FailureKind


class CancelRequested(DomainEvent):
    """Somebody wants the run to end; `reason` is `asked` or `timeout`."""

    type: Literal["run.cancel_requested"] = "run.cancel_requested"
    reason: Literal["asked", "timeout"] = "asked"
    message: str = ""


class CancelEscalated(DomainEvent):
    """Ray did not stop the attempt by itself, so it was asked in another way."""

    type: Literal["run.cancel_escalated"] = "run.cancel_escalated"
    attempt: int
    how: Literal["stop_repeated", "reaper"]
    message: str


class RunCancelled(Outcome):
    """The run was ended before its command did; `how` says at which point."""

    type: Literal["run.cancelled"] = "run.cancelled"
    how: Literal["never_submitted", "before_start", "stopped", "external"]


class RunLost(DomainEvent):
    """A healthy Ray no longer knows the attempt, or what ran it is gone, and no witness says how it ended."""

    type: Literal["run.lost"] = "run.lost"
    attempt: int
    reason: Literal["cluster_restarted", "deleted_in_ray", "node_dead", "infrastructure"]
    never_started: bool
    asked: str
    answered: str
    message: str


class RunRecovered(DomainEvent):
    """What was lost has shown up again."""

    type: Literal["run.recovered"] = "run.recovered"
    attempt: int
    message: str


class AnomalySeen(DomainEvent):
    """Something that should not be, and that changes nothing: kept for whoever looks into it."""

    type: Literal["run.anomaly_seen"] = "run.anomaly_seen"
    what: str
    message: str


class RunAdopted(DomainEvent):
    """Ray has a job of this ledger that the ledger had no record of; the run goes on with what the job says."""

    type: Literal["run.adopted"] = "run.adopted"
    run_id: str
    attempt: int
    submission_id: str
    session_name: str
    cluster_address: str
    target: str
    workflow: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    entrypoint: str
    metadata: dict[str, str] = Field(default_factory=dict)


class RunImported(DomainEvent):
    """The tool that this one replaces has recorded a run; the run goes on with what its files say.

    `files` has the SHA-256 of each original, by the name that it had in the run's directory: their bytes lie in the
    blob store. `root` is the old state root, `old_status` what the old record said, None where there was none to read.
    `submission_id` is None for what Ray was never given.
    """

    type: Literal["run.imported"] = "run.imported"
    run_id: str
    target: str
    workflow: str
    source: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    metadata: dict[str, str] = Field(default_factory=dict)
    created_at: str
    updated_at: str
    status: Status
    old_status: str | None
    message: str | None = None
    cluster_address: str | None = None
    submission_id: str | None = None
    root: str
    files: dict[str, str]


class LogsCaptured(DomainEvent):
    """The driver's output lies in the blob store; `truncated` when only its end does. `size_bytes` is stored.

    `redacted` names the secrets that stood in it and are not stored.
    """

    type: Literal["run.logs_captured"] = "run.logs_captured"
    rare: ClassVar[frozenset[str]] = frozenset({"redacted"})

    attempt: int
    sha256: str
    size_bytes: int
    truncated: bool = False
    not_captured: str = ""
    redacted: tuple[str, ...] = ()


class ArtifactSeen(DomainEvent):
    """One file as it was when the artifacts were indexed; `captured` when its bytes lie in the blob store."""

    type: Literal["artifact"] = "artifact"
    name: str
    kind: str
    size_bytes: int
    sha256: str
    modified_at: str
    captured: bool = False


class IndexPage(DomainEvent):
    """What a target directory held. Page 1 begins a new index; `omitted` says what is not in it, and why."""

    page: int
    pages: int
    files: tuple[ArtifactSeen, ...]
    omitted: tuple[str, ...] = ()


class ArtifactsIndexed(IndexPage):
    """Somebody has looked into the target directory."""

    type: Literal["run.artifacts_indexed"] = "run.artifacts_indexed"


class ArtifactsImported(IndexPage):
    """Another tool had looked, at `indexed_at` (ISO 8601, UTC), and taken no digests."""

    type: Literal["run.artifacts_imported"] = "run.artifacts_imported"
    indexed_at: str


class RunLogRepaired(Repaired):
    """See Repaired."""

    type: Literal["log.repaired"] = "log.repaired"


class RunCheckpointed(Checkpointed):
    """See Checkpointed."""

    type: Literal["log.checkpoint"] = "log.checkpoint"


class RunSealed(DomainEvent):
    """The run has ended, and nothing more is recorded of it."""

    type: Literal["run.sealed"] = "run.sealed"
    reason: str = ""


RunEvent = Annotated[
    RunRequested
    | RunForked
    | RunBlocked
    | RunUnblocked
    | RunWaiting
    | LeaseBound
    | LeaseUnbound
    | DryRunRecorded
    | SubmissionStarted
    | RunSubmitted
    | SubmissionFailed
    | PendingExplained
    | RunStarted
    | RunCompleted
    | RunFailed
    | AttemptFailed
    | CancelRequested
    | CancelEscalated
    | RunCancelled
    | RunLost
    | RunRecovered
    | AnomalySeen
    | RunAdopted
    | RunImported
    | LogsCaptured
    | ArtifactsIndexed
    | ArtifactsImported
    | RunSealed
    | RunCheckpointed
    | RunLogRepaired,
    Field(discriminator="type"),
]

RUN_EVENTS: Codec[RunEvent] = Codec(RunEvent)
