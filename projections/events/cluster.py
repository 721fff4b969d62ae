"""What can happen to the cluster that runs go to?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from projections.events.base import Checkpointed, Codec, DomainEvent, Repaired


class StartRequested(DomainEvent):
    """Somebody wants a head on this host."""

    type: Literal["cluster.start_requested"] = "cluster.start_requested"
    host: str
    namespace: str
    durable: bool
    directory: str


class ClusterStarted(DomainEvent):
    """A head of ours has answered. `pid`, `pid_started` (clock ticks since boot) and `boot_id` name its process."""

    type: Literal["cluster.started"] = "cluster.started"
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


class StartFailed(DomainEvent):
    """No head came up; `reason` is `ray_missing` or `head_failed`."""

    type: Literal["cluster.start_failed"] = "cluster.start_failed"
    reason: Literal["ray_missing", "head_failed"]
    message: str


class ClusterAttached(DomainEvent):
    """Runs go to a cluster that others run."""

    type: Literal["cluster.attached"] = "cluster.attached"
    dashboard_url: str
    session_name: str
    ray_version: str
    namespace: str
    token_path: str | None = None


class StopRequested(DomainEvent):
    """Somebody wants our head to end."""

    type: Literal["cluster.stop_requested"] = "cluster.stop_requested"


class ClusterStopped(DomainEvent):
    """Nothing of our head is left, or we no longer use the cluster of others."""

    type: Literal["cluster.stopped"] = "cluster.stopped"
    how: Literal["gone", "terminated", "killed", "detached"]


class ClusterUnreachable(DomainEvent):
    """The cluster gave no useful answer; what its runs do is not known from here on."""

    type: Literal["cluster.unreachable"] = "cluster.unreachable"
    kind: str
    message: str


class ClusterReachable(DomainEvent):
    """The cluster answers again, and it is still in the same session."""

    type: Literal["cluster.reachable"] = "cluster.reachable"
    session_name: str


class SessionChanged(DomainEvent):
    """The cluster answers from another session: unless its state is durable, it has forgotten every job."""

    type: Literal["cluster.session_changed"] = "cluster.session_changed"
    old: str
    new: str


class ClusterImported(DomainEvent):
    """The tool that this one replaces has recorded a cluster. It named no process, so nobody here may end one.

    `files` and `root` are those of `run.imported`, `old_status` is what the old record said.
    """

    type: Literal["cluster.imported"] = "cluster.imported"
    status: Literal["active", "stopped", "not_started", "error"]
    old_status: str
    address: str | None = None
    dashboard_url: str | None = None
    namespace: str | None = None
    message: str | None = None
    started_at: str | None = None
    root: str
    files: dict[str, str]


class ClusterLogRepaired(Repaired):
    """See Repaired."""

    type: Literal["log.repaired"] = "log.repaired"


class ClusterCheckpointed(Checkpointed):
    """See Checkpointed."""

    type: Literal["log.checkpoint"] = "log.checkpoint"


ClusterEvent = Annotated[
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
    | ClusterLogRepaired,
    Field(discriminator="type"),
]

CLUSTER_EVENTS: Codec[ClusterEvent] = Codec(ClusterEvent)
