"""What is Merlin made of? The one clock, and the one place that picks adapters.

What is wired is imported where it is: whoever asks for a lease does not wait for what runs and clusters take, and
whoever looks at events for neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import eventlog
from merlin_es.errors import LeaseLost, NotFound, RayMissing
from projections.fresh import stamps
from projections.layout import LOG_NAME, StateLayout, execution_id_of, is_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merlin_es.app import Merlin
    from merlin_es.chronicles import Chronicle
    from merlin_es.clusters import Clusters
    from merlin_es.custody import Custody
    from merlin_es.doctor.examination import Doctor
    from merlin_es.exports import Exports
    from merlin_es.forks import Forks
    from merlin_es.hosts import Host
    from merlin_es.intake import Intake
    from merlin_es.ledger import Ledger
    from merlin_es.old_root import OldRoot
    from merlin_es.past import Past
    from merlin_es.ports import JobServer
    from merlin_es.redaction import Rules
    from merlin_es.resources import Leases
    from merlin_es.settings import Settings
    from merlin_es.targetgen.executor import Executor, Limits
    from merlin_es.targetgen.target_dir import TargetDirectory
    from projections.cluster import ClusterRecord


def now() -> str:
    """Give the time as events have it: ISO 8601, UTC, fixed width."""
    from eventlog.stage import as_text

    return as_text(time.time_ns())


def host() -> Host:
    """Give the clocks of this host."""
    from merlin_es import processes
    from merlin_es.hosts import Host

    return Host(now, time.monotonic, processes.boot_id(), lambda: time.clock_gettime(time.CLOCK_BOOTTIME))


def ledger(settings: Settings) -> Ledger:
    """Open the logs of a state root; nothing is made before something is appended."""
    from merlin_es.ledger import Ledger
    from projections.files import Publisher
    from projections.index import Index

    root = settings.state_root

    def wake() -> None:
        from merlin_es.watch import ring

        ring(root)

    log, disk = _log(settings)
    index = Index(root, sync=settings.sync)
    return Ledger(log, Publisher(log, root, index, disk), index, settings.actor, settings.door, wake)


def build(settings: Settings) -> Merlin:
    """Wire Merlin over a state root."""
    from merlin_es import processes, run_ids
    from merlin_es.app import Merlin
    from merlin_es.cluster_link import ClusterLink
    from merlin_es.keeper import Keeper
    from merlin_es.reconciler import Reconciler
    from merlin_es.run_leases import RunLeases
    from merlin_es.submission import Submissions
    from merlin_es.witness import WitnessFiles

    books, here = ledger(settings), host()
    blobs = _blobs(settings)
    cluster = ClusterLink(books, _server_of, processes.is_alive)
    witnesses = WitnessFiles(settings.state_root / "runs")
    submissions = Submissions(settings.state_root, blobs, lambda: run_ids.ledger_id(books.log))
    secrets = cache(partial(secret_rules, settings))
    keeper = Keeper(settings.state_root, blobs, secrets)
    run_leases = RunLeases(books, partial(leases_of, books, settings, here))
    reconciler = Reconciler(books, cluster, witnesses, submissions, keeper, here, run_leases)
    return Merlin(
        settings=settings,
        ledger=books,
        cluster=cluster,
        reconciler=reconciler,
        submissions=submissions,
        keeper=keeper,
        witnesses=witnesses,
        blobs=blobs,
        host=here,
        secrets=secrets,
    )


def secret_rules(settings: Settings) -> Rules:
    """Give the rules on what is a secret: by the settings, and by what this process has in its environment."""
    from merlin_es.redaction import Rules
    from merlin_es.settings import redact

    return Rules(redact(settings)).knowing(settings.variables)


def target_directory(settings: Settings, path: Path) -> TargetDirectory:
    """Open the directory of one execution; nothing is made before something is recorded."""
    from merlin_es.targetgen.target_dir import TargetDirectory, Who

    disk = eventlog.Disk() if settings.sync else eventlog.UnsyncedDisk()
    return TargetDirectory(path, Who(settings.actor, settings.door, settings.run_id), disk)


def executor(
    settings: Settings,
    place: TargetDirectory,
    variables: Mapping[str, str],
    *,
    limits: Limits,
    agent_command: str | None = None,
    launcher: str | None = None,
) -> Executor:
    """Wire the executor of a target directory, with the environment of this process as `variables`."""
    from merlin_es.targetgen.agents import CommandAgent
    from merlin_es.targetgen.executor import Executor
    from merlin_es.targetgen.executor import World as Adapters
    from merlin_es.targetgen.responses import ResponseFiles
    from merlin_es.targetgen.surroundings import Surroundings
    from merlin_es.targetgen.validation import ShellValidation
    from merlin_es.targetgen.worktrees import GitWorktrees

    here = Surroundings(variables, partial(_is_held, settings))
    secrets = secret_rules(settings).knowing(variables)
    world = Adapters(
        responses=ResponseFiles(),
        worktrees=GitWorktrees(place.blobs),
        validation=ShellValidation(place.blobs, variables, launcher, rules=secrets),
        credentials=here,
        leases=here,
        agent=CommandAgent(agent_command, place.blobs, variables, settings.workspace, secrets)
        if agent_command
        else None,
        secrets=secrets,
    )
    return Executor(place, world, settings.workspace, limits)


def _is_held(settings: Settings, lease_id: str, fence: int) -> bool:
    try:
        leases(settings).check(lease_id, fence)
    except (LeaseLost, NotFound):
        return False
    return True


def old_root(settings: Settings) -> OldRoot:
    """Wire the import of what the tool before this one has recorded."""
    from merlin_es.old_root import OldRoot

    books = ledger(settings)
    return OldRoot(books, _blobs(settings), settings.state_root, leases_of(books, settings, host()))


def doctor(settings: Settings) -> Doctor:
    """Wire the look at everything."""
    from merlin_es.doctor.examination import Doctor
    from merlin_es.ray_adapter.head_files import temp_dir_for
    from merlin_es.ray_adapter.heads import LocalHeads, find_ray, head_processes

    head, books = settings.state_root / "cluster" / "head", ledger(settings)
    return Doctor(
        ledger=books,
        leases=leases_of(books, settings, host()),
        root=settings.state_root,
        heads=LocalHeads(),
        connect=connect,
        find_ray=find_ray,
        left=lambda: len(head_processes(temp_dir_for(head))) if head.is_dir() else 0,
        now=now,
    )


def leases(settings: Settings) -> Leases:
    """Wire the verbs on resources; the ledger of runs is only opened when somebody holds a lease for one."""
    return _leases(*_log(settings), lambda run_id: ledger(settings).status(run_id), settings, host())


def leases_of(books: Ledger, settings: Settings, here: Host) -> Leases:
    """Wire the verbs on resources over a ledger that is open already."""
    return _leases(books.log, books.publisher.disk, books.status, settings, here)


def _leases(
    log: eventlog.FileLog,
    disk: eventlog.Disk,
    status: Callable[[str], tuple[str, int] | None],
    settings: Settings,
    here: Host,
) -> Leases:
    from merlin_es import processes
    from merlin_es.asking import Asking
    from merlin_es.bells import Bells
    from merlin_es.claims import Claims
    from merlin_es.clerk import Clerk
    from merlin_es.desk import Desk
    from merlin_es.lock_probe import require_locks_once
    from merlin_es.observer import World
    from merlin_es.resources import Leases
    from merlin_es.turns import Turns
    from projections.lease_files import LeaseFiles

    root = settings.state_root
    files, world = LeaseFiles(log, root, disk, here.boot_id), World(root, here, processes.is_alive, status)
    desk = Desk(world, Bells(root, disk), Asking(root))
    turns = Turns(log, root, disk, settings.actor, settings.door, desk)
    clerk = Clerk(root, turns, files, world, disk, partial(require_locks_once, boot_id=here.boot_id))
    return Leases(root, log, desk, clerk, Claims(log, desk, clerk))


def clusters(settings: Settings) -> Clusters:
    """Wire the verbs on clusters."""
    from merlin_es.clusters import Clusters
    from merlin_es.ray_adapter.heads import LocalHeads

    return Clusters(ledger(settings), LocalHeads(), connect, settings.state_root, ray_is_here)


def custody(settings: Settings) -> Custody:
    """Wire the verbs that keep and prove the logs."""
    from merlin_es.custody import Custody

    return Custody(ledger(settings), settings.state_root)


def exports(settings: Settings) -> Exports:
    """Wire what hands runs out."""
    from merlin_es.exports import Exports

    return Exports(ledger(settings).log, _blobs(settings))


def intake(settings: Settings) -> Intake:
    """Wire what takes runs in."""
    from merlin_es.intake import Intake

    disk = eventlog.Disk() if settings.sync else eventlog.UnsyncedDisk()
    return Intake(ledger(settings), settings.state_root, _blobs(settings), disk)


def past(settings: Settings) -> Past:
    """Open the past of a state root; nothing is ever appended to it."""
    from merlin_es.past import Past
    from projections.snapshots import Snapshots

    log, _ = _log(settings)
    return Past(log, settings.state_root, lambda: datetime.now(UTC), Snapshots(log, settings.state_root))


def chronicle(settings: Settings) -> Chronicle:
    """Open what was recorded in a state root, to be looked at."""
    from merlin_es.chronicles import Chronicle

    return Chronicle(_log(settings)[0], settings.state_root, lambda: datetime.now(UTC))


def chronicle_of(settings: Settings, name: str) -> tuple[Chronicle, str]:
    """Open what was recorded where something is, and give its name there, as `past_of` does."""
    known = chronicle(settings)
    return (known, name) if _elsewhere(settings, known, name) is None else past_of(settings, name)


def past_of(settings: Settings, name: str) -> tuple[Past, str]:
    """Open the past that something is in, and give its name there: a run, a stream, or a file or directory.

    What lies in the directory of an execution is looked up there.
    """
    from merlin_es.past import Past
    from projections.execution_files import execution_folds
    from projections.snapshots import Snapshots

    known = past(settings)
    directory = _elsewhere(settings, known, name)
    if directory is None:
        return known, name
    there = target_directory(settings, directory)
    stream = there.stream
    if stream is None or execution_id_of(stream) is None:
        return known, name
    folds = execution_folds(there.bundle_document)
    snapshots = Snapshots(there.log, settings.state_root, projections=folds.projection_of)
    place = Path(settings.workspace, name)
    own = Past(there.log, directory, lambda: datetime.now(UTC), snapshots, folds)
    return own, stream if place == directory else str(place)


def _elsewhere(settings: Settings, known: Chronicle, name: str) -> Path | None:
    """Give the directory with a log, outside of the state root, that a path lies in; None of a run or no path."""
    place = Path(settings.workspace, name)
    found = next((each for each in (place, *place.parents) if os.path.isfile(each / LOG_NAME)), None)  # noqa: PTH113  that of Path raises for what cannot be a name
    if found is None or found.is_relative_to(settings.state_root) or (is_run_id(name) and known.knows(name)):
        return None
    return found


def forks(settings: Settings) -> Forks:
    """Wire what makes runs from the past of others."""
    from merlin_es.forks import Forks

    return Forks(build(settings), past(settings), lambda path: target_directory(settings, path))


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


def _log(settings: Settings) -> tuple[eventlog.FileLog, eventlog.Disk]:
    root = settings.state_root
    disk = eventlog.Disk() if settings.sync else eventlog.UnsyncedDisk()
    return eventlog.FileLog(StateLayout(root), disk=disk, acknowledged=stamps(root)), disk


def _blobs(settings: Settings) -> eventlog.BlobStore:
    disk = eventlog.Disk() if settings.sync else None
    return eventlog.BlobStore(settings.state_root / "blobs", disk=disk)


def _server_of(record: ClusterRecord) -> JobServer:
    assert record.dashboard_url  # noqa: S101  whoever connects has seen that it is active
    return connect(record.dashboard_url, Path(record.token_path) if record.token_path else None)
