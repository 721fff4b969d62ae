"""How has an attempt begun, and how has it ended, in the words of an event?"""

from __future__ import annotations

from typing import Literal

import msgspec

from merlin_es.deciders.look import Decision, Seen
from merlin_es.ports import Ended, RayJob
from projections.events.run import (
    AttemptFailed,
    FailureKind,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunLost,
    RunStarted,
)
from projections.run_record import Attempt, RunRecord

ATTEMPTS_MAX = 100
"""However many repetitions were asked for."""
STOPPED_CODES = frozenset({-15, -9, 128 + 15, 128 + 9})
"""SIGTERM and SIGKILL, as a parent sees them and as a shell tells of them."""

How = Literal["never_submitted", "before_start", "stopped", "external"]
LostReason = Literal["cluster_restarted", "deleted_in_ray", "node_dead", "infrastructure"]


def ended_by_itself(ended: Ended) -> bool:
    """Tell whether the command came to its own end: nobody had told it to stop, and nothing killed it."""
    return ended.how == "exited" and ended.stopped_by is None and ended.exit_code not in STOPPED_CODES


def by_wrapper(record: RunRecord, attempt: Attempt, seen: Seen, ended: Ended) -> RunEvent:
    """Give the outcome that the wrapper, or its guard, saw, whatever Ray says."""
    if record.cancel_requested_at and not ended_by_itself(ended):
        return stopped(record, attempt, seen, "stopped")
    if ended.how == "exited" and ended.exit_code == 0:
        return completed(record, attempt, seen)
    kind: FailureKind = "user" if ended.how == "exited" else "infrastructure"
    return with_retry(record, failed(record, attempt, seen, kind))


def by_ray(record: RunRecord, attempt: Attempt, seen: Seen, job: RayJob) -> RunEvent:
    """Give the outcome of a command that ended with a code which only Ray has seen."""
    if record.cancel_requested_at and job.exit_code in STOPPED_CODES:
        return stopped(record, attempt, seen, "stopped")
    return with_retry(record, failed(record, attempt, seen, "user"))


def last_word(record: RunRecord, attempt: Attempt, seen: Seen) -> RunEvent | None:
    """Give the outcome that the wrapper's word decides, whatever Ray says or does not say.

    That its guard found it killed does so only where it was to end: else Ray tells whether it may be repeated.
    """
    witness = seen.witness
    if witness.ended and (witness.ended.how == "exited" or record.cancel_requested_at):
        return by_wrapper(record, attempt, seen, witness.ended)
    if witness.refused == "cancelled" and not witness.started:
        return stopped(record, attempt, seen, "before_start")
    return None


def completed(record: RunRecord, attempt: Attempt, seen: Seen) -> RunCompleted:
    """Give that the command ended with 0; where the run was to end before that, it was too late."""
    evidence = _evidence(attempt, seen) | {"exit_code": 0, "cancel_lost_race": record.cancel_requested_at is not None}
    if seen.job and seen.job.status == "SUCCEEDED":
        evidence["source"] = "ray"
    return RunCompleted.made_of(evidence)


def failed(record: RunRecord, attempt: Attempt, seen: Seen, kind: FailureKind) -> RunFailed:
    """Give a failure; where the run was to end before that, it was too late."""
    evidence = _evidence(attempt, seen)
    return RunFailed.made_of(
        evidence
        | {
            "kind": kind,
            "message": _failure_message(seen, kind),
            "cancel_lost_race": record.cancel_requested_at is not None,
        }
    )


def stopped(record: RunRecord, attempt: Attempt, seen: Seen, how: How, message: str = "") -> RunEvent:
    """Give the end of a run that was to end: a failure where it had used up its time."""
    if record.cancel_reason != "timeout":
        return cancelled(attempt, seen, how, message)
    message = f"it was stopped after the {record.request.timeout_s or 0:g} s that --timeout allows"
    return RunFailed.made_of(_evidence(attempt, seen) | {"kind": "timeout", "message": message})


def cancelled(attempt: Attempt | None, seen: Seen, how: How, message: str = "") -> RunCancelled:
    """Give the end of a run that somebody wanted to end; without an attempt where none was under way."""
    evidence = _evidence(attempt, seen) | {"how": how, "message": message}
    if how != "stopped" and seen.witness.ended is None:
        evidence["exit_code"] = None  # That of a wrapper which did not start the command is not the command's.
    return RunCancelled.made_of(evidence)


