"""What is true today of what the tool that this one replaces has recorded?

What had ended stays as it ended. What was under way when that tool last looked is `lost`: nobody has said how it ended,
and it is no longer asked for. Ray still may be: a cluster that is attached and knows the job has the run recovered.
"""

from __future__ import annotations

from typing import Literal, assert_never

from merlin_es.commands import ImportCluster, ImportLease, ImportRun, OldClusterStatus, OldStatus
from merlin_es.errors import Refused
from projections.cluster import ClusterRecord
from projections.events.cluster import ClusterImported
from projections.events.lease import ClaimQueued, LeaseEvent, LeaseGranted, LeaseReleased
from projections.events.run import LogsCaptured, RunEvent, RunImported
from projections.lease_state import Resources, Tick
from projections.line import wants
from projections.run_record import RunRecord
from projections.statuses import Status

NO_ADDRESS = "its record names no job server that could be asked: `merlin ray cluster attach ADDRESS` names one"
MESSAGE_MAX = 4000
"""Characters of a message that an event repeats: the whole of it is in the original."""


def import_run(command: ImportRun, record: RunRecord | None) -> tuple[RunEvent, ...]:
    """Take in a run, once."""
    if record is not None:
        return ()
    status = status_of(command.old_status)
    event = RunImported(
        run_id=command.run_id,
        target=command.target,
        workflow=command.workflow,
        source=command.source,
        command=command.command,
        workdir=command.workdir,
        target_dir=command.target_dir,
        metadata=dict(command.metadata),
        created_at=command.created_at,
        updated_at=command.updated_at,
        status=status,
        old_status=command.old_status,
        message=_why_lost(command) if status == "lost" else _brief(command.message),
        cluster_address=command.cluster_address,
        submission_id=_submission_id(command),
        root=command.root,
        files=dict(command.files),
    )
    if command.output is None or event.submission_id is None:
        return (event,)
    sha256, size_bytes = command.output
    return (event, LogsCaptured(attempt=1, sha256=sha256, size_bytes=size_bytes))


def import_cluster(command: ImportCluster, record: ClusterRecord) -> tuple[ClusterImported, ...]:
    """Take in the cluster, unless this state root has had one of its own."""
    if record.updated_at is not None:
        return ()
    has_address, was_active = command.dashboard_url is not None, command.old_status == "active"
    return (
        ClusterImported(
            status=_cluster_status(command.old_status, has_address=has_address),
            old_status=command.old_status,
            address=command.address,
            dashboard_url=command.dashboard_url,
            namespace=command.namespace,
            message=_brief(command.message) if has_address or not was_active else NO_ADDRESS,
            started_at=command.started_at,
            root=command.root,
            files=dict(command.files),
        ),
    )


def import_lease(command: ImportLease, by: str, state: Resources, tick: Tick) -> tuple[LeaseEvent, ...]:
    """Take in a lease: a claim that is granted at once, and given back where it was. Raises Refused.

    It ends only when somebody releases it, as those of that tool do. What that tool knew of it beside is in `metadata`.
    """
    if command.lease_id in state.leases:
        return ()
    _require_free(command.key, state)
    known = state.keys.get(command.key)
    claim_id = f"claim-{command.lease_id[-10:]}"
    events: tuple[LeaseEvent, ...] = (
        ClaimQueued(
            claim_id=claim_id,
            owner=command.owner,
            keys=(command.key,),
            metadata={
                **command.metadata,
                "imported_from": command.root,
                "imported_created_at": command.created_at,
                "imported_sha256": command.sha256,
            },
            tick=tick,
        ),
        LeaseGranted(
            lease_id=command.lease_id,
            key=command.key,
            fence=(known.fence if known else 0) + 1,
            claim_id=claim_id,
            owner=command.owner,
            keys=(command.key,),
            tick=tick,
        ),
    )
    if command.active:
        return events
    message = "it had been released when it was imported"
    return (*events, LeaseReleased(lease_id=command.lease_id, by=by, message=message))


def _require_free(key: str, state: Resources) -> None:
    """Refuse a key that somebody has here, or stands in line for, or that nobody gets: an old lease comes last."""
    known = state.keys.get(key)
    if holder := state.holder(key):
        raise Refused(f"{key} is held by {holder.owner} with {holder.lease_id}: release that, then repeat the import")
    if known and known.status != "ENABLED":
        raise Refused(f"{key} is {known.status.lower()}: `merlin ray resources enable {key}` first")
    if any(wants(claim, key, state) for claim in state.claims.values()):
        raise Refused(f"somebody stands in line for {key}: repeat the import when nobody does")


def status_of(old_status: OldStatus | None) -> Status:
    """Give the status that a run has from now on; `old_status` is None where only the request could be read."""
    match old_status:
        case "blocked" | "dry_run" | "completed" | "failed" | "cancelled" | "error":
            return old_status  # It has ended, or Ray never had it: that is still so.
        case "submitted" | "running" | None:
            return "lost"
        case _:
            assert_never(old_status)


def _submission_id(command: ImportRun) -> str | None:
    """Give the id that Ray knows the run by: that tool gave it the run's, and recorded that only afterwards."""
    if command.old_status is None:
        return command.run_id
    return command.submission_id


def _why_lost(command: ImportRun) -> str:
    where = f" (it was given to {command.cluster_address})" if command.cluster_address else ""
    was = f"was {command.old_status}" if command.old_status else "had only been asked for"
    return (
        f"it {was} when the tool that recorded it last wrote it down, and nobody has looked since{where}: "
        f"`merlin ray cluster attach ADDRESS` and `merlin ray jobs status {command.run_id}` ask the cluster once more, "
        f"`merlin ray jobs retry {command.run_id}` runs it again"
    )


def _cluster_status(
    old_status: OldClusterStatus, *, has_address: bool
) -> Literal["active", "stopped", "not_started", "error"]:
    match old_status:
        case "active":
            return "active" if has_address else "error"  # It may be dead: whoever asks will see.
        case "stopped" | "error":
            return old_status
        case "unavailable" | "not_started" | "dry_run":
            return "not_started"  # That there was no `ray` then says nothing today.
        case _:
            assert_never(old_status)


def _brief(message: str | None) -> str | None:
    return message if message is None or len(message) <= MESSAGE_MAX else f"{message[:MESSAGE_MAX]}…"
