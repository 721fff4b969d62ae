"""What does a look at the world say of a run? Three witnesses: the ledger, Ray, and the files of the wrapper.

The rows are those of the table in README.md, measured against Ray 2.60. What is not known ends nothing and repeats
nothing.
"""

from __future__ import annotations

from merlin_es.deciders.failure import is_of_another, when_failed, when_stopped
from merlin_es.deciders.look import Decision as Decision
from merlin_es.deciders.look import Seen as Seen
from merlin_es.deciders.look import seconds as seconds
from merlin_es.deciders.outcome import by_wrapper, cancelled, completed, has_run, last_word, lost, start, stopped
from merlin_es.deciders.stopping import is_overdue, stop_pending, stop_running
from merlin_es.ports import RayJob
from projections.events.recorded import Recorded
from projections.events.run import (
    AnomalySeen,
    CancelRequested,
    PendingExplained,
    RunEvent,
    RunRecovered,
    RunSubmitted,
)
from projections.run_record import Attempt, RunRecord, evolve

STEPS_MAX = 8
"""Each row leads to a later one; the longest way has four."""
BUSY_LIMIT_S = 10.0
"""After this long somebody will ask why the job does not start."""
IMPOSSIBLE_LIMIT_S = 2.0
"""Where nothing there is can run it, that is told as soon as the machines are known."""
PENDING_OVERDUE_S = 960.0
"""Ray gives up a job that it could not start for 900 s; a minute later nobody seems to watch it."""
WITNESS_LIMIT_S = 30.0
"""When Ray does not notice for so long what the wrapper has seen, the wrapper is believed."""
BACKOFF_MAX_S = 60.0


def decide(record: RunRecord, seen: Seen) -> Decision:
    """Give what this look adds to the record, and the one next step."""
    events: tuple[RunEvent, ...] = ()
    if record.sealed_at:
        return Decision()  # Nothing more is recorded of it.
    if seen.seq is not None and seen.seq != record.seq:
        return Decision()  # Somebody else got on meanwhile: what was seen may be of another attempt.
    for _ in range(STEPS_MAX):
        decision = _next(record, seen)
        for event in decision.events:
            record = evolve(record, Recorded(record.seq + 1, seen.at, "", "", event)) or record
        events += decision.events
        if not decision.events or decision.act != "nothing":
            return Decision(events, decision.act)
    return Decision(events)


def is_outcome(event: RunEvent) -> bool:
    """Whether an attempt ends with this event, so that its output is to be kept before it is gone."""
    return event.type in ("run.completed", "run.failed", "run.cancelled", "run.attempt_failed", "run.lost")


def _next(record: RunRecord, seen: Seen) -> Decision:
    attempt = record.attempt
    if record.is_terminal:
        return _after_the_end(record, seen)
    if attempt and record.status == "lost":
        return _lost(record, attempt, seen)
    if attempt is None or attempt.status not in ("intended", "submitted", "running"):
        return _not_submitted(record, seen)
    if seen.job and seen.job.submission_id != attempt.submission_id:
        return Decision()
    if news := _news(record, attempt, seen):
        return news
    if not seen.asked:
        return _unasked(record, attempt, seen)
    if attempt.status == "intended":
        return _intended(record, attempt, seen)
    if seen.job is None:
        return _unknown_to_ray(record, attempt, seen)
    match seen.job.status:
        case "PENDING" if attempt.status == "submitted":
            return _pending(record, attempt, seen)
        case "PENDING" | "RUNNING":
            return _running(record, attempt, seen, seen.job)
        case "SUCCEEDED":
            return has_run(attempt, seen) or Decision((completed(record, attempt, seen),))
        case "FAILED":
            return when_failed(record, attempt, seen, seen.job)
        case "STOPPED":
            return when_stopped(record, attempt, seen, seen.job)


def _after_the_end(record: RunRecord, seen: Seen) -> Decision:
    """Stop what lives on. An attempt that Ray never took of us is somebody else's."""
    job, attempt, witness = seen.job, record.attempt, seen.witness
    if not seen.asked or job is None or job.is_terminal or job.node_id in seen.dead_nodes:
        return Decision()
    if witness.ended or (witness.refused and not witness.started):
        return Decision()
    if attempt is None or attempt.status == "error" or job.submission_id != attempt.submission_id:
        return Decision()
    if job.status == "PENDING" or "alive_after_end" in record.anomalies:
        return Decision((), "stop")
    message = f"Ray says {job.status} of {job.submission_id}, which ended as {record.status}: it is stopped"
    return Decision((AnomalySeen(what="alive_after_end", message=message),), "stop")


def _not_submitted(record: RunRecord, seen: Seen) -> Decision:
    """Nothing of the run is in Ray's hands: the next attempt, unless it is not wanted, or not yet."""
    last = record.attempt
    if record.cancel_requested_at:
        return Decision((cancelled(None, seen, "never_submitted"),))
    if record.status != "requested":
        return Decision()
    if last and last.status == "lost" and (recovered := _recovered(record, last, seen)):
        return recovered
    if last and last.status == "failed":
        backoff_s = min(2.0 ** min(last.number - 1, 10), BACKOFF_MAX_S)
        if not seen.session_name or seconds(record.updated_at, seen.at) < backoff_s:
            return Decision()
    return Decision((), "intend")


