"""Ray says that an attempt has failed, or that it was stopped: how has it ended?"""

from __future__ import annotations

from datetime import datetime

from merlin_es.deciders.look import Decision, Seen, seconds
from merlin_es.deciders.outcome import (
    by_ray,
    by_wrapper,
    cancelled,
    ended_by_itself,
    failed,
    has_run,
    last_word,
    lost,
    stopped,
    with_retry,
)
from merlin_es.deciders.stopping import stop_first_execution
from merlin_es.ports import RayJob
from projections.run_record import Attempt, RunRecord

GUARD_LIMIT_S = 10.0
"""How long after Ray the wrapper's guard may take to say that everything was cleaned up."""
FIRST_EXECUTION_LIMIT_S = 24 * 3600.0
"""How long an execution that Ray knows nothing of is waited for, where the run has no timeout."""
REFUSED_CANCELLED, REFUSED_ALREADY_STARTED = 75, 76
"""The wrapper's exit codes where it does not start the command."""
COMMAND_ERROR = "JOB_ENTRYPOINT_COMMAND_ERROR"


def when_failed(record: RunRecord, attempt: Attempt, seen: Seen, job: RayJob) -> Decision:
    """Find the witness who knows: the wrapper, its guard, or Ray, which says FAILED of what lives on, too."""
    witness = seen.witness
    if word := last_word(record, attempt, seen):
        return Decision((word,))
    if witness.ended:
        return Decision((by_wrapper(record, attempt, seen, witness.ended),))
    if is_of_another(seen):
        return _follow_first(record, attempt, seen)
    if job.error_type == COMMAND_ERROR and not witness.started:
        return _failed_unseen(record, attempt, seen, job)
    if witness.started is None and job.node_id is None and attempt.started_at is None:
        # Ray names the node in the write that says RUNNING, before it starts the entrypoint (Ray 2.60, source).
        if record.cancel_requested_at:
            return Decision((stopped(record, attempt, seen, "before_start"),))
        return Decision((with_retry(record, failed(record, attempt, seen, "never_started")),))
    if _may_still_speak(seen, job):
        return has_run(attempt, seen) or Decision()
    return _failed_in_silence(record, attempt, seen, job)


def _failed_unseen(record: RunRecord, attempt: Attempt, seen: Seen, job: RayJob) -> Decision:
    """Give the end of a command whose node does not see the state root, so that Ray is the only witness."""
    if record.cancel_requested_at and job.exit_code == REFUSED_CANCELLED:
        return Decision((stopped(record, attempt, seen, "before_start"),))
    return has_run(attempt, seen) or Decision((by_ray(record, attempt, seen, job),))


def _failed_in_silence(record: RunRecord, attempt: Attempt, seen: Seen, job: RayJob) -> Decision:
    """Give the end of an attempt that ran and of which neither the wrapper nor its guard says how it ended."""
    if job.error_type == COMMAND_ERROR:
        return Decision((by_ray(record, attempt, seen, job),))  # Its end could not be written, as on a full disk.
    if record.cancel_requested_at:
        return has_run(attempt, seen) or Decision((stopped(record, attempt, seen, "stopped"),))
    return has_run(attempt, seen) or Decision((lost(record, attempt, seen, "infrastructure"),))


def _follow_first(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    """Wait for the end of the execution that was there first: Ray's job was a second one, and started nothing."""
    if record.cancel_requested_at:
        return stop_first_execution(record, attempt, seen)
    if seconds(attempt.started_at, seen.at) > FIRST_EXECUTION_LIMIT_S:
        return Decision((lost(record, attempt, seen, "infrastructure"),))
    return Decision()


def when_stopped(record: RunRecord, attempt: Attempt, seen: Seen, job: RayJob) -> Decision:
    """Tell who ended it: we, others, or the command itself just before."""
    ended = seen.witness.ended
    if ended and ended_by_itself(ended):
        return Decision((by_wrapper(record, attempt, seen, ended),))
    if seen.witness.started and not ended and _may_still_speak(seen, job):
        return Decision()
    if not record.cancel_requested_at:
        return Decision((cancelled(attempt, seen, "external"),))
    refused = seen.witness.refused == "cancelled"
    ran = attempt.status == "running" or (job.node_id is not None and not refused)
    return Decision((stopped(record, attempt, seen, "stopped" if ran else "before_start"),))


def is_of_another(seen: Seen) -> bool:
    """Tell whether Ray's job has failed because an execution of this attempt was there already."""
    witness, job = seen.witness, seen.job
    if job is None or job.error_type != COMMAND_ERROR or witness.started is None:
        return False
    return witness.refused == "already_started" or job.exit_code == REFUSED_ALREADY_STARTED


def _may_still_speak(seen: Seen, job: RayJob) -> bool:
    """Tell whether Ray has ended the job so recently that the wrapper's guard may not have told of it yet.

    A clock of Ray's that is far from ours says nothing; then there is no waiting, and what comes late recovers the run.
    """
    if job.ended_ms is None:
        return False
    return abs(datetime.fromisoformat(seen.at).timestamp() - job.ended_ms / 1000) <= GUARD_LIMIT_S
