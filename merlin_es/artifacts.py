"""Which files has a run left, what is in them, and which of them are kept for good?"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from eventlog import BlobStore, EventLogError
from merlin_es.fetch import Fetched, fetch, find
from merlin_es.globs import Globs
from merlin_es.tree import ENTRIES_MAX, Listing, Tree, Unfit, shown, time_of
from projections.events.run import ArtifactSeen, ArtifactsIndexed

__all__ = ["LIMITS", "Fetched", "Index", "Limits", "bounded", "fetch", "find", "index", "pages", "size_and_time"]

PAGE_FILES_MAX = 400
PAGE_BYTES_MAX = 200 * 1024
"""Leaves 56 KiB of a line for the envelope of the log."""
INDEX_BYTES_MAX = 688 * 1024
"""Leaves 336 KiB of an append for the end of the run that the index comes with, and for its checkpoint."""
OMITTED_MAX = 100
OMITTED_BYTES_MAX = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_MIB = 1024 * 1024
_KINDS = {
    "archive": ".7z .bz2 .gz .tar .tgz .whl .xz .zip .zst",
    "binary": ".a .bin .dll .dylib .elf .exe .npy .npz .o .onnx .pt .safetensors .so .vmfb",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hh .hpp .hxx",
    "json": ".json .jsonl .ndjson",
    "log": ".err .log .out",
    "markdown": ".markdown .md",
    "mlir": ".mlir",
    "python": ".py .pyi",
    "text": ".csv .rst .tsv .txt",
    "yaml": ".yaml .yml",
}
_KIND_BY_SUFFIX = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one index may look at, read and keep; what is beyond is said in its `omitted`."""

    files: int = 2_000
    entries: int = ENTRIES_MAX
    read_bytes: int = 1024 * _MIB
    captured_file_bytes: int = 64 * _MIB
    captured_bytes: int = 512 * _MIB
    duration_s: float = 60.0
    readings: int = 3


LIMITS = Limits()


class Index(NamedTuple):
    """The files, sorted by name; and what is not among them, not captured or not sure, and why."""

    files: tuple[ArtifactSeen, ...]
    omitted: tuple[str, ...]


def index(
    target_dir: Path,
    captures: Sequence[str],
    blobs: BlobStore,
    *,
    excluded: Sequence[Path] = (),
    limits: Limits = LIMITS,
    clock: Callable[[], float] = time.monotonic,
) -> Index:
    """Look at what the target directory holds now, and store the bytes of the files that match `captures`.

    A link to a regular file of the tree is a file under its own name too; links to directories are not followed.
    Where there is more than the limits allow, what is to be captured goes first. Raises Usage at a bad glob, and
    otherwise nothing: whatever cannot be read is said in `omitted`.
    """
    return _Indexing(Globs(captures), blobs, limits, clock).run(target_dir, excluded)


class _TooLarge(Exception):
    """The file has more bytes than may be read of it."""


class _TooLate(Exception):
    """The time is up."""


class _Changed(Exception):
    """The file was written to while it was read."""


class _Reading:
    """Gives the bytes of a file to whoever hashes or stores them, and stops them where a limit is met."""

    def __init__(self, fd: int, size_max: int, deadline: float, clock: Callable[[], float], *, patient: bool) -> None:
        self._fd = fd
        self._size_max = size_max
        self._deadline = deadline
        self._clock = clock
        self._patient = patient
        self._before = _stamp(fd)
        self.size = 0
        self.changed = False
        os.lseek(fd, 0, os.SEEK_SET)

    def read(self, size: int = _CHUNK_BYTES) -> bytes:
        """Give the next bytes; none at the end. Raises _TooLarge, _TooLate, Unfit, and _Changed when patient."""
        if self._clock() > self._deadline:
            raise _TooLate
        try:
            chunk = os.read(self._fd, size)
        except OSError as error:  # Not as an OSError: whoever stores would take it for the store's.
            raise Unfit(f"it cannot be read ({error.strerror})") from error
        self.size += len(chunk)
        if self.size > self._size_max:
            raise _TooLarge
        if not chunk:
            self.changed = _stamp(self._fd) != self._before
            if self.changed and self._patient:
                raise _Changed
        return chunk


