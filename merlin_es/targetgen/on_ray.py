"""How is an execution handed to Ray? As a run, whose command carries out what lies in the target directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from merlin_es.commands import SubmitRun
from merlin_es.settings import STOPS_IN_ORDER, Settings
from merlin_es.targetgen import launchers
from merlin_es.waiting import WORKFLOW
from projections.lease_wish import LeaseWish


def wish(
    run_id: str,
    directory: Path,
    *,
    target: str,
    prompt_backend: str,
    workflow: str,
    settings: Settings,
    variables: Mapping[str, str],
    launcher: str | None = None,
    options: Sequence[str] = (),
    leases: LeaseWish | None = None,
) -> SubmitRun:
    """Give the run that executes in `directory`; `options` are added to its command. Raises Usage.

    An execution that stops because it waits for somebody has ended well, so its job says so to Ray. The actor is the
    one who wants the run, since a job has the environment of the cluster and not of whoever submits it.
    """
    command, needed = launchers.job(directory, settings.workspace, launcher, variables)
    return SubmitRun(
        run_id=run_id,
        target=target,
        workflow=WORKFLOW,
        source=WORKFLOW,
        command=(*command, *options),
        workdir=str(settings.workspace),
        target_dir=str(directory),
        metadata={"prompt_backend": prompt_backend, "workflow": workflow},
        env={
            **needed,
            "MERLIN_ACTOR": settings.actor,
            "MERLIN_DOOR": "job",
            STOPS_IN_ORDER.variable: "1",
            **({} if settings.sync else {"MERLIN_FSYNC": "off"}),
        },
        cpus=1.0,
        traceparent=settings.traceparent,
        leases=leases,
    )
