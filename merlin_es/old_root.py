"""How does what the tool that this one replaces has recorded get into the logs, once, and whole?

The bytes of every file that is taken in go into the blob store first, then one append says what they said, and only
then are files projected: so a state root that is upgraded in place keeps its originals, whoever dies when. A run that
has a log is left alone. So it can be repeated at will, and what was broken then is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import eventlog
from merlin_es.commands import ImportCluster, ImportLease, ImportRun
from merlin_es.deciders import imports as rules
from merlin_es.errors import NotFound, Refused, Usage
from merlin_es.failpoints import reach
from merlin_es.ledger import Ledger
from merlin_es.old_artifacts import pages
from merlin_es.old_files import (
    BOOTSTRAP_NAME,
    RUN_FILES,
    Artifact,
    Bootstrap,
    Broken,
    Lease,
    OldFiles,
    Record,
    Request,
    Unreadable,
    artifacts_of,
    asked_at,
    bootstrap_of,
    lease_of,
    moment,
    record_of,
    request_of,
    texts,
)
from merlin_es.ray_adapter.address import parse_address
from merlin_es.resources import Leases
from projections.cluster import NOT_STARTED
from projections.events.run import RunEvent
from projections.fresh import read_cluster, read_record
from projections.layout import ARTIFACTS, CLUSTER, RUN_RECORD, RUN_REQUEST, is_run_id, run_stream
from projections.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one run, of one lease, of the cluster, or of one file that is broken.

    `state` is `imported`, `known` (it has a log here) or `skipped`; `detail` the status it has now, or why it was
    skipped.
    """

    name: str
    state: Literal["imported", "known", "skipped"]
    detail: str = ""


@dataclass
class _Found:
    """What there is of one run: the bytes of each file, what they say, and why those that are broken say nothing."""

    content: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    request: Request | None = None
    record: Record | None = None
    artifacts: Sequence[Artifact] | None = None


@dataclass(frozen=True)
class OldRoot:
    """The import of an old state root into the state root of `ledger`, which may be the same."""

    ledger: Ledger
    blobs: eventlog.BlobStore
    state_root: Path
    leases: Leases

    def take_in(self, old_root: Path, *, dry_run: bool = False) -> Iterator[Item]:
        """Take in the cluster, every run and every lease, and tell what became of each; raises NotFound and Usage.

        With `dry_run` it only tells what would become of them.
        """
        if not old_root.is_dir():
            raise NotFound(f"there is no directory {old_root}: name the old state root, which has `runs` in it")
        with OldFiles(old_root.resolve()) as files:
            if not files.is_old_root():
                raise Usage(f"{old_root} has no `runs`, `cluster` or `resources` in it: name the old state root itself")
            yield from self._take_in_cluster(files, dry_run=dry_run)
            for name in files.run_names():
                yield from self._take_in_run(files, name, dry_run=dry_run)
            yield from self._take_in_leases(files, dry_run=dry_run)

    def _take_in_run(self, files: OldFiles, run_id: str, *, dry_run: bool) -> Iterator[Item]:
        directory = f"runs/{run_id}"
        if not is_run_id(run_id):
            yield Item(directory, "skipped", "its name cannot be the id of a run")
            return
        if self.ledger.has_run(run_id):
            yield self._known(directory, run_stream(run_id), is_fresh=dry_run or self._is_fresh(run_id))
            return
        if files.has_log(directory):
            yield Item(directory, "skipped", "it has a log, so it is no run of the old tool: copy its directory whole")
            return
        found = _Found()
        try:
            _read(files, run_id, found)
            command = _run_command(found, run_id, str(files.root))
        except Unreadable:
            pass  # It stays where it is, and so do the others: what cannot be kept must not be folded over.
        except Broken as broken:
            found.broken[""] = str(broken)
        else:
            yield self._record_run(command, found, dry_run=dry_run)
        for name, why in found.broken.items():
            yield Item(f"{directory}/{name}".rstrip("/"), "skipped", why)

    def _record_run(self, command: ImportRun, found: _Found, *, dry_run: bool) -> Item:
        directory = f"runs/{command.run_id}"
        if dry_run:
            return Item(directory, "imported", rules.status_of(command.old_status))
        index = () if found.artifacts is None else pages(command, found.artifacts)

        def decide(known: RunRecord | None) -> Sequence[RunEvent]:
            events = rules.import_run(command, known)
            return (*events, *index) if events else ()

        reach("import.before")
        self._keep(found.content)
        if command.output and found.record:
            self.blobs.put(_output(found.record))
        reach("import.kept")
        try:
            record = self.ledger.change_run(command.run_id, decide)
        except eventlog.Invalid as error:
            return Item(directory, "skipped", f"it cannot be recorded: {error}")
        return Item(directory, "imported", record.status)

    def _take_in_cluster(self, files: OldFiles, *, dry_run: bool) -> Iterator[Item]:
        try:
            content = files.read(BOOTSTRAP_NAME)
            if content is None:
                return
            if self.ledger.cluster() != NOT_STARTED:
                is_fresh = dry_run or read_cluster(self.state_root) is not None
                yield self._known("cluster", CLUSTER, is_fresh=is_fresh)
                return
            if files.has_log("cluster"):
                raise Broken("it has a log beside it, so it is of no old tool: copy its directory whole")
            command = _cluster_command(bootstrap_of(content), str(files.root), _digest(content))
        except Broken as broken:
            yield Item(BOOTSTRAP_NAME, "skipped", str(broken))
            return
        [event] = rules.import_cluster(command, NOT_STARTED)
        if not dry_run:
            self._keep({BOOTSTRAP_NAME: content})
            self.ledger.change_cluster(lambda known: rules.import_cluster(command, known))
        yield Item("cluster", "imported", event.status)

    def _take_in_leases(self, files: OldFiles, *, dry_run: bool) -> Iterator[Item]:
        """Take in the leases that have been released, then those that are held, each in the order of their times."""
        names = list(files.lease_names())
        if names and files.has_log("resources") and files.root != self.state_root.resolve():
            yield Item("resources", "skipped", "they have a log, so they are not of the old tool: copy their directory")
            return
        known = {lease.lease_id for lease in self.leases.all()} if names else set()
        commands: list[tuple[ImportLease, bytes]] = []
        for name in names:
            path = f"resources/leases/{name}.json"
            if name in known:
                yield Item(f"resources/leases/{name}", "known")
                continue
            try:
                if (content := files.read(path)) is not None:
                    command = _lease_command(lease_of(content, name), str(files.root), _digest(content))
                    commands.append((command, content))
            except Broken as broken:
                yield Item(path, "skipped", str(broken))
        for command, content in sorted(commands, key=_by_time):
            yield self._record_lease(command, content, dry_run=dry_run)

    def _record_lease(self, command: ImportLease, content: bytes, *, dry_run: bool) -> Item:
        name, status = f"resources/leases/{command.lease_id}", "active" if command.active else "released"
        if dry_run:
            return Item(name, "imported", status)
        self._keep({name: content})
        by, tick = self.leases.actor, self.leases.world.look().tick
        try:
            self.leases.take(lambda state: rules.import_lease(command, by, state, tick))
        except (Refused, eventlog.Invalid) as error:
            return Item(name, "skipped", str(error))
        return Item(name, "imported", status)

    def _known(self, name: str, stream: str, *, is_fresh: bool) -> Item:
        """Leave what has a log alone, but finish what an import that was killed had begun: its files."""
        try:
            if not is_fresh:
                self.ledger.publisher.publish(stream)
        except eventlog.EventLogError as error:
            return Item(name, "skipped", str(error))
        return Item(name, "known")

    def _is_fresh(self, run_id: str) -> bool:
        return read_record(self.state_root, run_id) is not None

    def _keep(self, content: Mapping[str, bytes]) -> None:
        for each in content.values():
            self.blobs.put(each)