class _Indexing:
    """The making of one index: what it may still read and keep, and what it has to say."""

    def __init__(self, globs: Globs, blobs: BlobStore, limits: Limits, clock: Callable[[], float]) -> None:
        self._globs = globs
        self._blobs = blobs
        self._limits = limits
        self._clock = clock
        self._deadline = clock() + limits.duration_s
        self._left_to_read = limits.read_bytes
        self._left_to_capture = limits.captured_bytes
        self._notes: list[str] = []
        self._lines: list[str] = []

    def run(self, target_dir: Path, excluded: Sequence[Path]) -> Index:
        files: list[ArtifactSeen] = []
        try:
            with Tree(target_dir, excluded) as tree:
                listing = tree.walk(entries_max=self._limits.entries, deadline=self._deadline, clock=self._clock)
                files = self._see_all(tree, listing)
        except OSError as error:
            self._notes.append(f"{shown(str(target_dir))}: the directory cannot be read ({error.strerror})")
        return Index(tuple(sorted(files, key=lambda file: file.name)), (*self._notes, *bounded(self._lines)))

    def _see_all(self, tree: Tree, listing: Listing) -> list[ArtifactSeen]:
        if listing.unseen:
            self._notes.append(f"the directory was not looked at to its end: {listing.unseen}")
        for name, why in listing.left:
            self._say(name, why)
        captured = [name for name in listing.names if self._globs.match(name)]
        wanted = frozenset(captured)
        names = captured + [name for name in listing.names if name not in wanted]
        files: list[ArtifactSeen] = []
        for number, name in enumerate(names):
            late = self._clock() > self._deadline
            if late or len(files) == self._limits.files:
                limit = f"{self._limits.duration_s:g} s" if late else f"{self._limits.files} files"
                self._notes.append(f"{len(names) - number} more files: the limit of {limit} is reached")
                break
            if file := self._see(tree, name, capture=name in wanted):
                files.append(file)
        for pattern in self._globs.unmatched():
            self._say(pattern, "no file matches it, so nothing was captured for it")
        return files

    def _see(self, tree: Tree, name: str, *, capture: bool) -> ArtifactSeen | None:
        try:
            with tree.open(name) as fd:
                return self._read(fd, name, capture=capture)
        except FileNotFoundError:
            return None  # It vanished since the walk.
        except OSError as error:
            self._say(name, f"it cannot be read ({error.strerror})")
        except Unfit as unfit:
            self._say(name, str(unfit))
        return None

    def _read(self, fd: int, name: str, *, capture: bool) -> ArtifactSeen:
        """Read until no writer came between, or it was tried often enough; what is said fits what was read."""
        sha256, captured = "", False
        size = os.fstat(fd).st_size
        if capture and (stored := self._capture(fd, name, size)):
            (sha256, size), captured = stored, True
        elif digested := self._digest(fd, name, size):
            sha256, size = digested
        return ArtifactSeen(
            name=name,
            kind=_KIND_BY_SUFFIX.get(os.path.splitext(name)[1].lower(), "file"),  # noqa: PTH122  a name, not a path
            size_bytes=size,
            sha256=sha256,
            modified_at=time_of(os.fstat(fd).st_mtime_ns),
            captured=captured,
        )

    def _capture(self, fd: int, name: str, size: int) -> tuple[str, int] | None:
        file_max, left = self._limits.captured_file_bytes, min(self._left_to_capture, self._left_to_read)
        if size <= file_max and size <= left:
            try:
                stored = self._read_through(fd, name, min(file_max, left), self._put)
            except EventLogError as error:
                self._say(name, f"it is not captured: {error}")
                return None
            except _TooLate:
                return None
            except _TooLarge:
                pass
            else:
                self._left_to_capture -= stored[1]
                return stored
            size = os.fstat(fd).st_size
        limit = f"{_mib(file_max)} that a file can have" if size > file_max else f"{_mib(left)} that are left for all"
        self._say(name, f"it is not captured: {_mib(size)} is more than the {limit}")
        return None

    def _digest(self, fd: int, name: str, size: int) -> tuple[str, int] | None:
        try:
            if size > self._left_to_read:
                raise _TooLarge
            return self._read_through(fd, name, self._left_to_read, _sha256)
        except _TooLate:
            self._say(name, f"it has no digest: reading all took more than {self._limits.duration_s:g} s")
        except _TooLarge:
            self._say(name, f"it has no digest: more than {_mib(self._limits.read_bytes)} would be read in all")
        return None

    def _read_through(self, fd: int, name: str, size_max: int, consume: Callable[[_Reading], str]) -> tuple[str, int]:
        """Give what `consume` makes of the bytes, and how many they were."""
        for left in reversed(range(self._limits.readings)):
            reading = _Reading(fd, size_max, self._deadline, self._clock, patient=left > 0)
            try:
                sha256 = consume(reading)
            except _Changed:
                continue
            finally:
                self._left_to_read -= reading.size
                size_max = min(size_max, self._left_to_read)
            if reading.changed:
                self._say(name, f"it was written to each of the {self._limits.readings} times that it was read")
            return sha256, reading.size
        raise AssertionError("the last reading is not patient")

    def _put(self, reading: _Reading) -> str:
        return self._blobs.put(cast("BinaryIO", reading))

    def _say(self, name: str, why: str) -> None:
        self._lines.append(f"{shown(name)}: {why}")


