"""What can somebody ask of Merlin? Times, ids and all else that a rule may not fetch come in with the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from merlin_es.lease_commands import Caller as Caller
from merlin_es.lease_commands import Declare as Declare
from merlin_es.lease_commands import Reserve as Reserve
from projections.lease_wish import LeaseWish

OldStatus = Literal["blocked", "dry_run", "submitted", "error", "running", "completed", "failed", "cancelled"]
OldClusterStatus = Literal["unavailable", "not_started", "active", "stopped", "error", "dry_run"]
"""The statuses of the tool that this one replaces."""


@dataclass(frozen=True, slots=True)
class SubmitRun:
    """Have `command` run in `workdir`; see projections.events.run.RunRequested for the rest."""

    run_id: str
    target: str
    workflow: str
    source: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    label_selector: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    timeout_s: float | None = None
    stop_grace_s: float = 3.0
    retries_max: int = 0
    retry_on_failure: bool = False
    captures: tuple[str, ...] = ()
    idempotency_key: str | None = None
    traceparent: str | None = None
    leases: LeaseWish | None = None
    redacted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForkRun:
    """Have `wish` run as what goes on from `parent_head` (`seq:h`) of the stream `parent`, with other `answers`."""

    wish: SubmitRun
    parent: str
    parent_head: str
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportRun:
    """Take in a run that the tool which this one replaces has recorded; see projections.events.run.RunImported.

    `old_status` is None where only the request could be read. `output` is where the whole of a long message lies in
    the blob store, with its size in bytes: that tool put the output of a failed job there.
    """

    run_id: str
    target: str
    workflow: str
    source: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str
    metadata: Mapping[str, str]
    created_at: str
    updated_at: str
    old_status: OldStatus | None
    message: str | None
    cluster_address: str | None
    submission_id: str | None
    root: str
    files: Mapping[str, str]
    output: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class ImportCluster:
    """Take in the cluster that the tool which this one replaces has recorded."""

    old_status: OldClusterStatus
    address: str | None
    dashboard_url: str | None
    namespace: str | None
    message: str | None
    started_at: str | None
    root: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImportLease:
    """Take in a lease that the tool which this one replaces has recorded; times are those of its file."""

    lease_id: str
    key: str
    owner: str
    active: bool
    metadata: Mapping[str, str]
    created_at: str
    root: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StartLocal:
    """Start a head on this host; None for a port: the default when it is free, else any free one."""

    host: str
    port: int | None
    dashboard_port: int | None
    namespace: str
    durable: bool