def _read(files: OldFiles, run_id: str, found: _Found) -> None:
    """Read the files of one run; raises Broken where one is there that could not be kept."""
    for name in RUN_FILES:
        try:
            content = files.read(f"runs/{run_id}/{name}")
        except Unreadable as broken:
            found.broken[name] = str(broken)
            raise
        if content is None:
            continue
        found.content[name] = content
        try:
            if name == RUN_REQUEST:
                found.request = request_of(content, run_id)
            elif name == RUN_RECORD:
                found.record = record_of(content, run_id)
            elif name == ARTIFACTS:
                found.artifacts = artifacts_of(content)
        except Broken as broken:
            found.broken[name] = str(broken)


def _run_command(found: _Found, run_id: str, root: str) -> ImportRun:
    """Give what the record says, else what the request does; raises Broken where neither says enough."""
    record = found.record
    request = record or found.request
    if request is None:
        raise Broken("none of its files can be read" if found.broken else "there is nothing in it")
    if not Path(target_dir := str(Path(request.workdir, request.target_dir))).is_absolute():
        raise Broken("its target directory is relative, and nobody knows to what")
    created = asked_at(request)
    return ImportRun(
        run_id=run_id,
        target=request.target,
        workflow=request.workflow,
        source=request.source,
        command=request.command,
        workdir=request.workdir,
        target_dir=target_dir,
        metadata=texts(request.metadata),
        created_at=created,
        updated_at=(record and moment(record.updated_at)) or created,
        old_status=record.status if record else None,
        message=record.message if record else None,
        cluster_address=record.cluster_address if record else None,
        submission_id=record.submission_id if record else None,
        root=root,
        files={name: _digest(content) for name, content in found.content.items()},
        output=_digest_and_size(_output(record)) if record and _output(record) else None,
    )


def _by_time(each: tuple[ImportLease, bytes]) -> tuple[bool, str, str]:
    """Order leases so that none is held while another one of its key is taken in, the older of two before the other."""
    command, _ = each
    return command.active, command.created_at, command.lease_id


def _lease_command(lease: Lease, root: str, sha256: str) -> ImportLease:
    return ImportLease(
        lease_id=lease.lease_id,
        key=lease.resource_type,
        owner=lease.owner,
        active=lease.status == "active",
        metadata=texts(lease.metadata),
        created_at=moment(lease.created_at) or "",
        root=root,
        sha256=sha256,
    )


def _cluster_command(bootstrap: Bootstrap, root: str, sha256: str) -> ImportCluster:
    try:
        url = parse_address(bootstrap.dashboard_url) if bootstrap.dashboard_url else None
    except Usage:
        url = None
    return ImportCluster(
        old_status=bootstrap.status,
        address=bootstrap.address,
        dashboard_url=url,
        namespace=bootstrap.namespace,
        message=bootstrap.message,
        started_at=moment(bootstrap.started_at),
        root=root,
        files={BOOTSTRAP_NAME: sha256},
    )


def _output(record: Record) -> bytes:
    """Give the output of a job that failed while that tool waited for it: it became the message, all of it."""
    message = record.message or ""
    return message.encode() if record.status == "error" and "\n" in message.strip() else b""


def _digest_and_size(content: bytes) -> tuple[str, int]:
    return _digest(content), len(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
