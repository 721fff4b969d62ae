"""What can somebody ask of Merlin? Times, ids and all else that a rule may not fetch come in with the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True)
class ForkRun:
    """Have `wish` run as what goes on from `parent_head` (`seq:h`) of the stream `parent`, with other `answers`."""

    wish: SubmitRun
    parent: str
    parent_head: str
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartLocal:
    """Start a head on this host; None for a port: the default when it is free, else any free one."""

    host: str
    port: int | None
    dashboard_port: int | None
    namespace: str
    durable: bool