def _lost(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    if recovered := _recovered(record, attempt, seen):
        return recovered
    if record.cancel_requested_at:
        return Decision((stopped(record, attempt, seen, "external", record.message or ""),), "stop")
    return Decision()


def _recovered(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision | None:
    """Give that a lost attempt has shown up: only on news that do not lead back to where it was lost."""
    job = seen.job
    if last_word(record, attempt, seen):
        message = "the wrapper has said how it ended after all"
    elif seen.asked and job and job.submission_id == attempt.submission_id and _is_new(attempt, seen, job):
        message = f"Ray knows it again, as {job.status}"
    else:
        return None
    return Decision((RunRecovered(attempt=attempt.number, message=message),))


def _is_new(attempt: Attempt, seen: Seen, job: RayJob) -> bool:
    """Tell whether what Ray says is more than it said when the attempt was lost: a dead machine never comes back."""
    if attempt.lost_reason not in ("node_dead", "infrastructure"):
        return True
    return job.status in ("SUCCEEDED", "STOPPED") or (job.status == "FAILED" and seen.witness.ended is not None)


def _news(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision | None:
    """Give what has to be recorded before all else: that Ray has it, that it was started, that it takes too long."""
    witness = seen.witness
    if attempt.status == "intended" and (seen.job or witness.started or witness.ended or witness.refused):
        session = seen.session_name if seen.job else attempt.session_name
        id_ = attempt.submission_id
        return Decision(
            (RunSubmitted(attempt=attempt.number, submission_id=id_, session_name=session, how="observed"),)
        )
    if attempt.status == "submitted" and witness.started and witness.refused != "cancelled":
        return has_run(attempt, seen)
    if not record.cancel_requested_at and _may_run(seen) and is_overdue(record, attempt, seen):
        message = f"it ran for longer than the {record.request.timeout_s:g} s that --timeout allows"
        return Decision((CancelRequested(reason="timeout", message=message),), "stop")
    return None


def _may_run(seen: Seen) -> bool:
    """Tell whether the command may be running at this moment."""
    if seen.witness.ended or not seen.asked:
        return seen.witness.ended is None
    job = seen.job
    return is_of_another(seen) or (job is not None and not job.is_terminal and job.node_id not in seen.dead_nodes)


def _unasked(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    """Without an answer of Ray the wrapper's word still counts, and a cancelled run is kept from starting."""
    if word := last_word(record, attempt, seen):
        return Decision((word,))
    return Decision((), "stop" if record.cancel_requested_at else "nothing")


def _intended(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    if record.cancel_requested_at:  # A submission that is under way meets the tombstone, which "stop" makes sure of.
        return Decision((cancelled(attempt, seen, "never_submitted"),), "stop")
    return Decision((), "submit")


def _unknown_to_ray(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    if word := last_word(record, attempt, seen):
        return Decision((word,))
    if record.cancel_requested_at and attempt.status == "submitted":
        return Decision((stopped(record, attempt, seen, "before_start"),), "stop")
    restarted = seen.session_name != attempt.session_name
    return Decision((lost(record, attempt, seen, "cluster_restarted" if restarted else "deleted_in_ray"),))


def _pending(record: RunRecord, attempt: Attempt, seen: Seen) -> Decision:
    if record.cancel_requested_at:
        return stop_pending(record, attempt, seen)
    waited_s = seconds(attempt.submitted_at, seen.at)
    if seen.pending_reason:
        reason, message = seen.pending_reason
        limit_s = BUSY_LIMIT_S if reason == "busy" else IMPOSSIBLE_LIMIT_S
        if waited_s > limit_s and reason != attempt.pending_reason:
            return Decision((PendingExplained(attempt=attempt.number, reason=reason, message=message),))
    if waited_s > PENDING_OVERDUE_S and "pending_overdue" not in record.anomalies:
        message = f"Ray has not started it for {waited_s:.0f} s, and has not given it up either"
        return Decision((AnomalySeen(what="pending_overdue", message=message),))
    return Decision()


def _running(record: RunRecord, attempt: Attempt, seen: Seen, job: RayJob) -> Decision:
    ended = seen.witness.ended
    refused = seen.witness.refused == "cancelled" and not seen.witness.started
    if refused and (word := last_word(record, attempt, seen)):
        return _unless_ray_wakes(seen, word)
    if attempt.status != "running":
        return Decision((start(attempt, seen, "ray"),))
    if ended and abs(seconds(ended.time, seen.at)) > WITNESS_LIMIT_S:  # Its clock may be ahead of ours.
        return _unless_ray_wakes(seen, by_wrapper(record, attempt, seen, ended))
    if job.node_id in seen.dead_nodes:
        event = by_wrapper(record, attempt, seen, ended) if ended else lost(record, attempt, seen, "node_dead")
        return _unless_ray_wakes(seen, event)
    return stop_running(record, attempt, seen) if record.cancel_requested_at else Decision()


def _unless_ray_wakes(seen: Seen, event: RunEvent) -> Decision:
    """Give what Ray does not notice, once it has had the time to."""
    return Decision((event,)) if seen.kicked_for_s > WITNESS_LIMIT_S else Decision((), "kick")
