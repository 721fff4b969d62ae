"""What may somebody ask of a run, and what does that change?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from merlin_es.deciders.outcome import ATTEMPTS_MAX
from merlin_es.errors import Refused
from projections.events.run import (
    AnomalySeen,
    CancelRequested,
    DryRunRecorded,
    LeaseBound,
    LeaseUnbound,
    RunBlocked,
    RunCancelled,
    RunEvent,
    RunForked,
    RunRequested,
    RunSealed,
    RunUnblocked,
    RunWaiting,
    SubmissionStarted,
)
from projections.lease_wish import Bound, LeaseWish
from projections.run_record import RunRecord

if TYPE_CHECKING:
    from merlin_es.commands import ForkRun, SubmitRun

_ENDS: Final = frozenset(
    {"run.completed", "run.failed", "run.cancelled", "run.submission_failed", "run.dry_run_recorded"}
)


def request(command: SubmitRun, record: RunRecord | None) -> tuple[RunEvent, ...]:
    """Record the wish, once."""
    if record is not None:
        return ()
    return _begin(RunRequested.made_of(msgspec.to_builtins(command)), command.leases)


def wait_again(reason: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Have a run that is not submitted yet, and holds its leases no longer, wait for them again."""
    if record.tenancy is None or record.status not in ("requested", "waiting") or _is_in_rays_hands(record):
        return ()
    waiting = _waiting(record.run_id, record.tenancy.wish, record.tenancy.waits)
    return (*unbind(reason, record), waiting)


def bind(claim_id: str, leases: tuple[Bound, ...], record: RunRecord) -> tuple[RunEvent, ...]:
    """Record that a waiting run holds what it waited for."""
    if record.status != "waiting" or record.tenancy is None or record.tenancy.claim_id != claim_id:
        return ()
    return (LeaseBound(claim_id=claim_id, leases=leases),)


def unbind(reason: str, record: RunRecord) -> tuple[LeaseUnbound, ...]:
    """Record that a run holds its leases no longer."""
    if record.tenancy is None or not record.tenancy.leases:
        return ()
    return (LeaseUnbound(leases=record.tenancy.leases, reason=reason),)


def lose_leases(reason: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Record that a run holds its leases no longer, and have it end where Ray has it: its keys may be somebody else's.

    Of a lost run nothing is known: it ends when it shows up again.
    """
    unbound = () if record.status == "lost" else unbind(reason, record)
    if not unbound or record.cancel_requested_at or not _is_in_rays_hands(record):
        return unbound
    keys = ", ".join(lease.key for lease in unbound[0].leases)
    return (*unbound, CancelRequested(message=f"{reason}: whoever has {keys} now is to have it alone"))


def with_its_leases(record: RunRecord | None, events: Sequence[RunEvent]) -> tuple[RunEvent, ...]:
    """Add, to what ends a run, that its leases end with it: whoever looks at them next will give them back."""
    ended = next((event for event in events if event.type in _ENDS), None)
    if record is None or ended is None or record.is_terminal:
        return tuple(events)
    return (*events, *unbind(f"{record.run_id} has ended: {ended.type.partition('.')[2]}", record))


def fork(command: ForkRun, record: RunRecord | None) -> tuple[RunEvent, ...]:
    """Record the wish to go on from the past of another run, once."""
    if record is not None:
        return ()
    come_from = {"parent": command.parent, "parent_head": command.parent_head, "answers": command.answers}
    return _begin(RunForked.made_of({**msgspec.to_builtins(command.wish), **come_from}), command.wish.leases)


def record_dry_run(entrypoint: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Record what would have been submitted."""
    if record.status == "dry_run":
        return ()
    if record.status not in ("requested", "waiting") or record.attempts:
        raise Refused(f"{record.run_id} is {record.status} since {record.updated_at}: it was asked for in earnest")
    message = "Nothing was submitted: leave out --dry-run to do so."
    return (DryRunRecorded(entrypoint=entrypoint, message=message),)


def block(reason: str, message: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Record that Ray cannot take the run now; it waits for somebody to ask again."""
    if record.status == "blocked" and (record.blocked_reason, record.message) == (reason, message):
        return ()
    if (
        record.status not in ("requested", "waiting", "blocked")
        or record.cancel_requested_at
        or _is_in_rays_hands(record)
    ):
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
    if record.tenancy is not None and not record.tenancy.leases:
        return (RunUnblocked(), _waiting(record.run_id, record.tenancy.wish, record.tenancy.waits))
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


def seal(reason: str, record: RunRecord) -> tuple[RunEvent, ...]:
    """Have nothing more recorded of a run; only of one that has ended can nothing more come."""
    if record.sealed_at:
        return ()
    require_ended(record, "seal it")
    return (RunSealed(reason=reason),)


def require_ended(record: RunRecord, then: str) -> None:
    """Refuse what may only be done with a run that has ended."""
    if not record.is_terminal:
        raise Refused(
            f"{record.run_id} is {record.status}, and more is to come of it: wait until it has ended, or cancel it, "
            f"then {then}"
        )


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
    if record.tenancy is not None and not record.tenancy.leases:
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


def _begin(event: RunRequested | RunForked, leases: LeaseWish | None) -> tuple[RunEvent, ...]:
    return (event, _waiting(event.run_id, leases, 0)) if leases else (event,)


def _waiting(run_id: str, wish: LeaseWish, waits: int) -> RunWaiting:
    """Give the wait of a run; its claim has the same id however often it is asked for."""
    digest = hashlib.sha256(f"{run_id}#{waits + 1}".encode()).hexdigest()
    what = ", ".join(wish.keys) or (wish.pool and f"{wish.pool.count} with {wish.pool.label}={wish.pool.value}")
    return RunWaiting(claim_id=f"claim-{digest[:10]}", wish=wish, message=f"it waits for {what}")


def _is_in_rays_hands(record: RunRecord) -> bool:
    return record.attempt is not None and record.attempt.status in ("intended", "submitted", "running")
