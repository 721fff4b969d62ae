"""What may somebody ask of a run, and what does that change?"""

from __future__ import annotations

from dataclasses import asdict

from merlin_es.commands import ForkRun, SubmitRun
from merlin_es.deciders.outcome import ATTEMPTS_MAX
from merlin_es.errors import Refused
from projections.events.run import (
    AnomalySeen,
    CancelRequested,
    DryRunRecorded,
    RunBlocked,
    RunCancelled,
    RunEvent,
    RunForked,
    RunRequested,
    RunUnblocked,
    SubmissionStarted,
)
from projections.run_record import RunRecord


def request(command: SubmitRun, record: RunRecord | None) -> tuple[RunEvent, ...]:
    """Record the wish, once."""
    if record is not None:
        return ()
    return (RunRequested.model_validate(asdict(command)),)


def fork(command: ForkRun, record: RunRecord | None) -> tuple[RunEvent, ...]:
    """Record the wish to go on from the past of another run, once."""
    if record is not None:
        return ()
    come_from = {"parent": command.parent, "parent_head": command.parent_head, "answers": command.answers}
    return (RunForked.model_validate({**asdict(command.wish), **come_from}),)


def record_dry_run(entrypoint: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Record what would have been submitted."""
    if record.status == "dry_run":
        return ()
    if record.status != "requested" or record.attempts:
        raise Refused(f"{record.run_id} is {record.status} since {record.updated_at}: it was asked for in earnest")
    message = "Nothing was submitted: leave out --dry-run to do so."
    return (DryRunRecorded(entrypoint=entrypoint, message=message),)


def block(reason: str, message: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Record that Ray cannot take the run now; it waits for somebody to ask again."""
    if record.status == "blocked" and (record.blocked_reason, record.message) == (reason, message):
        return ()
    if record.status not in ("requested", "blocked") or record.cancel_requested_at or _is_in_rays_hands(record):
        return ()  # Ray may have it: that is for the reconciler to find out.
    return (RunBlocked(reason=reason, message=message),)


def retry(record: RunRecord) -> tuple[RunEvent, ...]:
    """Have a blocked or lost run submitted after all; what has ended stays as it is."""
    if record.is_terminal:
        raise Refused(
            f"{record.run_id} is {record.status} since {record.updated_at}, and that is final: "
            "submit it again as a new run"
        )
    if record.cancel_requested_at:
        raise Refused(
            f"{record.run_id} is to end since {record.cancel_requested_at}, and nothing of it will start any more: "
            "submit it again as a new run"
        )
    if record.status not in ("blocked", "lost"):
        return ()  # It is under way already.
    if len(record.attempts) >= ATTEMPTS_MAX:
        raise Refused(f"{record.run_id} has had {ATTEMPTS_MAX} attempts: submit it again as a new run")
    return (RunUnblocked(),)


def cancel(record: RunRecord) -> tuple[RunEvent, ...]:
    """Have the run end; what Ray has nothing of ends at once, and so does what nobody can find."""
    if record.is_terminal:
        return ()
    wish = () if record.cancel_requested_at else (CancelRequested(),)
    if record.attempt and record.status == "lost":
        return (*wish, RunCancelled(attempt=record.attempt.number, source="inferred", how="external"))
    if not _is_in_rays_hands(record):
        return (*wish, RunCancelled(attempt=0, source="inferred", how="never_submitted"))
    return wish


def intend(
    record: RunRecord,
    address: str,
    session_name: str,
    entrypoint: str,
    package: str | None = None,
    omitted: tuple[str, ...] = (),
) -> tuple[RunEvent, ...]:
    """Record, before Ray is asked, under which id and where the next attempt is submitted."""
    if record.status != "requested" or record.cancel_requested_at or _is_in_rays_hands(record):
        return ()
    number = next_attempt(record)
    left_out = f"not uploaded: {'; '.join(omitted)}"
    return (
        *((AnomalySeen(what="not_uploaded", message=left_out),) if omitted else ()),
        SubmissionStarted(
            attempt=number,
            submission_id=submission_id(record.run_id, number),
            cluster_address=address,
            session_name=session_name,
            entrypoint=entrypoint,
            package=package,
        ),
    )


def next_attempt(record: RunRecord) -> int:
    """Give the number of the attempt after all those that were made."""
    return 1 + max((attempt.number for attempt in record.attempts), default=0)


def submission_id(run_id: str, attempt: int) -> str:
    """Give the id that Ray knows an attempt by: never used twice."""
    return run_id if attempt == 1 else f"{run_id}-a{attempt}"


def _is_in_rays_hands(record: RunRecord) -> bool:
    return record.attempt is not None and record.attempt.status in ("intended", "submitted", "running")
