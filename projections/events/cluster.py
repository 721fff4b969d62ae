"""What can happen to the cluster that runs go to? Facts, as those of runs are."""

from __future__ import annotations

from typing import ClassVar, Literal

from projections.events.fact import Checkpointed, Fact, FactCodec, Repaired


class StartRequested(Fact, frozen=True, kw_only=True):
    """Somebody wants a head on this host."""

    type: ClassVar[str] = "cluster.start_requested"
    host: str
    namespace: str
    durable: bool
    directory: str


class ClusterStarted(Fact, frozen=True, kw_only=True):
    """A head of ours has answered. `pid`, `pid_started` (clock ticks since boot) and `boot_id` name its process."""

    type: ClassVar[str] = "cluster.started"
    address: str
    dashboard_url: str
    session_name: str
    ray_version: str
    pid: int
    pid_started: int
    boot_id: str
    token_path: str
    temp_dir: str
    argv: tuple[str, ...]


class StartFailed(Fact, frozen=True, kw_only=True):
    """No head came up; `reason` is `ray_missing` or `head_failed`."""

    type: ClassVar[str] = "cluster.start_failed"
    reason: Literal["ray_missing", "head_failed"]
    message: str


class ClusterAttached(Fact, frozen=True, kw_only=True):
    """Runs go to a cluster that others run."""

    type: ClassVar[str] = "cluster.attached"
    dashboard_url: str
    session_name: str
    ray_version: str
    namespace: str
    token_path: str | None = None


class StopRequested(Fact, frozen=True, kw_only=True):
    """Somebody wants our head to end."""

    type: ClassVar[str] = "cluster.stop_requested"


class ClusterStopped(Fact, frozen=True, kw_only=True):
    """Nothing of our head is left, or we no longer use the cluster of others."""

    type: ClassVar[str] = "cluster.stopped"
    how: Literal["gone", "terminated", "killed", "detached"]


class ClusterUnreachable(Fact, frozen=True, kw_only=True):
    """The cluster gave no useful answer; what its runs do is not known from here on."""

    type: ClassVar[str] = "cluster.unreachable"
    kind: str
    message: str


class ClusterReachable(Fact, frozen=True, kw_only=True):
    """The cluster answers again, and it is still in the same session."""

    type: ClassVar[str] = "cluster.reachable"
    session_name: str


class SessionChanged(Fact, frozen=True, kw_only=True):
    """The cluster answers from another session: unless its state is durable, it has forgotten every job."""

    type: ClassVar[str] = "cluster.session_changed"
    old: str
    new: str


class ClusterImported(Fact, frozen=True, kw_only=True):
    """The tool that this one replaces has recorded a cluster. It named no process, so nobody here may end one.

    `files` and `root` are those of `run.imported`, `old_status` is what the old record said.
    """

    type: ClassVar[str] = "cluster.imported"
    status: Literal["active", "stopped", "not_started", "error"]
    old_status: str
    address: str | None = None
    dashboard_url: str | None = None
    namespace: str | None = None
    message: str | None = None
    started_at: str | None = None
    root: str
    files: dict[str, str]


class ClusterLogRepaired(Repaired, frozen=True, kw_only=True):
    """See Repaired."""


class ClusterCheckpointed(Checkpointed, frozen=True, kw_only=True):
    """See Checkpointed."""


ClusterEvent = (
    StartRequested
    | ClusterStarted
    | StartFailed
    | ClusterAttached
    | StopRequested
    | ClusterStopped
    | ClusterUnreachable
    | ClusterReachable
    | SessionChanged
    | ClusterImported
    | ClusterCheckpointed
    | ClusterLogRepaired
)

CLUSTER_EVENTS: FactCodec[ClusterEvent] = FactCodec(ClusterEvent, lax=True)
