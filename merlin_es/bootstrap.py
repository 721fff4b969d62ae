"""What is Merlin made of? The one clock, and the one place that picks adapters.

What only runs and clusters take is imported where it is wired: whoever asks for a lease does not wait for it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import eventlog
from merlin_es import processes
from merlin_es.asking import Asking
from merlin_es.bells import Bells
from merlin_es.errors import RayMissing
from merlin_es.ledger import Ledger
from merlin_es.observer import World
from merlin_es.ports import Host, JobServer
from merlin_es.resources import Leases
from merlin_es.settings import Settings
from merlin_es.turns import Turns
from projections.cluster import ClusterRecord
from projections.files import Publisher, stamps
from projections.index import Index
from projections.layout import StateLayout
from projections.lease_files import LeaseFiles

if TYPE_CHECKING:
    from merlin_es.app import Merlin
    from merlin_es.clusters import Clusters


def now() -> str:
    """Give the time as events have it: ISO 8601, UTC, fixed width."""
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def host() -> Host:
    """Give the clocks of this host."""
    return Host(now, time.monotonic, processes.boot_id(), lambda: time.clock_gettime(time.CLOCK_BOOTTIME))


def ledger(settings: Settings) -> Ledger:
    """Open the logs of a state root; nothing is made before something is appended."""
    root = settings.state_root

    def wake() -> None:
        from merlin_es.watch import ring

        ring(root)

    disk = eventlog.Disk() if settings.sync else eventlog.UnsyncedDisk()
    log = eventlog.FileLog(StateLayout(root), disk=disk, acknowledged=stamps(root))
    index = Index(root, sync=settings.sync)
    return Ledger(log, Publisher(log, root, index, disk), index, settings.actor, settings.door, wake)


def build(settings: Settings) -> Merlin:
    """Wire Merlin over a state root."""
    from merlin_es import run_ids
    from merlin_es.app import Merlin
    from merlin_es.cluster_link import ClusterLink
    from merlin_es.driver_logs import DriverLogs
    from merlin_es.keeper import Keeper
    from merlin_es.ray_adapter.heads import LocalHeads
    from merlin_es.reconciler import Reconciler
    from merlin_es.run_leases import RunLeases
    from merlin_es.submission import Submissions
    from merlin_es.witness import WitnessFiles

    books, here = ledger(settings), host()
    blobs = eventlog.BlobStore(settings.state_root / "blobs", disk=eventlog.Disk() if settings.sync else None)
    cluster = ClusterLink(books, _server_of, LocalHeads())
    witnesses = WitnessFiles(settings.state_root / "runs")
    submissions = Submissions(settings.state_root, blobs, lambda: run_ids.ledger_id(books.log))
    keeper = Keeper(settings.state_root, blobs)
    run_leases = RunLeases(books, leases_of(books, settings, here))
    reconciler = Reconciler(books, cluster, witnesses, submissions, keeper, here, run_leases)
    return Merlin(
        settings=settings,
        ledger=books,
        cluster=cluster,
        reconciler=reconciler,
        submissions=submissions,
        keeper=keeper,
        witnesses=witnesses,
        logs=DriverLogs(cluster, blobs),
        blobs=blobs,
        host=here,
    )


def leases(settings: Settings) -> Leases:
    """Wire the verbs on resources."""
    return leases_of(ledger(settings), settings, host())


def leases_of(books: Ledger, settings: Settings, here: Host) -> Leases:
    """Wire the verbs on resources over a ledger that is open already."""
    root, disk = settings.state_root, books.publisher.disk
    turns = Turns(books.log, root, disk, settings.actor, settings.door)
    files, world = LeaseFiles(books.log, root, disk, here.boot_id), World(root, here, processes.is_alive, books.status)
    return Leases(root, books.log, turns, files, world, disk, Bells(root, disk), Asking(root))


def clusters(settings: Settings) -> Clusters:
    """Wire the verbs on clusters."""
    from merlin_es.clusters import Clusters
    from merlin_es.ray_adapter.heads import LocalHeads

    return Clusters(ledger(settings), LocalHeads(), connect, settings.state_root, ray_is_here)


def connect(address: str, token_path: Path | None) -> JobServer:
    """Give the job server at an address; nobody is asked before the first call."""
    from merlin_es.ray_adapter.address import token_file
    from merlin_es.ray_adapter.jobs import RayJobServer

    return RayJobServer(address, token_file(token_path) if token_path else None)


def ray_is_here() -> bool:
    """Tell whether this host has a `ray` to start a head with."""
    from merlin_es.ray_adapter.heads import find_ray

    try:
        find_ray()
    except RayMissing:
        return False
    return True


def _server_of(record: ClusterRecord) -> JobServer:
    assert record.dashboard_url  # noqa: S101  whoever connects has seen that it is active
    return connect(record.dashboard_url, Path(record.token_path) if record.token_path else None)
