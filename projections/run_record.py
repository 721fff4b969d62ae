"""Where does a run stand? The fold of its log that becomes `run_record.json` and `run_request.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct, field
from msgspec.structs import replace

from projections.events.recorded import Recorded
from projections.events.run import (
    AnomalySeen,
    ArtifactsImported,
    ArtifactsIndexed,
    AttemptFailed,
    CancelEscalated,
    CancelRequested,
    DryRunRecorded,
    LeaseBound,
    LeaseUnbound,
    LogsCaptured,
    Outcome,
    PendingExplained,
    RunAdopted,
    RunBlocked,
    RunCancelled,
    RunCheckpointed,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunForked,
    RunImported,
    RunLogRepaired,
    RunLost,
    RunRecovered,
    RunRequested,
    RunSealed,
    RunStarted,
    RunSubmitted,
    RunUnblocked,
    RunWaiting,
    SubmissionFailed,
    SubmissionStarted,
    Wish,
)
from projections.lease_wish import Bound, LeaseWish
from projections.statuses import RESTING as RESTING
from projections.statuses import STATUSES as STATUSES
from projections.statuses import TERMINAL as TERMINAL
from projections.statuses import Status as Status


class Request(Struct, frozen=True):
    """What was asked for, as `run_request.json` has it."""

    run_id: str
    target: str
    workflow: str
    source: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    metadata: Mapping[str, str]
    created_at: str
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    label_selector: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    timeout_s: float | None = None
    stop_grace_s: float = 3.0
    retries_max: int = 0
    retry_on_failure: bool = False
    captures: tuple[str, ...] = ()
    idempotency_key: str | None = None
    traceparent: str | None = None
    redacted: tuple[str, ...] | None = None


class Attempt(Struct, frozen=True):
    """One submission to Ray. Times are those of the events (ISO 8601, UTC); `status` is a run's, or `intended`."""

    number: int
    submission_id: str
    cluster_address: str
    session_name: str
    entrypoint: str
    package: str | None = None
    status: str = "intended"
    intended_at: str = ""
    submitted_at: str | None = None
    pending_reason: str | None = None
    started_at: str | None = None
    started_boot_id: str | None = None
    started_boottime_s: float | None = None
    ended_at: str | None = None
    node_id: str | None = None
    exit_code: int | None = None
    error_type: str | None = None
    duration_s: float | None = None
    never_started: bool = False
    lost_reason: str | None = None
    logs_sha256: str | None = None
    logs_size_bytes: int | None = None
    logs_truncated: bool = False


class Imported(Struct, frozen=True):
    """Where another tool has recorded a run, what it said of it, and its files with their digests, by their names."""

    root: str
    status: str | None
    files: Mapping[str, str]


class Tenancy(Struct, frozen=True):
    """What a run is to hold, with which claim it waits for that, for the how many-th time, and what it holds now."""

    wish: LeaseWish
    claim_id: str
    waits: int = 1
    leases: tuple[Bound, ...] = ()


