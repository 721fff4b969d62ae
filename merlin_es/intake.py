"""How is a run of another state root taken in, so that nothing unproved gets in and nothing is written over?

The log is put in its place last, by giving it its name: who dies before that has taken in nothing, and doing it again
finishes it. What was folded elsewhere is compared and not believed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

import eventlog
from eventlog import Head
from eventlog.disk import Disk, make_directories, write_all
from eventlog.frame import origin
from eventlog.present import has_log
from merlin_es import bundle
from merlin_es.bundle import BadBundle, Manifest, Member
from merlin_es.errors import Refused
from merlin_es.failpoints import reach
from merlin_es.ledger import Ledger
from projections.events.recorded import UnknownEvent
from projections.layout import StateLayout, is_run_id, run_stream
from projections.projection import RUN_PROJECTION, Files
from projections.run_record import RunRecord

_NAME: Final = re.compile(r"[a-z_]{1,64}\.json")
_INCOMING: Final = "incoming"
_SPARE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A run that is here now; `was_here` already, `other_files` were folded to something else where it comes from."""

    record: RunRecord
    head: Head
    blobs: int
    was_here: bool
    other_files: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Intake:
    """Takes runs into one state root."""

    ledger: Ledger
    root: Path
    blobs: eventlog.BlobStore
    disk: Disk

    def take_in(self, source: BinaryIO) -> TakenIn:
        """Take in a bundle; raises BadBundle for what is not one, and Refused for a run that must not come in."""
        members = bundle.read(source)
        manifest = self._manifest(members)
        stream = run_stream(manifest.run_id)
        with self._staged() as (staged, fd):
            due = manifest.members()
            for chunk in _checked(next(members, None), *next(due)):
                write_all(self.disk, fd, chunk)
            self.disk.sync(fd)
            reach("import.staged")
            record, files, head = self._proved(manifest, stream, staged)
            self._require_place(stream, staged)
            others = []
            for name, size, digest in due:
                content = _checked(next(members, None), name, size, digest)
                if name.startswith(bundle.BLOBS):
                    self.blobs.put(_Reader(content))  # type: ignore[arg-type]  # it only reads
                elif bundle.digest_of(content) != _digest(files.get(name.removeprefix(bundle.FILES))):
                    others.append(name.removeprefix(bundle.FILES))
            if next(members, None):
                raise BadBundle("it holds more than its manifest says: nothing was taken in")
            reach("import.blobs")
            was_here = self._place(stream, staged)
        reach("import.placed")
        self.ledger.publisher.publish(stream)
        self.ledger.registry.note(record.run_id, head, record.status)
        self.ledger.ring()
        return TakenIn(record, head, len(manifest.blobs), was_here, tuple(others), manifest.missing_blobs)

    def _manifest(self, members: Iterator[Member]) -> Manifest:
        first = next(members, None)
        if first is None or first.name != bundle.MANIFEST or first.size > bundle.MANIFEST_BYTES_MAX:
            raise BadBundle("it does not begin with a manifest: give a tar that `merlin ray export` has written")
        try:
            manifest = msgspec.json.decode(b"".join(first.chunks()), type=Manifest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadBundle(f"its manifest cannot be read ({error})") from None
        if manifest.format != bundle.FORMAT:
            raise BadBundle(
                f"it is a {manifest.format[:40]!r}, and this release takes in {bundle.FORMAT}: upgrade Merlin"
            )
        if not is_run_id(manifest.run_id):
            raise BadBundle(f"{manifest.run_id[:140]!r} cannot be the id of a run: nothing was taken in")
        if bad := [name for name in manifest.files if not _NAME.fullmatch(name)]:
            raise BadBundle(f"{bad[0][:140]!r} cannot be a file of a run: nothing was taken in")
        if bad := [digest for digest in manifest.blobs if not bundle.is_digest(digest)]:
            raise BadBundle(f"{bad[0][:140]!r} cannot be a blob: nothing was taken in")
        sizes = [size for _, size, _ in manifest.members()]
        if any(not 0 <= size <= bundle.MEMBER_BYTES_MAX for size in sizes):
            raise BadBundle("its manifest names a size that cannot be: nothing was taken in")
        self._require_room(sum(sizes))
        return manifest

    def _require_room(self, size: int) -> None:
        there = self.root
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        if size + _SPARE_BYTES > free:
            raise Refused(f"it takes {size} bytes and {there} has {free} left: make room, then repeat the call")

    @contextmanager
    def _staged(self) -> Iterator[tuple[Path, int]]:
        """Give a new file, locked while it is used, and remove those of imports that died."""
        incoming = self.root / _INCOMING
        make_directories(self.disk, incoming)
        for left in incoming.glob("*.jsonl"):
            with suppress(OSError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        staged = incoming / f"{secrets.token_hex(16)}.jsonl"
        fd = self.disk.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield staged, fd
        finally:
            with suppress(OSError):
                staged.unlink()
            self.disk.close(fd)

    def _proved(self, manifest: Manifest, stream: str, staged: Path) -> tuple[RunRecord, Files, Head]:
        """Prove the chain of a log and fold it; only what has ended comes in."""
        verdict = eventlog.verify(staged, stream)
        if verdict.state != "whole" or str(verdict.head) != manifest.head:
            why = verdict.why or f"its head is {verdict.head}, and the manifest says {manifest.head[:70]}"
            raise BadBundle(f"its log is not what was written ({why}): nothing was taken in")
        try:
            named = bundle.Named()
            events = eventlog.FileLog(eventlog.OneFile(staged)).read(stream)
            state, head = RUN_PROJECTION.fold(map(named.take, events), RUN_PROJECTION.origin, verdict.head)
        except UnknownEvent as error:
            raise Refused(f"{error}, and nothing was taken in") from None
        if not named.digests.keys() >= manifest.blobs.keys():
            raise BadBundle("it holds blobs that its log does not name: nothing was taken in")
        record = state.record
        if record is None or record.run_id != manifest.run_id:
            raise BadBundle(f"its log does not begin run {manifest.run_id}: nothing was taken in")
        if not record.is_terminal:
            raise Refused(
                f"{record.run_id} was {record.status} when it was exported, and would go on here too: export it again "
                "when it has ended"
            )
        paths = RUN_PROJECTION.files(stream, state, head)
        return record, {path.rpartition("/")[2]: content for path, content in paths.items()}, head

    def _require_place(self, stream: str, staged: Path) -> bool:
        """Tell whether the same log is here already; refuse when another one is."""
        path = self.ledger.log.path(stream)
        if not has_log(path):
            return False
        with self.ledger.log.snapshot(stream) as (_, size, head):
            if (size, head) == (staged.stat().st_size, eventlog.verify(staged, stream).head):
                return True
        raise Refused(
            f"{stream} is here already with another log (head {head}), which stays as it is: import the bundle into "
            "another state root, and compare"
        )

    def _place(self, stream: str, staged: Path) -> bool:
        """Give the staged log its name, unless something has that; tell whether it was there."""
        path = StateLayout(self.root).path(stream)
        if self._require_place(stream, staged):
            return True
        with self.ledger.publisher.appending(stream, origin(stream).head):
            make_directories(self.disk, path.parent)
            with suppress(FileNotFoundError):
                if not path.stat().st_size:
                    path.unlink()  # The first append to it was interrupted.
            reach("import.before")
            try:
                os.link(staged, path)  # Which replaces nothing, whoever comes at the same moment.
            except FileExistsError:
                return self._require_place(stream, staged)
            reach("import.linked")
            self.disk.sync_directory(path.parent)
        return False


class _Reader:
    """Reads chunks as a file is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int) -> bytes:
        """Give the next bytes; none at the end."""
        return next(self._chunks, b"")


def _checked(member: Member | None, name: str, size: int, digest: str) -> Iterator[bytes]:
    """Yield the content of the file that is due; raises BadBundle when it is another one, or has another content."""
    if member is None or (member.name, member.size) != (name, size):
        raise BadBundle(f"{name} of {size} bytes is due in it where something else stands: nothing was taken in")
    found = sha256()
    for chunk in member.chunks():
        found.update(chunk)
        yield chunk
    if found.hexdigest() != digest:
        raise BadBundle(f"{name} in it is not what its manifest says: copy it again from where it was exported")


def _digest(content: bytes | None) -> str:
    return "" if content is None else sha256(content).hexdigest()