def lost(record: RunRecord, attempt: Attempt, seen: Seen, reason: LostReason) -> RunLost:
    """Give that nobody can say how an attempt ended."""
    never_started = seen.witness.started is None and attempt.started_at is None
    why = {
        "cluster_restarted": "the cluster was restarted and has forgotten it",
        "deleted_in_ray": "somebody deleted it in Ray",
        "node_dead": "the machine that ran it is gone",
        "infrastructure": "what ran it died",
    }[reason]
    advice = f"`merlin ray jobs retry {record.run_id}` submits it again"
    return RunLost(
        attempt=attempt.number,
        reason=reason,
        never_started=never_started,
        asked=f"job {attempt.submission_id} in session {seen.session_name}; submitted in {attempt.session_name}",
        answered=_answer(seen.job),
        message=f"{why}{', before it was seen to start' if never_started else ''}: {advice}",
    )


def with_retry(record: RunRecord, failure: RunFailed) -> RunEvent:
    """Give the failure as one of an attempt when another attempt is to follow."""
    repeatable = failure.kind in ("never_started", "infrastructure") or (
        failure.kind == "user" and record.request.retry_on_failure
    )
    left = failure.attempt <= min(record.request.retries_max, ATTEMPTS_MAX - 1)
    if not (repeatable and left) or record.cancel_requested_at:
        return failure
    return AttemptFailed.made_of(msgspec.structs.asdict(failure))


def has_run(attempt: Attempt, seen: Seen) -> Decision | None:
    """Give that it was started, when nobody has recorded that yet."""
    return None if attempt.status == "running" else Decision((start(attempt, seen, "inferred"),))


def start(attempt: Attempt, seen: Seen, source: Literal["ray", "inferred"]) -> RunStarted:
    """Give the start: exactly, where the wrapper tells of it."""
    started = seen.witness.started
    since, until = _between(attempt, seen, started.time if started else None)
    return RunStarted(
        attempt=attempt.number,
        source="wrapper" if started else source,
        not_before=since,
        not_after=until,
        node_id=seen.job.node_id if seen.job else None,
        host=started.host if started else None,
        boot_id=started.boot_id if started else None,
        boottime_s=started.boottime_s if started else None,
    )


def _between(attempt: Attempt | None, seen: Seen, moment: str | None) -> tuple[str | None, str]:
    """Give the interval in which it was: a moment of another clock, unless by ours that cannot have been it."""
    begun = attempt.intended_at if attempt else ""
    if moment and begun <= moment <= seen.at:
        return moment, moment
    earliest = max(filter(None, (seen.previous, begun)), default=None)
    return (earliest if earliest and earliest <= seen.at else None), seen.at


def _evidence(attempt: Attempt | None, seen: Seen) -> dict[str, object]:
    """Give what every outcome tells: who is believed, what each witness said, and between which moments it ended."""
    job, ended = (seen.job, seen.witness.ended) if attempt else (None, None)
    word = attempt and (ended or seen.witness.refused)
    since, until = _between(attempt, seen, ended.time if ended else None)
    evidence: dict[str, object] = {
        "attempt": attempt.number if attempt else 0,
        "source": "wrapper" if word else "ray" if job else "inferred",
        "exit_code": job.exit_code if job else None,
        "ray_status": job.status if job else None,
        "ray_message": job.message if job else None,
        "error_type": job.error_type if job else None,
        "node_id": job.node_id if job else None,
        "not_before": since,
        "not_after": until,
    }
    if ended:
        evidence["duration_s"] = ended.duration_s
        evidence["exit_code"] = evidence["exit_code"] if ended.exit_code is None else ended.exit_code
    return evidence


def _failure_message(seen: Seen, kind: FailureKind) -> str:
    job, ended = seen.job, seen.witness.ended
    exit_code = ended.exit_code if ended else job.exit_code if job else None
    if exit_code is not None and kind == "user":
        return f"the command ended with exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code} ended it"
    if job and job.message:
        return _first_line(job.message)
    return "the command was never started" if kind == "never_started" else "the command did not end by itself"


def _answer(job: RayJob | None) -> str:
    return "unknown" if job is None else f"{job.status} {job.error_type or ''} {_first_line(job.message)}".strip()


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
