"""What exactly is Ray given to run, and how is a job of ours known again?"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import eventlog
from merlin_es.cluster_link import Link
from merlin_es.ports import JobServer, RayJob, Submission
from projections.events.run import RunAdopted
from projections.run_record import Attempt, RunRecord

if TYPE_CHECKING:
    from merlin_es.vault import Vault

LEDGER, RUN, ATTEMPT, SPEC, HELPER = "merlin_ledger", "merlin_run", "merlin_attempt", "merlin_spec", "merlin_helper"
"""The metadata of every job of ours."""

_REAPER = (
    "import ray, sys\n"
    "ray.init('auto', logging_level='ERROR', log_to_driver=False)\n"
    "name, namespace = '_ray_internal_job_actor_' + sys.argv[1], 'SUPERVISOR_ACTOR_RAY_NAMESPACE'\n"
    "try:\n"
    "    ray.kill(ray.get_actor(name, namespace=namespace), no_restart=True)\n"
    "except ValueError:\n"
    "    print('no such supervisor: it has ended')\n"
)
"""Ends a job whose supervisor was never scheduled, which Ray's own stop leaves to start later (Ray 2.60, measured)."""


class Spec(msgspec.Struct):
    """What a job says of its run, so that a ledger which lost the run can take it in again."""

    target: str
    workflow: str
    command: tuple[str, ...]
    workdir: str
    target_dir: str


class Submissions(msgspec.Struct, frozen=True, dict=True):
    """Makes submissions out of runs. `identify` gives the id of this state root, and makes it when there is none."""

    state_root: Path
    blobs: eventlog.BlobStore
    identify: Callable[[], str]

    @cached_property
    def ledger_id(self) -> str:
        """What tells this state root's jobs from those of others; not asked for by who only reads."""
        return self.identify()

    @cached_property
    def vault(self) -> Vault:
        """What is hidden of the runs."""
        from merlin_es.vault import Vault

        return Vault(self.state_root)

    def entrypoint(self, record: RunRecord, attempt: int) -> str:
        """Give what `/bin/sh -c` will run: the wrapper, kept by its digest, around the command as it was asked."""
        from merlin_es import entrypoint as wrapper
        from merlin_es.redaction import needed
        from merlin_es.witness import entrypoint

        digest = self.blobs.put_file(Path(wrapper.__file__))
        request = record.request
        return entrypoint(
            wrapper=self.blobs.path(digest),
            python=sys.executable,
            witness=self.state_root / "runs" / record.run_id / "witness",
            run_id=record.run_id,
            attempt=attempt,
            workdir="." if request.working_dir else request.workdir,
            command=request.command,
            has_secrets=bool(needed(request.redacted or ())),
        )

    def package(self, record: RunRecord, server: JobServer) -> tuple[str | None, tuple[str, ...]]:
        """Upload the working directory, when that was asked for; gives its URI, and what is not in it and why."""
        if record.request.working_dir is None:
            return None, ()
        from merlin_es.packages import package

        with package(Path(record.request.working_dir), (self.state_root,)) as packed:
            return server.upload(packed.path), packed.omitted

    def submission(self, record: RunRecord, attempt: Attempt) -> Submission:
        """Give the job for an attempt that is intended."""
        request = record.request
        return Submission(
            submission_id=attempt.submission_id,
            entrypoint=attempt.entrypoint,
            env=self._environment(record),
            metadata=self._metadata(record, attempt),
            cpus=request.cpus,
            gpus=request.gpus,
            resources=request.resources,
            label_selector=request.label_selector,
            working_dir=attempt.package,
        )

    def reaper(self, record: RunRecord, attempt: Attempt) -> Submission:
        """Give the helper job that ends the supervisor of an attempt."""
        number = record.escalations
        return Submission(
            submission_id=f"{attempt.submission_id}-reaper{number}",
            entrypoint=f"exec python -c {shlex.quote(_REAPER)} {shlex.quote(attempt.submission_id)}",
            env={},
            metadata={HELPER: "1", LEDGER: self.ledger_id, RUN: record.run_id},
        )

    def is_of(self, job: RayJob, run_id: str) -> bool:
        """Tell whether a job is one of ours, for this run."""
        return job.metadata.get(RUN) == run_id and job.metadata.get(LEDGER) == self.ledger_id

    def is_ours(self, job: RayJob) -> bool:
        """Tell whether a job is one of ours, and no helper."""
        return job.metadata.get(LEDGER) == self.ledger_id and RUN in job.metadata and HELPER not in job.metadata

    def _environment(self, record: RunRecord) -> dict[str, str]:
        from merlin_es.lease_variables import variables
        from merlin_es.redaction import needed, pointer
        from merlin_es.vault import VARIABLE

        request = record.request
        ours = {
            "MERLIN_RUN_ID": record.run_id,
            "MERLIN_STATE_ROOT": str(self.state_root),
            "RAY_JOB_STOP_WAIT_TIME_S": str(math.ceil(request.stop_grace_s)),
        }
        if request.cpus:
            ours["MERLIN_KEEP_OMP"] = "1"  # Then Ray's OMP_NUM_THREADS is what was asked for, not its default of 1.
        if record.tenancy and record.tenancy.leases:
            ours |= variables(record.tenancy.leases)
        if request.traceparent:
            ours["TRACEPARENT"] = request.traceparent
        if hidden := needed(request.redacted or ()):
            ours[VARIABLE] = str(self.vault.path(record.run_id))
        shown = {name: value for name, value in request.env.items() if pointer("env", name) not in hidden}
        return {**shown, **ours}

    def _metadata(self, record: RunRecord, attempt: Attempt) -> dict[str, str]:
        request = record.request
        spec = Spec(request.target, request.workflow, request.command, request.workdir, request.target_dir)
        return {
            **request.metadata,
            LEDGER: self.ledger_id,
            RUN: record.run_id,
            ATTEMPT: str(attempt.number),
            SPEC: msgspec.json.encode(spec).decode(),
        }


def is_imported(job: RayJob, record: RunRecord) -> bool:
    """Tell whether a job is that of a run which another tool submitted: it marked none, and no ledger of ours has."""
    return record.imported is not None and job.submission_id == record.run_id and LEDGER not in job.metadata


def adopted_from(job: RayJob, link: Link) -> RunAdopted | None:
    """Give the run that a job of ours says it is; None when it does not say that properly."""
    metadata: Mapping[str, str] = job.metadata
    try:
        spec = msgspec.json.decode(metadata[SPEC], type=Spec)
        attempt = int(metadata[ATTEMPT])
    except (KeyError, ValueError, msgspec.MsgspecError):
        return None
    ours = (LEDGER, RUN, ATTEMPT, SPEC, "job_submission_id", "job_name")
    return RunAdopted(
        run_id=metadata[RUN],
        attempt=attempt,
        submission_id=job.submission_id,
        session_name=link.session.session_name,
        cluster_address=link.server.address,
        target=spec.target,
        workflow=spec.workflow,
        command=spec.command,
        workdir=spec.workdir,
        target_dir=spec.target_dir,
        entrypoint=job.entrypoint,
        metadata={key: value for key, value in metadata.items() if key not in ours},
    )
