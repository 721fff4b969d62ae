"""Which cluster do runs go to, and what is known of it? The fold of its log that becomes `bootstrap.json`."""

from __future__ import annotations

from typing import Final, Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from projections.events.cluster import (
    ClusterAttached,
    ClusterCheckpointed,
    ClusterEvent,
    ClusterImported,
    ClusterLogRepaired,
    ClusterReachable,
    ClusterStarted,
    ClusterStopped,
    ClusterUnreachable,
    SessionChanged,
    StartFailed,
    StartRequested,
    StopRequested,
)
from projections.events.recorded import Recorded

ClusterStatus = Literal["unavailable", "not_started", "active", "stopped", "error", "dry_run"]
CLUSTER_NAME: Final = "merlin-local"
OURS: Final = "merlin-raycp"
EXTERNAL: Final = "external"


class EarlierSession(Struct, frozen=True):
    """A life of a cluster that has been followed by another one."""

    session_name: str
    since: str


class ClusterRecord(Struct, frozen=True):
    """The cluster as it was last heard of. Times are those of the events (ISO 8601, UTC).

    It stays `active` while it does not answer: `unreachable_since` tells. What names the process (`pid`, with
    `pid_started` in clock ticks since the boot `boot_id`) is there only while a head of ours is; `session_name`,
    `ray_version`, `token_path` and `temp_dir` are the last ones, for what has been left behind.
    """

    cluster_name: str = CLUSTER_NAME
    status: ClusterStatus = "not_started"
    address: str | None = None
    dashboard_url: str | None = None
    namespace: str | None = None
    managed_by: str = OURS
    message: str | None = None
    started_at: str | None = None
    updated_at: str | None = None
    pid: int | None = None
    pid_started: int | None = None
    boot_id: str | None = None
    session_name: str | None = None
    session_since: str | None = None
    ray_version: str | None = None
    token_path: str | None = None
    temp_dir: str | None = None
    durable: bool = False
    unreachable_since: str | None = None
    unreachable_kind: str | None = None
    sessions: tuple[EarlierSession, ...] = ()

    @property
    def is_external(self) -> bool:
        """Whether others run it."""
        return self.managed_by == EXTERNAL


NOT_STARTED: Final = ClusterRecord()
"""The cluster before anything has happened to it."""


def evolve(record: ClusterRecord, recorded: Recorded[ClusterEvent]) -> ClusterRecord:
    """Apply one event. Never refuses: it has already happened."""
    event, time = recorded.event, recorded.time
    before = record
    record = replace(record, updated_at=time)
    match event:
        case StartRequested(namespace=namespace, durable=durable):
            record = replace(_without_process(record), status="not_started", message=None)
            return replace(record, namespace=namespace, managed_by=OURS, durable=durable)
        case ClusterStarted():
            return _started(record, event, time)
        case StartFailed(reason=reason, message=message):
            status: ClusterStatus = "unavailable" if reason == "ray_missing" else "error"
            return replace(_without_process(record), status=status, message=message)
        case ClusterAttached():
            return _attached(record, event, time)
        case StopRequested() | ClusterLogRepaired():
            return record
        case ClusterCheckpointed():
            return before  # It says what there was, and changes nothing.
        case ClusterStopped():
            return replace(_without_process(record), status="stopped", message=None)
        case ClusterUnreachable(kind=kind, message=message):
            since = record.unreachable_since or time
            return replace(record, message=message, unreachable_since=since, unreachable_kind=kind)
        case ClusterReachable():
            return _answering(record)
        case SessionChanged(new=new):
            return _in_session(_answering(record), new, time)
        case ClusterImported():
            return _imported(record, event)
        case _:
            assert_never(event)


def _started(record: ClusterRecord, event: ClusterStarted, time: str) -> ClusterRecord:
    record = replace(
        _answering(record),
        status="active",
        address=event.address,
        dashboard_url=event.dashboard_url,
        managed_by=OURS,
        started_at=time,
        pid=event.pid,
        pid_started=event.pid_started,
        boot_id=event.boot_id,
        ray_version=event.ray_version,
        token_path=event.token_path,
        temp_dir=event.temp_dir,
    )
    return _in_session(record, event.session_name, time)


def _attached(record: ClusterRecord, event: ClusterAttached, time: str) -> ClusterRecord:
    record = replace(
        _answering(_without_process(record)),
        status="active",
        address=event.dashboard_url,
        dashboard_url=event.dashboard_url,
        namespace=event.namespace,
        managed_by=EXTERNAL,
        started_at=time,
        ray_version=event.ray_version,
        token_path=event.token_path,
        temp_dir=None,
        durable=False,
    )
    return _in_session(record, event.session_name, time)


def _imported(record: ClusterRecord, event: ClusterImported) -> ClusterRecord:
    return replace(
        _answering(_without_process(record)),
        status=event.status,
        address=event.address,
        dashboard_url=event.dashboard_url,
        namespace=event.namespace,
        managed_by=EXTERNAL if event.status in ("active", "error") else OURS,
        message=event.message,
        started_at=event.started_at,
    )


def _without_process(record: ClusterRecord) -> ClusterRecord:
    return replace(
        record,
        address=None,
        dashboard_url=None,
        pid=None,
        pid_started=None,
        boot_id=None,
        unreachable_since=None,
        unreachable_kind=None,
    )


def _answering(record: ClusterRecord) -> ClusterRecord:
    return replace(record, message=None, unreachable_since=None, unreachable_kind=None)


def _in_session(record: ClusterRecord, session_name: str, time: str) -> ClusterRecord:
    """Begin a session, and put the one before among the earlier ones."""
    if record.session_name == session_name:
        return record
    sessions = record.sessions
    if record.session_name is not None:
        sessions = (*sessions, EarlierSession(record.session_name, record.session_since or ""))
    return replace(record, session_name=session_name, session_since=time, sessions=sessions)