def pages(index: Index) -> tuple[ArtifactsIndexed, ...]:
    """Give the events that record the index, at least one; each fits in a line and all in one append.

    Where they would not, captured files are kept first, then by name, and `omitted` counts the rest.
    """
    sizes = {file.name: len(msgspec.json.encode(file)) + 1 for file in index.files}
    total = len(msgspec.json.encode(index.omitted)) + 1024
    kept = set()
    for file in sorted(index.files, key=lambda file: (not file.captured, file.name)):
        total += sizes[file.name]
        if total <= INDEX_BYTES_MAX:
            kept.add(file.name)
    omitted = index.omitted
    if more := len(index.files) - len(kept):
        omitted = (f"{more} more files: their names are too long for one append to the log", *omitted)
    split: list[list[ArtifactSeen]] = [[]]
    used = len(msgspec.json.encode(omitted)) + 512
    for file in index.files:
        if file.name not in kept:
            continue
        if len(split[-1]) == PAGE_FILES_MAX or used + sizes[file.name] > PAGE_BYTES_MAX:
            split.append([])
            used = 512
        split[-1].append(file)
        used += sizes[file.name]
    return tuple(
        ArtifactsIndexed(page=page, pages=len(split), files=tuple(files), omitted=omitted if page == 1 else ())
        for page, files in enumerate(split, 1)
    )


def bounded(lines: Sequence[str]) -> tuple[str, ...]:
    """Give as many of the lines as an event may take, and how many more there are."""
    kept: list[str] = []
    size = 0
    for line in lines[:OMITTED_MAX]:
        size += len(line.encode())
        if size > OMITTED_BYTES_MAX:
            break
        kept.append(line)
    if more := len(lines) - len(kept):
        kept.append(f"{more} more lines like these")
    return tuple(kept)


def size_and_time(fd: int) -> tuple[int, str]:
    """Give the size in bytes of an open file, and when it was written to (ISO 8601, UTC)."""
    size, modified_ns = _stamp(fd)
    return size, time_of(modified_ns)


def _sha256(reading: _Reading) -> str:
    digest = hashlib.sha256()
    while chunk := reading.read():
        digest.update(chunk)
    return digest.hexdigest()


def _stamp(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"
