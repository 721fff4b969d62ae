"""What does it take to end an attempt that is to end?"""

from __future__ import annotations

from merlin_es.deciders.look import Decision, Seen, seconds
from merlin_es.deciders.outcome import lost, stopped
from projections.events.run import AnomalySeen, CancelEscalated
from projections.run_record import Attempt, RunRecord

STOP_PENDING_LIMIT_S = 4.0
"""Ray says that it stops a job which it has not started, and does not: after this long it is made to."""
STOP_SLACK_S = 5.0
"""Beyond the grace between SIGTERM and SIGKILL."""
REAPERS_MAX = 5
"""How often the supervisor of one attempt is killed."""


def is_overdue(record: RunRecord, attempt: Attempt, seen: Seen) -> bool:
    """Tell whether the command has run for too long, by the clock that cannot be set where there is one."""
    if record.request.timeout_s is None or attempt.started_at is None:
        return False
    ran_s = seconds(attempt.started_at, seen.at)
    if attempt.started_boottime_s is not None and attempt.started_boot_id == seen.boot_id:
        ran_s = seen.boottime_s - attempt.started_boottime_s
    return ran_s > record.request.timeout_s


def stop_pending(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    """End a job that Ray has not started: by the tombstone and by its supervisor, since Ray's own stop does not.

    When Ray says PENDING of it after all that, nobody watches it any more (Ray 2.60, measured), and the tombstone alone
    keeps it from starting.
    """
    if _waited_s(record, seen) <= STOP_PENDING_LIMIT_S * (1 + 4 * record.escalations):
        return Decision((), "stop")
    if record.escalations < REAPERS_MAX:
        message = "Ray did not stop a job that it had not started, so its supervisor is killed"
        return Decision((CancelEscalated(attempt=attempt.number, how="reaper", message=message),), "reap")
    message = "Ray still says PENDING of it; its wrapper will not start the command"
    return Decision((stopped(record, attempt, seen, "before_start", message),), "stop")


def stop_running(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    """End a job that runs. What does not end by all that is not said to have ended."""
    if _waited_s(record, seen) <= record.request.stop_grace_s + STOP_SLACK_S:
        return Decision((), "stop")
    if record.escalations == 0:
        message = "Ray did not stop it in time, so it is asked once more"
        return Decision((CancelEscalated(attempt=attempt.number, how="stop_repeated", message=message),), "stop")
    if record.escalations <= REAPERS_MAX:
        message = "Ray did not stop it when it was asked twice, so its supervisor is killed"
        return Decision((CancelEscalated(attempt=attempt.number, how="reaper", message=message),), "reap")
    if "will_not_stop" not in record.anomalies:
        message = f"it does not end although its supervisor was killed {REAPERS_MAX} times: look at its machine"
        return Decision((AnomalySeen(what="will_not_stop", message=message),), "stop")
    return Decision((), "stop")


def stop_first_execution(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    """Give up an execution that Ray knows nothing of, and so cannot stop, when its time is over."""
    if _waited_s(record, seen) <= record.request.stop_grace_s + STOP_SLACK_S:
        return Decision((), "stop")
    return Decision((lost(record, attempt, seen, "infrastructure"),))


def _waited_s(record: RunRecord, seen: Seen) -> float:
    return seconds(record.escalated_at or record.cancel_requested_at, seen.at)
