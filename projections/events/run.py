"""What can happen to a run?

They are facts as `fact` has them, since whoever looks at a run that goes on waits for this. They were models of
pydantic once, so what only those could read is read as they did.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from msgspec import field

from projections.events.fact import Checkpointed, Fact, FactCodec, Repaired
from projections.lease_wish import Bound, LeaseWish
from projections.statuses import Status

FailureKind = Literal["user", "infrastructure", "never_started", "timeout"]
Source = Literal["ray", "wrapper", "inferred"]


class Wish(Fact, frozen=True, kw_only=True):
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
    metadata: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    resources: dict[str, float] = field(default_factory=dict)
    label_selector: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    timeout_s: float | None = None
    stop_grace_s: float = 3.0
    retries_max: int = 0
    retry_on_failure: bool = False
    captures: tuple[str, ...] = ()
    idempotency_key: str | None = None
    traceparent: str | None = None
    redacted: tuple[str, ...] = ()


class RunRequested(Wish, frozen=True, kw_only=True):
    """Somebody wants a run."""

    type: ClassVar[str] = "run.requested"


class RunForked(Wish, frozen=True, kw_only=True):
    """Somebody wants a run that goes on from a past point of another one, which stays as it is.

    `parent` is the stream of that one, and `parent_head` (`seq:h`) its head at that point. `answers` are the ones that
    were given anew, by their questions.
    """

    type: ClassVar[str] = "run.forked"
    parent: str
    parent_head: str
    answers: dict[str, str] = field(default_factory=dict)


class RunBlocked(Fact, frozen=True, kw_only=True):
    """Ray could not take the run; `message` says what the operator must do, `reason` is a word for programs."""

    type: ClassVar[str] = "run.blocked"
    reason: str
    message: str


class RunUnblocked(Fact, frozen=True, kw_only=True):
    """A blocked run, or one that was lost, is to be submitted after all."""

    type: ClassVar[str] = "run.unblocked"


class RunWaiting(Fact, frozen=True, kw_only=True):
    """The run is to hold leases before it is submitted, and waits for them with this claim."""

    type: ClassVar[str] = "run.waiting"
    claim_id: str
    wish: LeaseWish
    message: str = ""


class LeaseBound(Fact, frozen=True, kw_only=True):
    """The run holds all that it waited for, and can be submitted; the leases end with it."""

    type: ClassVar[str] = "run.lease_bound"
    claim_id: str
    leases: tuple[Bound, ...]


class LeaseUnbound(Fact, frozen=True, kw_only=True):
    """The run holds its leases no longer, or is not to: it has ended, or has lost them."""

    type: ClassVar[str] = "run.lease_unbound"
    leases: tuple[Bound, ...]
    reason: str


class DryRunRecorded(Fact, frozen=True, kw_only=True):
    """Nothing was submitted; this is what would have been."""

    type: ClassVar[str] = "run.dry_run_recorded"
    entrypoint: str
    message: str


class SubmissionStarted(Fact, frozen=True, kw_only=True):
    """The wish: attempt `attempt` is about to be given to Ray under `submission_id`."""

    type: ClassVar[str] = "run.submission_started"
    attempt: int
    submission_id: str
    cluster_address: str
    session_name: str
    entrypoint: str
    package: str | None = None


class RunSubmitted(Fact, frozen=True, kw_only=True):
    """Ray has the attempt: it said so, or it was seen there, or Ray refused a repeated request because it has it."""

    type: ClassVar[str] = "run.submitted"
    attempt: int
    submission_id: str
    session_name: str
    how: Literal["answered", "observed", "repeated"]


class SubmissionFailed(Fact, frozen=True, kw_only=True):
    """Ray will never take this submission."""

    type: ClassVar[str] = "run.submission_failed"
    attempt: int
    http_status: int
    message: str


class PendingExplained(Fact, frozen=True, kw_only=True):
    """Ray has the attempt and does not start it; `message` says why, as far as that can be seen, and what to do."""

    type: ClassVar[str] = "run.pending_explained"
    attempt: int
    reason: str
    message: str


class RunStarted(Fact, frozen=True, kw_only=True):
    """The command runs, or has run, since some moment in the interval; times are ISO 8601, UTC."""

    type: ClassVar[str] = "run.started"
    attempt: int
    source: Source
    not_before: str | None = None
    not_after: str | None = None
    node_id: str | None = None
    host: str | None = None
    boot_id: str | None = None
    boottime_s: float | None = None


class Outcome(Fact, frozen=True, kw_only=True):
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


class RunCompleted(Outcome, frozen=True, kw_only=True):
    """The command ended with 0."""

    type: ClassVar[str] = "run.completed"


class RunFailed(Outcome, frozen=True, kw_only=True):
    """The command failed, or could not be run, and no attempt follows."""

    type: ClassVar[str] = "run.failed"
    kind: FailureKind


class AttemptFailed(Outcome, frozen=True, kw_only=True):
    """An attempt failed in a way that is safe to repeat, and another one follows."""

    type: ClassVar[str] = "run.attempt_failed"
    kind: FailureKind


class CancelRequested(Fact, frozen=True, kw_only=True):
    """Somebody wants the run to end; `reason` is `asked` or `timeout`."""

    type: ClassVar[str] = "run.cancel_requested"
    reason: Literal["asked", "timeout"] = "asked"
    message: str = ""


class CancelEscalated(Fact, frozen=True, kw_only=True):
    """Ray did not stop the attempt by itself, so it was asked in another way."""

    type: ClassVar[str] = "run.cancel_escalated"
    attempt: int
    how: Literal["stop_repeated", "reaper"]
    message: str


class RunCancelled(Outcome, frozen=True, kw_only=True):
    """The run was ended before its command did; `how` says at which point."""

    type: ClassVar[str] = "run.cancelled"
    how: Literal["never_submitted", "before_start", "stopped", "external"]


class RunLost(Fact, frozen=True, kw_only=True):
    """A healthy Ray no longer knows the attempt, or what ran it is gone, and no witness says how it ended."""

    type: ClassVar[str] = "run.lost"
    attempt: int
    reason: Literal["cluster_restarted", "deleted_in_ray", "node_dead", "infrastructure"]
    never_started: bool
    asked: str
    answered: str
    message: str


class RunRecovered(Fact, frozen=True, kw_only=True):
    """What was lost has shown up again."""

    type: ClassVar[str] = "run.recovered"
    attempt: int
    message: str


class AnomalySeen(Fact, frozen=True, kw_only=True):
    """Something that should not be, and that changes nothing: kept for whoever looks into it."""

    type: ClassVar[str] = "run.anomaly_seen"
    what: str
    message: str


class RunAdopted(Fact, frozen=True, kw_only=True):
    """Ray has a job of this ledger that the ledger had no record of; the run goes on with what the job says."""

    type: ClassVar[str] = "run.adopted"
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
    metadata: dict[str, str] = field(default_factory=dict)


class RunImported(Fact, frozen=True, kw_only=True):
    """The tool that this one replaces has recorded a run; the run goes on with what its files say.

    `files` has the SHA-256 of each original, by the name that it had in the run's directory: their bytes lie in the
    blob store. `root` is the old state root, `old_status` what the old record said, None where there was none to read.
    `submission_id` is None for what Ray was never given.
    """

    type: ClassVar[str] = "run.imported"
    run_id: str
    target: str
    workflow: str
    source: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: str
    updated_at: str
    status: Status
    old_status: str | None
    message: str | None = None
    cluster_address: str | None = None
    submission_id: str | None = None
    root: str
    files: dict[str, str]


class LogsCaptured(Fact, frozen=True, kw_only=True):
    """The driver's output lies in the blob store; `truncated` when only its end does. `size_bytes` is stored.

    `redacted` names the secrets that stood in it and are not stored.
    """

    type: ClassVar[str] = "run.logs_captured"
    rare: ClassVar[frozenset[str]] = frozenset({"redacted"})

    attempt: int
    sha256: str
    size_bytes: int
    truncated: bool = False
    not_captured: str = ""
    redacted: tuple[str, ...] = ()


class ArtifactSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was when the artifacts were indexed; `captured` when its bytes lie in the blob store."""

    type: Literal["artifact"] = "artifact"
    name: str
    kind: str
    size_bytes: int
    sha256: str
    modified_at: str
    captured: bool = False


class IndexPage(Fact, frozen=True, kw_only=True):
    """What a target directory held. Page 1 begins a new index; `omitted` says what is not in it, and why."""

    page: int
    pages: int
    files: tuple[ArtifactSeen, ...]
    omitted: tuple[str, ...] = ()


class ArtifactsIndexed(IndexPage, frozen=True, kw_only=True):
    """Somebody has looked into the target directory."""

    type: ClassVar[str] = "run.artifacts_indexed"


class ArtifactsImported(IndexPage, frozen=True, kw_only=True):
    """Another tool had looked, at `indexed_at` (ISO 8601, UTC), and taken no digests."""

    type: ClassVar[str] = "run.artifacts_imported"
    indexed_at: str


class RunLogRepaired(Repaired, frozen=True, kw_only=True):
    """See Repaired."""


class RunCheckpointed(Checkpointed, frozen=True, kw_only=True):
    """See Checkpointed."""


class RunSealed(Fact, frozen=True, kw_only=True):
    """The run has ended, and nothing more is recorded of it."""

    type: ClassVar[str] = "run.sealed"
    reason: str = ""


RunEvent = (
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
    | RunLogRepaired
)

RUN_EVENTS: FactCodec[RunEvent] = FactCodec(RunEvent, lax=True)
