"""How do leases and their keys get onto the disk, one small file each, however many there have been?

`catalog.json` says up to where the files are written: whoever publishes folds what came after it, writes the files of
the leases that this was about, and then the catalog. No file is synced. So the first one who publishes after a boot
compares every file with the log, and writes again what a power cut has taken.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from eventlog import Disk, EventLog, Head, quiet
from eventlog.disk import make_directories, write_all
from eventlog.frame import origin
from eventlog.lock import lock
from projections.fresh import LEASE_FOLD, Stamp, read_document, stamp_of
from projections.layout import RESOURCES, StateLayout, catalog_path, lease_name, leases_path, resources_path
from projections.lease_projection import CATALOG_NAME, LEASE_PROJECTION, lease_file
from projections.lease_state import NOTHING, Lease, Resources

if TYPE_CHECKING:
    from projections.verdict import Verdict

LOCK_LIMIT_S: Final = 30.0


class LeaseFiles:
    """The files of the resources of one state root; any number of processes may publish. `boot` names this boot."""

    def __init__(self, log: EventLog, root: Path, disk: Disk, boot: str = "") -> None:
        self._log = log
        self._root = root
        self._disk = disk
        self._boot = boot
        self._catalog = str(catalog_path(root))

    def publish(self, head: Head) -> bool:
        """Write what has changed up to `head`, which is durable; False when somebody else is at it."""
        with self._alone(wait=False) as alone:
            if not alone:
                return False
            published = self._published()
            if published is None or not self._is_of_this_boot():
                self._write_all(head)
            elif published[1].seq < head.seq:
                self._write_new(*published, head)
            return True

    def are_at(self, head: Head) -> bool:
        """Tell whether the files say all up to `head`."""
        stamp = self._stamp()
        return stamp is not None and stamp.head == head

    def are_new(self, age_s: float) -> bool:
        """Tell whether they were written within so many seconds; False where a clock was set back."""
        with suppress(OSError):
            return 0 <= time.time() - os.stat(self._catalog).st_mtime < age_s
        return False

    def publish_turn(
        self, before: Head, state: Resources, head: Head, touched: Mapping[str, tuple[Lease, Head]]
    ) -> bool:
        """Write what one decision has changed, if the files say all up to it; False otherwise, without a fold."""
        if not self.are_at(before):
            return False
        with self._alone(wait=False) as alone:
            if not alone or not self.are_at(before) or not self._is_of_this_boot():
                return False
            for lease_id, (lease, at) in touched.items():
                self._write(lease_name(lease_id), lease_file(lease, at))
            self._write(CATALOG_NAME, LEASE_PROJECTION.files(RESOURCES, state, head)[CATALOG_NAME])
            return True

    def publish_all(self) -> None:
        """Compare every file with the log, and write those that differ.

        Who appends meanwhile does not wait for this, and leaves its files to us.
        """
        head = None
        with self._alone(wait=True):  # From before the head is read: else somebody else may publish more meanwhile.
            if head := self._durable_head():
                self._write_all(head)
        while head and (now := self._durable_head()) and now != head and self.publish(now):
            head = now

    def verdicts(self) -> Iterator[Verdict]:
        """Compare every file with the log. Only what goes on is kept in memory, and the ids of what has ended."""
        from projections.verdict import verdict_of

        files: dict[str, _Compared] = {}
        seen: set[str] = set()
        catalog, then = _content(self._root / CATALOG_NAME), None
        stamp = stamp_of(read_document(self._root / CATALOG_NAME) or {})
        state, head = NOTHING, origin(RESOURCES).head
        for state, head in LEASE_PROJECTION.states(self._log.read(RESOURCES), NOTHING):
            if stamp and stamp.head == head:
                then = LEASE_PROJECTION.files(RESOURCES, state, head)[CATALOG_NAME]
            if (lease := state.touched) is None:
                continue
            name = lease_name(lease.lease_id)
            seen.add(name)
            compared = files.get(name) or files.setdefault(name, _Compared(name, _content(self._root / name)))
            compared.goes_on(lease_file(lease, head))
            if lease.ended:
                yield files.pop(name).verdict
        for compared in files.values():
            yield compared.verdict
        if head.seq:
            content = LEASE_PROJECTION.files(RESOURCES, state, head)[CATALOG_NAME]
            is_of_other_fold = stamp is not None and stamp.fold != LEASE_FOLD
            yield verdict_of(CATALOG_NAME, catalog, content, then, is_of_other_fold=is_of_other_fold)
        yield from self.orphans(seen, with_catalog=not head.seq)

    def orphans(self, seen: set[str], *, with_catalog: bool) -> Iterator[Verdict]:
        """Name the files that are of no lease of the log."""
        from projections.verdict import orphan

        there = sorted(f"{RESOURCES}/leases/{path.name}" for path in leases_path(self._root).glob("*.json"))
        for name in [*there, *([CATALOG_NAME] if with_catalog else [])]:
            if name not in seen and (self._root / name).exists():
                yield orphan(name)

    def _write_new(self, state: Resources, at: Head, head: Head) -> None:
        """Write the files of the leases that something has happened to since `at`, each once, and the catalog."""
        events = self._log.read(RESOURCES, max(1, at.seq))
        if at.seq and ((first := next(events, None)) is None or first.head != at):
            self._write_all(head)  # It was written from another log.
            return
        touched: dict[str, tuple[Lease, Head]] = {}
        for state, at in LEASE_PROJECTION.states(events, state):  # noqa: B020  the last pair is the answer
            if state.touched is not None:
                touched[state.touched.lease_id] = state.touched, at
            if at.seq >= head.seq:
                break
        make_directories(self._disk, leases_path(self._root))
        for lease_id, (lease, then) in touched.items():
            self._write(lease_name(lease_id), lease_file(lease, then))
        self._write(CATALOG_NAME, LEASE_PROJECTION.files(RESOURCES, state, at)[CATALOG_NAME])

    def _write_all(self, head: Head) -> None:
        make_directories(self._disk, leases_path(self._root))
        live: dict[str, bytes] = {}
        state, at = NOTHING, origin(RESOURCES).head
        for state, at in LEASE_PROJECTION.states(self._log.read(RESOURCES), NOTHING):
            if (lease := state.touched) is not None:
                self._remember(live, lease, at)
            if at.seq >= head.seq:
                break
        for name, content in live.items():
            self._write_if_other(name, content)
        if at.seq:
            self._write_if_other(CATALOG_NAME, LEASE_PROJECTION.files(RESOURCES, state, at)[CATALOG_NAME])
            if self._boot:
                self._write(f"{RESOURCES}/compared", self._boot.encode() + b"\n")

    def _remember(self, live: dict[str, bytes], lease: Lease, at: Head) -> None:
        name = lease_name(lease.lease_id)
        live[name] = lease_file(lease, at)
        if lease.ended:
            self._write_if_other(name, live.pop(name))

    def _durable_head(self) -> Head | None:
        """Give the head of the log, all up to it durable; None when there is no log."""
        with quiet(StateLayout(self._root).path(RESOURCES), LOCK_LIMIT_S) as fd:
            if fd is None:
                return None
            self._disk.sync(fd)  # Whoever wrote the last event may have died before its sync.
            return self._log.head(RESOURCES)

    def _published(self) -> tuple[Resources, Head] | None:
        """Give the state and the head that the files are written up to; None when that cannot be told."""
        content, stamp = _content(catalog_path(self._root)), self._stamp()
        if not content or stamp is None or stamp.fold != LEASE_FOLD:
            return None
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(content, type=Resources), stamp.head
        return None

    def _stamp(self) -> Stamp | None:
        """Read the stamp at the end of the catalog."""
        content = _content(catalog_path(self._root)) or b""
        return stamp_of(_json(b"{" + content[content.rfind(b'"as_of"') :]))

    def _is_of_this_boot(self) -> bool:
        return _content(resources_path(self._root) / "compared") == self._boot.encode() + b"\n"

    def _write_if_other(self, name: str, content: bytes) -> None:
        if _content(self._root / name) != content:
            self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file. Only one process at a time does, so whoever comes next takes over what a dead one left."""
        path = self._root / name
        temporary = path.with_name(f".{path.name}.new")
        fd = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(self._disk, fd, content)
        finally:
            self._disk.close(fd)
        self._disk.rename(temporary, path)

    @contextmanager
    def _alone(self, *, wait: bool) -> Iterator[bool]:
        """Publish while nobody else does; False when somebody does, and is not to be waited for."""
        make_directories(self._disk, resources_path(self._root))
        fd = os.open(resources_path(self._root) / "publish.lock", os.O_RDWR | os.O_CREAT, 0o666)
        if wait:
            lock(fd, LOCK_LIMIT_S)
        else:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                yield False
                return
        try:
            yield True
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


class _Compared:
    """The file of one lease beside what the log makes of it, event by event."""

    def __init__(self, name: str, found: bytes | None) -> None:
        self._name = name
        self._found = found
        self._content = b""
        self._then: bytes | None = None

    def goes_on(self, content: bytes) -> None:
        """Take in what the file should have after one more event."""
        self._content = content
        if content == self._found:
            self._then = content

    @property
    def verdict(self) -> Verdict:
        """Say what the file is."""
        from projections.verdict import verdict_of

        stamp = stamp_of(_json(self._found))
        is_of_other_fold = stamp is not None and stamp.fold != LEASE_FOLD
        return verdict_of(self._name, self._found, self._content, self._then, is_of_other_fold=is_of_other_fold)


def _json(content: bytes | None) -> dict[str, object]:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(content or b"", type=dict[str, object])
    return {}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
