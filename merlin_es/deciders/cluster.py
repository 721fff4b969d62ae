"""What changes about the cluster when somebody asks for it, or when it is looked at?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merlin_es.errors import Refused
from merlin_es.ports import Head, Session
from projections.cluster import ClusterRecord
from projections.events.cluster import (
    ClusterAttached,
    ClusterEvent,
    ClusterReachable,
    ClusterStarted,
    ClusterStopped,
    ClusterUnreachable,
    SessionChanged,
    StartFailed,
    StartRequested,
    StopRequested,
)

if TYPE_CHECKING:
    from merlin_es.commands import StartLocal


def request_start(command: StartLocal, directory: str) -> tuple[ClusterEvent, ...]:
    """Record the wish for a head; the caller has seen that the recorded one is not alive."""
    return (
        StartRequested(host=command.host, namespace=command.namespace, durable=command.durable, directory=directory),
    )


def started(head: Head) -> tuple[ClusterEvent, ...]:
    """Record that a head answers, and that its cluster is another one than before where that is so."""
    session_name = head.session.session_name
    event = ClusterStarted(
        address=head.address,
        dashboard_url=head.dashboard_url,
        session_name=session_name,
        ray_version=head.session.ray_version,
        pid=head.process.pid,
        pid_started=head.process.started,
        boot_id=head.process.boot_id,
        token_path=str(head.token_path),
        temp_dir=str(head.temp_dir),
        argv=head.argv,
    )
    return (event,)


def start_failed(reason: str, message: str) -> tuple[ClusterEvent, ...]:
    """Record that no head came up."""
    return (StartFailed(reason="ray_missing" if reason == "ray_missing" else "head_failed", message=message),)


def attach(
    dashboard_url: str, session: Session, namespace: str, token_path: str | None, record: ClusterRecord
) -> tuple[ClusterEvent, ...]:
    """Have runs go to a cluster that others run, unless a head of ours is still up."""
    known = (record.dashboard_url, record.session_name, record.namespace, record.token_path)
    same = known == (dashboard_url, session.session_name, namespace, token_path) and not record.unreachable_since
    if record.status == "active" and record.is_external and same:
        return ()
    if record.status == "active" and not record.is_external:
        raise Refused(
            f"a head of this state root runs at {record.dashboard_url}: end it with `merlin ray cluster stop` first"
        )
    return (
        ClusterAttached(
            dashboard_url=dashboard_url,
            session_name=session.session_name,
            ray_version=session.ray_version,
            namespace=namespace,
            token_path=token_path,
        ),
    )


def request_stop(record: ClusterRecord) -> tuple[ClusterEvent, ...]:
    """Record the wish to end the head; one that was never started needs none."""
    return (StopRequested(),) if record.status in ("active", "error") else ()


def stopped(how: str, record: ClusterRecord) -> tuple[ClusterEvent, ...]:
    """Record that nothing of it is left."""
    if record.status not in ("active", "error"):
        return ()
    return (ClusterStopped.made_of({"how": how}),)


def answered(session: Session, record: ClusterRecord) -> tuple[ClusterEvent, ...]:
    """Record what an answer tells of the cluster, where it is not known yet."""
    if record.status != "active":
        return ()
    if record.session_name != session.session_name:
        return (SessionChanged(old=record.session_name or "", new=session.session_name),)
    if record.unreachable_since:
        return (ClusterReachable(session_name=session.session_name),)
    return ()


def unanswered(kind: str, message: str, record: ClusterRecord) -> tuple[ClusterEvent, ...]:
    """Record, once, that the cluster gives no useful answer."""
    if record.status != "active" or record.unreachable_since:
        return ()
    return (ClusterUnreachable(kind=kind, message=message),)
