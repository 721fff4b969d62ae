"""How is a cluster started, found, looked at and ended?"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from merlin_es.cluster_link import process_of, require_ours
from merlin_es.commands import StartLocal
from merlin_es.deciders import cluster as rules
from merlin_es.errors import (
    ClusterError,
    HeadFailed,
    MerlinError,
    RayMissing,
    Refused,
    Unauthorized,
    Unreachable,
    Usage,
)
from merlin_es.failpoints import reach
from merlin_es.ledger import Ledger
from merlin_es.ports import Heads, JobServer, Wanted
from projections.cluster import OURS, ClusterRecord

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")
DRY = "Nothing was done and nothing recorded"

Status = Literal["unavailable", "not_started", "active", "stopped", "error", "dry_run"]


@dataclass(frozen=True)
class ClusterView:
    """The cluster as it was just seen, beside what the record says."""

    record: ClusterRecord
    status: Status
    message: str | None = None


class Clusters:
    """The verbs of `merlin ray cluster`."""

    def __init__(
        self,
        ledger: Ledger,
        heads: Heads,
        connect: Callable[[str, Path | None], JobServer],
        state_root: Path,
        ray_is_here: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._heads = heads
        self._connect = connect
        self._directory = state_root / "cluster"
        self._ray_is_here = ray_is_here

    def status(self) -> ClusterView:
        """Look at the process, the job server and the session, and say how that fits with the record."""
        record = self._ledger.cluster()
        if record.status != "active":
            return self._at_rest(record)
        process = process_of(record)
        alive = process is None or self._heads.is_alive(process)
        try:
            session = self._server_of(record).session()
            require_ours(record, session, alive=alive)
        except (Unreachable, Unauthorized) as error:
            kind = error.kind if isinstance(error, Unreachable) else "unauthorized"
            message = str(error) if alive else self._gone(record)
            seen = record.pid
            record = self._ledger.change_cluster(
                lambda known: rules.unanswered(kind, message, known) if known.pid == seen else ()
            )
            return ClusterView(record, "error", message)
        was = record.session_name
        record = self._ledger.change_cluster(lambda known: rules.answered(session, known))
        if was != session.session_name:
            message = (
                f"it is in another session ({session.session_name}) than the record said ({was}): unless its state is "
                "durable it has forgotten every job from before; `merlin ray reconcile --once` says what became of them"
            )
            return ClusterView(record, "active", message)
        return ClusterView(record, "active", record.message)

    def start_local(self, command: StartLocal) -> ClusterView:
        """Start a head here, unless ours is up: twice is once."""
        _require_host(command.host)
        with self._only_one():
            view = self.status()
            if view.record.status == "active" and view.record.is_external:
                raise Refused(
                    f"runs go to {view.record.dashboard_url}, which others run: "
                    "`merlin ray cluster stop` lets go of it first"
                )
            if view.status == "active":
                return view
            self._require_dead(view)
            self._clean_up(view.record)
            directory = self._directory / "head"
            self._ledger.change_cluster(lambda _known: rules.request_start(command, str(directory)))
            reach("head.before")
            wanted = Wanted(command.host, command.port, command.dashboard_port, directory, command.durable)
            try:
                head = self._heads.start(wanted)
            except (RayMissing, HeadFailed) as error:
                reason, message = "ray_missing" if isinstance(error, RayMissing) else "head_failed", str(error)
                self._ledger.change_cluster(lambda _known: rules.start_failed(reason, message))
                raise
            reach("head.after")
            try:
                record = self._ledger.change_cluster(lambda _known: rules.started(head))
            except BaseException:
                self._heads.stop(head.process, head.temp_dir)  # Nobody would know of it.
                raise
            return ClusterView(record, "active")

    def would_start(self, command: StartLocal) -> ClusterView:
        """Say what `start_local` would do, and do nothing."""
        _require_host(command.host)
        view = self._recorded()
        if view.status == "active":
            return ClusterView(view.record, "dry_run", f"{DRY}. {view.record.dashboard_url} is in use.")
        port, dashboard = command.port or 6379, command.dashboard_port or 8265
        record = replace(
            view.record,
            status="dry_run",
            address=f"{command.host}:{port}",
            dashboard_url=f"http://{command.host}:{dashboard}",
            namespace=command.namespace,
            managed_by=OURS,
        )
        return ClusterView(record, "dry_run", f"{DRY}: leave out --dry-run to start a head here.")

    def attach(self, address: str, namespace: str, token_path: Path | None) -> ClusterView:
        """Have runs go to a cluster that others run."""
        server = self._connect(address, token_path)
        with self._only_one():
            session = server.session()
            token = str(token_path) if token_path else None
            record = self._ledger.change_cluster(
                lambda known: rules.attach(server.address, session, namespace, token, known)
            )
            return ClusterView(record, "active")

    def would_attach(self, address: str, namespace: str, token_path: Path | None) -> ClusterView:
        """Say what `attach` would do, and do nothing."""
        url = self._connect(address, token_path).address
        record = replace(self._ledger.cluster(), status="dry_run", dashboard_url=url, address=url, namespace=namespace)
        return ClusterView(record, "dry_run", f"{DRY}: leave out --dry-run to have runs go there.")

    def stop(self, quiesce: Callable[[], None]) -> ClusterView:
        """End our head and everything it started, or let go of the cluster of others; `quiesce` ends its runs first."""
        with self._only_one():
            record = self._ledger.cluster()
            if record.status not in ("active", "error"):
                self._heads.clean(self._directory / "head")  # One whose start was killed before it was recorded.
                return self._at_rest(record)
            if record.is_external:
                record = self._ledger.change_cluster(lambda known: rules.stopped("detached", known))
                return ClusterView(record, "stopped", "runs no longer go to it; it was left alone")
            record = self._ledger.change_cluster(rules.request_stop)
            quiesce()
            process = process_of(record)
            reach("head_stop.before")
            how = self._heads.stop(process, Path(record.temp_dir)) if process and record.temp_dir else "gone"
            reach("head_stop.after")
            record = self._ledger.change_cluster(lambda known: rules.stopped(how, known))
            return ClusterView(record, "stopped")

    def would_stop(self) -> ClusterView:
        """Say what `stop` would do, and do nothing."""
        view = self._recorded()
        if view.status not in ("active", "error"):
            return view
        what = "let go of it" if view.record.is_external else f"end process {view.record.pid} and its runs"
        return ClusterView(view.record, "dry_run", f"{DRY}: leave out --dry-run to {what}.")

    def _recorded(self) -> ClusterView:
        record = self._ledger.cluster()
        return (
            ClusterView(record, record.status, record.message) if record.status == "active" else self._at_rest(record)
        )

    def _require_dead(self, view: ClusterView) -> None:
        """A head that lives and gives no answer may only be slow, and its runs go on: somebody has to say `stop`."""
        process = process_of(view.record)
        if view.status == "error" and view.record.status == "active" and process and self._heads.is_alive(process):
            raise Refused(
                f"the head that was started here (process {process.pid}) runs, but gives no answer ({view.message}): "
                "try again soon, or end it and its runs with `merlin ray cluster stop`"
            )

    def _at_rest(self, record: ClusterRecord) -> ClusterView:
        if not self._ray_is_here() and record.status != "stopped":
            message = 'there is no `ray` on this host: `pip install "ray[default]"`, or attach another cluster'
            return ClusterView(record, "unavailable", message)
        status: Status = "not_started" if record.status == "unavailable" else record.status
        start = "`merlin ray cluster start-local` starts one"
        return ClusterView(record, status, record.message or (start if status in ("not_started", "stopped") else None))

    def _clean_up(self, record: ClusterRecord) -> None:
        """End what is left of the head before: a killed one leaves processes, a half started one is not recorded."""
        process = process_of(record)
        if process and record.temp_dir and record.status in ("active", "error"):
            self._heads.stop(process, Path(record.temp_dir))
            self._ledger.change_cluster(lambda known: rules.stopped("gone", known))
        self._heads.clean(self._directory / "head")

    def _gone(self, record: ClusterRecord) -> str:
        return (
            f"it is recorded as active, but its head (process {record.pid}) is gone, killed or ended by a restart of "
            "this host: `merlin ray cluster start-local` starts it again, then `merlin ray reconcile --once`"
        )

    def _server_of(self, record: ClusterRecord) -> JobServer:
        if not record.dashboard_url:
            raise ClusterError("the record of the cluster has no address: `merlin ray cluster stop`, then start it")
        return self._connect(record.dashboard_url, Path(record.token_path) if record.token_path else None)

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Let one process at a time start or stop; the lock's file stays."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "start.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise MerlinError(f"{lock.name} cannot be locked ({error.strerror}): use another state root") from error
            yield


def _require_host(host: str) -> None:
    if not _HOST.fullmatch(host):
        raise Usage(f"{host[:100]!r} cannot be a host: give --host a name or an IPv4 address of this one")