class RunRecord(Struct, frozen=True):
    """Where a run stands after event `seq`; `forked_from` is the head of another run that it goes on from."""

    request: Request
    status: Status
    updated_at: str
    message: str | None = None
    blocked_reason: str | None = None
    attempts: tuple[Attempt, ...] = ()
    cancel_requested_at: str | None = None
    cancel_reason: str | None = None
    escalated_at: str | None = None
    escalations: int = 0
    exit_code: int | None = None
    error_type: str | None = None
    failure_kind: str | None = None
    adopted: bool = False
    anomalies: tuple[str, ...] = ()
    artifacts: int | None = None
    imported: Imported | None = None
    tenancy: Tenancy | None = None
    sealed_at: str | None = None
    seq: int = 0
    forked_from: str | None = None

    @property
    def run_id(self) -> str:
        """The id of the run, which is also its first submission id."""
        return self.request.run_id

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that counts: the last one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status in TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether something is still to happen to it without anybody asking."""
        return self.status not in RESTING


def evolve(record: RunRecord | None, recorded: Recorded[RunEvent]) -> RunRecord | None:
    """Apply one event. Never refuses: it has already happened."""
    event, time = recorded.event, recorded.time
    if record is None:
        return _begin(event, time, recorded.seq)
    before = record
    record = replace(record, updated_at=time, seq=recorded.seq)
    match event:
        case RunRequested() | RunForked() | RunAdopted() | RunImported():
            return record  # A run begins once.
        case RunBlocked(reason=reason, message=message):
            return replace(record, status="blocked", message=message, blocked_reason=reason)
        case RunUnblocked():
            return replace(record, status="requested", message=None, blocked_reason=None)
        case RunWaiting(claim_id=claim_id, wish=wish, message=message):
            waits = 1 + (record.tenancy.waits if record.tenancy else 0)
            return replace(record, status="waiting", message=message, tenancy=Tenancy(wish, claim_id, waits))
        case LeaseBound(leases=leases):
            record = _holding(record, leases)
            return replace(record, status="requested", message=None) if record.status == "waiting" else record
        case LeaseUnbound():
            return _holding(record, ())
        case DryRunRecorded(message=message):
            return replace(record, status="dry_run", message=message)
        case SubmissionStarted():
            return _intended(record, event, time)
        case RunSubmitted(session_name=session):
            record = replace(record, status="submitted", message=None, blocked_reason=None)
            return _in_attempt(record, status="submitted", submitted_at=time, session_name=session)
        case SubmissionFailed(message=message):
            record = replace(record, status="error", message=message)
            return _in_attempt(record, status="error", ended_at=time, never_started=True)
        case PendingExplained(reason=reason, message=message):
            return _in_attempt(replace(record, message=message), pending_reason=reason)
        case RunStarted():
            return _started(record, event, time)
        case RunCompleted() | RunFailed() | RunCancelled() | AttemptFailed():
            return _ended(record, event, time)
        case CancelRequested(reason=reason):
            return replace(record, cancel_requested_at=time, cancel_reason=reason)
        case CancelEscalated(message=message):
            return replace(record, message=message, escalated_at=time, escalations=record.escalations + 1)
        case RunLost(message=message, never_started=never_started, reason=reason):
            record = replace(record, status="lost", message=message)
            return _in_attempt(record, status="lost", ended_at=time, never_started=never_started, lost_reason=reason)
        case RunRecovered():
            record = replace(record, status="submitted", message=None)
            return _in_attempt(record, status="submitted", ended_at=None, never_started=False, lost_reason=None)
        case AnomalySeen(what=what):
            return replace(record, anomalies=(*record.anomalies, what))
        case LogsCaptured():
            return _with_logs(record, event)
        case ArtifactsIndexed(page=page, files=files) | ArtifactsImported(page=page, files=files):
            return replace(record, artifacts=len(files) + (record.artifacts or 0 if page > 1 else 0))
        case RunSealed():
            return replace(record, sealed_at=time)
        case RunCheckpointed():
            return replace(before, seq=recorded.seq)  # It says what there was, and changes nothing.
        case RunLogRepaired():
            return record
        case _:
            assert_never(event)


def _begin(event: RunEvent, time: str, seq: int) -> RunRecord | None:
    match event:
        case RunRequested():
            return RunRecord(_request(event, time), "requested", time, seq=seq)
        case RunForked(parent=parent, parent_head=head):
            return RunRecord(_request(event, time), "requested", time, seq=seq, forked_from=f"{parent}#{head}")
        case RunAdopted():
            request = Request(
                run_id=event.run_id,
                target=event.target,
                workflow=event.workflow,
                source="adopted",
                command=event.command,
                workdir=event.workdir,
                target_dir=event.target_dir,
                metadata=event.metadata,
                created_at=time,
            )
            attempt = Attempt(
                event.attempt,
                event.submission_id,
                event.cluster_address,
                event.session_name,
                event.entrypoint,
                status="submitted",
                submitted_at=time,
            )
            return RunRecord(request, "submitted", time, attempts=(attempt,), adopted=True, seq=seq)
        case RunImported():
            return _as_it_was(event, time, seq)
        case _:
            return None  # Only a repair of the log can come before a run begins.


def _request(event: Wish, time: str) -> Request:
    asked = {name: getattr(event, name) for name in Wish.__struct_fields__ if name != "redacted"}
    return Request(**asked, created_at=time, redacted=event.redacted or None)


def _as_it_was(event: RunImported, time: str, seq: int) -> RunRecord:
    """Give a run as another tool left it; what that had given to Ray is the first attempt.

    Where the status is another one than that tool's, it is so since the run was imported.
    """
    request = Request(
        run_id=event.run_id,
        target=event.target,
        workflow=event.workflow,
        source=event.source,
        command=event.command,
        workdir=event.workdir,
        target_dir=event.target_dir,
        metadata=event.metadata,
        created_at=event.created_at,
    )
    attempts: tuple[Attempt, ...] = ()
    if event.submission_id:
        attempts = (Attempt(1, event.submission_id, event.cluster_address or "", "", "", status=event.status),)
    since = event.updated_at if event.status == event.old_status else time
    imported = Imported(event.root, event.old_status, event.files)
    return RunRecord(request, event.status, since, message=event.message, attempts=attempts, imported=imported, seq=seq)


def _holding(record: RunRecord, leases: tuple[Bound, ...]) -> RunRecord:
    if record.tenancy is None:
        return record
    return replace(record, tenancy=replace(record.tenancy, leases=leases))


def _intended(record: RunRecord, event: SubmissionStarted, time: str) -> RunRecord:
    attempt = Attempt(
        event.attempt,
        event.submission_id,
        event.cluster_address,
        event.session_name,
        event.entrypoint,
        package=event.package,
        intended_at=time,
    )
    earlier = tuple(each for each in record.attempts if each.number != event.attempt)
    return replace(
        record,
        status="requested",
        message=None,
        blocked_reason=None,
        exit_code=None,
        error_type=None,
        failure_kind=None,
        escalations=0,
        attempts=(*earlier, attempt),
    )


def _started(record: RunRecord, event: RunStarted, time: str) -> RunRecord:
    record = replace(record, status="running", message=None)
    return _in_attempt(
        record,
        status="running",
        started_at=(record.attempt and record.attempt.started_at) or event.not_after or time,
        started_boot_id=event.boot_id,
        started_boottime_s=event.boottime_s,
        node_id=event.node_id,
    )


def _ended(record: RunRecord, event: Outcome, time: str) -> RunRecord:
    outcomes: dict[type[Outcome], Status] = {
        RunCompleted: "completed",
        RunFailed: "failed",
        RunCancelled: "cancelled",
        AttemptFailed: "requested",
    }
    status = outcomes[type(event)]
    kind = event.kind if isinstance(event, RunFailed | AttemptFailed) else None
    record = replace(
        record,
        status=status,
        message=event.message or None,
        exit_code=event.exit_code,
        error_type=event.error_type,
        failure_kind=kind,
    )
    if record.attempt is None or record.attempt.number != event.attempt:
        return record  # No attempt was under way: those before have ended as they have.
    return _in_attempt(
        record,
        status="failed" if isinstance(event, AttemptFailed) else status,
        ended_at=event.not_after or time,
        node_id=event.node_id or record.attempt.node_id,
        exit_code=event.exit_code,
        error_type=event.error_type,
        duration_s=event.duration_s,
        never_started=kind == "never_started",
    )


def _with_logs(record: RunRecord, event: LogsCaptured) -> RunRecord:
    captured = tuple(
        replace(
            attempt,
            logs_sha256=event.sha256 or None,
            logs_size_bytes=event.size_bytes,
            logs_truncated=event.truncated,
        )
        if attempt.number == event.attempt
        else attempt
        for attempt in record.attempts
    )
    return replace(record, attempts=captured)


def _in_attempt(record: RunRecord, **changes: object) -> RunRecord:
    """Change the attempt that counts; a run that never got one has none to change."""
    if record.attempt is None:
        return record
    return replace(record, attempts=(*record.attempts[:-1], replace(record.attempt, **changes)))
