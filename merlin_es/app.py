"""What can a door ask for? One method for each verb on runs: it sends one command and gives one state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

import eventlog
from merlin_es.cluster_link import ClusterLink
from merlin_es.deciders import run as rules
from merlin_es.errors import NotFound
from merlin_es.failpoints import reach
from merlin_es.keeper import Keeper
from merlin_es.ledger import Ledger
from merlin_es.ports import Host, Witnesses
from merlin_es.reconciler import Pass, Reconciler
from merlin_es.settings import Settings
from merlin_es.submission import Submissions
from projections.artifacts import Artifact
from projections.events.run import RunEvent
from projections.run_record import RunRecord

if TYPE_CHECKING:
    from merlin_es.commands import ForkRun, SubmitRun
    from merlin_es.driver_logs import DriverLogs
    from merlin_es.fetch import Fetched
    from merlin_es.redaction import Hidden, Rules

WAIT_STEP_S = 0.5
QUIESCE_S = 7.0
"""For what comes after the grace of the slowest run, for all of them together."""


class Merlin(Struct, frozen=True):
    """Merlin over one state root."""

    settings: Settings
    ledger: Ledger
    cluster: ClusterLink
    reconciler: Reconciler
    submissions: Submissions
    keeper: Keeper
    witnesses: Witnesses
    blobs: eventlog.BlobStore
    host: Host
    secrets: Callable[[], Rules]

    def submit(self, command: SubmitRun, *, dry_run: bool = False) -> RunRecord:
        """Record the wish and have Ray take the run; returns as soon as it has, or as nothing more can be done now."""
        from merlin_es import run_ids, wishes
        from merlin_es.redaction import redact

        wishes.check(command)
        command, hidden = redact(command, self.secrets())
        if command.idempotency_key is not None and not dry_run:
            command = run_ids.keyed(
                self.ledger.log, command, command.idempotency_key, self.settings.actor, self.settings.door
            )
        self._hide(command.run_id, hidden, dry_run=dry_run)
        return self._begin(command.run_id, lambda known: rules.request(command, known), dry_run=dry_run)

    def fork(self, command: ForkRun, *, dry_run: bool = False) -> RunRecord:
        """Do the same with a run that goes on from the past of another one."""
        from dataclasses import replace

        from merlin_es import wishes
        from merlin_es.redaction import redact

        wishes.check(command.wish)
        wish, hidden = redact(command.wish, self.secrets())
        command = replace(command, wish=wish)
        self._hide(wish.run_id, hidden, dry_run=dry_run)
        return self._begin(command.wish.run_id, lambda known: rules.fork(command, known), dry_run=dry_run)

    def _hide(self, run_id: str, hidden: Hidden, *, dry_run: bool) -> None:
        """Keep, before the run is recorded, what it needs and no log may have."""
        if hidden and not dry_run and not self.ledger.has_run(run_id):
            self.submissions.vault.put(run_id, hidden)
            reach("hide.after")

    def _begin(
        self, run_id: str, decide: Callable[[RunRecord | None], Sequence[RunEvent]], *, dry_run: bool
    ) -> RunRecord:
        reach("request.before")
        record = self.ledger.change_run(run_id, decide)
        reach("request.after")
        if dry_run:
            entrypoint = self.submissions.entrypoint(record, 1)
            return self.ledger.change_run(run_id, lambda known: rules.record_dry_run(entrypoint, known or record))
        return self.reconciler.look_at(run_id)

    def status(self, run_id: str, *, cached: bool = False) -> RunRecord:
        """Give a run, after one look at Ray when it has not ended, unless `cached`."""
        record = self.ledger.run(run_id)
        return record if cached or record.is_terminal else self.reconciler.look_at(run_id)

    def cancel(self, run_id: str) -> RunRecord:
        """Have a run end: it is recorded, kept from starting, and Ray is told; what comes of it is seen later."""
        record = self.ledger.change_run(run_id, lambda known: rules.cancel(_known(known, run_id)))
        if record.cancel_requested_at:
            self.witnesses.forbid(run_id)
        return self.reconciler.look_at(run_id)

    def retry(self, run_id: str) -> RunRecord:
        """Have a blocked or lost run submitted after all."""
        self.ledger.change_run(run_id, lambda known: rules.retry(_known(known, run_id)))
        return self.reconciler.look_at(run_id)

    def wait(self, run_id: str, *, limit_s: float | None = None) -> RunRecord:
        """Look at a run until it rests, or the limit (s) has passed; gives it as it is then."""
        stop = threading.Event()
        begun = self.host.monotonic()
        while True:
            record = self.status(run_id)
            if not record.is_active or (limit_s is not None and self.host.monotonic() - begun >= limit_s):
                return record
            stop.wait(WAIT_STEP_S)

    def reconcile_once(self, *, unblock: bool = False) -> Pass:
        """Look at everything that may have changed, once."""
        return self.reconciler.tick(unblock=unblock)

    def reconcile(
        self,
        stop: threading.Event,
        tell: Callable[[str], None],
        report: Callable[[Pass], None],
        *,
        unblock: bool = False,
    ) -> None:
        """Look again and again until `stop`."""
        from merlin_es.watch import watch

        active = self.ledger.index.active
        root = self.settings.state_root
        watch(self.reconciler, root, lambda: [run_id for run_id, _ in active()], stop, tell, report, unblock=unblock)

    def quiesce(self) -> None:
        """Before our cluster ends: have every run that it holds end, and wait a while for that."""
        held = [run_id for run_id, status in self.ledger.index.active() if status in ("submitted", "running")]
        for run_id in held:
            self.cancel(run_id)
        graces = [self.ledger.run(run_id).request.stop_grace_s for run_id in held]
        end = self.host.monotonic() + max(graces, default=0.0) + QUIESCE_S
        for run_id in held:
            self.wait(run_id, limit_s=max(0.0, end - self.host.monotonic()))

    def output(self, run_id: str, *, tail: int | None = None) -> Iterator[bytes]:
        """Yield what the driver of the last attempt has written so far."""
        return self._logs().read(self.ledger.run(run_id), tail=tail)

    def follow(self, run_id: str, *, tail: int | None = None) -> Iterator[bytes]:
        """Yield what the driver writes, until the run rests."""
        return self._logs().follow(run_id, self.status, tail=tail)

    def _logs(self) -> DriverLogs:
        from merlin_es.driver_logs import DriverLogs

        return DriverLogs(self.cluster, self.blobs)

    def artifacts(self, run_id: str) -> Sequence[Artifact]:
        """Give the artifacts of a run as they were indexed last."""
        self.ledger.run(run_id)
        return self.ledger.publisher.artifacts(run_id)

    def index_artifacts(self, run_id: str) -> Sequence[Artifact]:
        """Index the target directory again, as it is now."""
        record = self.ledger.run(run_id)
        pages = self.keeper.artifacts(record)
        self.ledger.change_run(run_id, lambda _known: pages)
        return self.artifacts(run_id)

    def fetch(self, run_id: str, name: str, to: Path | None, *, force: bool = False) -> Fetched:
        """Copy an artifact, verified; raises NotFound, Ambiguous and Refused."""
        from merlin_es.fetch import fetch, find

        record = self.ledger.run(run_id)
        entries = self.ledger.publisher.artifacts(run_id)
        if not entries and record.artifacts is None:
            raise NotFound(f"the artifacts of {run_id} were not indexed yet: `merlin ray artifacts index {run_id}`")
        entry = find(entries, name)
        return fetch(entry, Path(record.request.target_dir), to, self.blobs, force=force)


def _known(record: RunRecord | None, run_id: str) -> RunRecord:
    if record is None:
        raise NotFound(
            f"there is no run {run_id!r} in this state root: `merlin ray jobs list` shows those there are",
            names_a="run",
            name=run_id,
        )
    return record
