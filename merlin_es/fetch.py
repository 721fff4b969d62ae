"""How does an artifact get from where a run left it to where somebody wants it, whole and as it was indexed?"""

from __future__ import annotations

import difflib
import errno
import glob
import hashlib
import os
import secrets
import shlex
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol, TypeVar

from eventlog import BlobStore, EventLogError
from merlin_es.errors import Ambiguous, NotFound, Refused, Usage
from merlin_es.tree import Tree, Unfit, shown, time_of

CANDIDATES_MAX = 10
_CHUNK_BYTES = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


class Artifact(Protocol):
    """What an index says of a file; see projections.events.run.ArtifactSeen."""

    @property
    def name(self) -> str: ...  # noqa: D102  the fields are those of the event
    @property
    def size_bytes(self) -> int: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def modified_at(self) -> str: ...  # noqa: D102
    @property
    def captured(self) -> bool: ...  # noqa: D102


A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where the artifact lies now; `changed` says that the run's directory no longer has it as it was indexed."""

    path: Path
    size_bytes: int
    from_blob: bool
    changed: bool


def find(entries: Sequence[A], name: str) -> A:
    """Give the artifact called `name`: its whole name, or the last part of one only. Raises Ambiguous, NotFound."""
    for entry in entries:
        if entry.name == name:
            return entry
    same = [entry for entry in entries if _last(entry.name) == name]
    if len(same) == 1:
        return same[0]
    if same:
        raise Ambiguous(f"{len(same)} artifacts are called {shown(name)}: give one of {_some(e.name for e in same)}")
    by_word = {word: entry.name for entry in entries for word in (_last(entry.name), entry.name)}
    close = dict.fromkeys(by_word[word] for word in difflib.get_close_matches(name, by_word, CANDIDATES_MAX))
    hint = f"did you mean {_some(close)}?" if close else "`merlin ray artifacts list RUN` shows what there is"
    raise NotFound(f"no artifact is called {shown(name)}: {hint}")


def fetch(entry: Artifact, source_dir: Path, to: Path | None, blobs: BlobStore, *, force: bool = False) -> Fetched:
    """Copy the artifact to `to`, a file or a directory to put it into (default: the current one).

    What is copied is what was indexed, from the run's directory or, where that has changed, from the blob store. A
    file that stands there with other content is refused unless `force`. Whatever happens, `to` is the whole artifact
    or as it was. Raises NotFound, Refused, Usage.
    """
    target = _target(entry.name, to)
    with _Draft(target) as draft:
        loss = _copy_from_disk(entry, source_dir, draft)
        if loss:
            _copy_from_blob(entry, loss, blobs, draft)
        draft.place(force=force)
    return Fetched(target, draft.size, from_blob=bool(loss), changed=bool(loss and loss.changed))


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why the run's directory does not give the artifact as it was indexed."""

    why: str
    gone: bool = False
    changed: bool = True

    def raise_for(self, entry: Artifact, more: str) -> None:
        kept = shlex.quote(glob.escape(entry.name))
        message = (
            f"{shown(entry.name)} {self.why}{more}: `merlin ray artifacts index RUN` indexes what is there now; "
            f"submitted with `--capture {shown(kept)}`, a run keeps the bytes"
        )
        raise NotFound(message) if self.gone else Refused(message)


class _Draft:
    """A new file beside `target` that takes its place when it is whole, and is gone when it is not."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = target.with_name(f".merlin-{secrets.token_hex(8)}")
        self.size = 0
        self.modified_ns: int | None = None

    def __enter__(self) -> _Draft:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise self._unwritten(error) from error
        self._digest = hashlib.sha256()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._path.unlink()
        os.close(self._fd)

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise self._unwritten(error) from error
        self._digest.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            raise self._unwritten(error) from error
        self._digest = hashlib.sha256()
        self.size = 0

    def place(self, *, force: bool) -> None:
        """Make the draft the target, durably."""
        try:
            if self.modified_ns is not None:
                os.utime(self._fd, ns=(self.modified_ns, self.modified_ns))
            os.fsync(self._fd)
            if force:
                self._require_file()
                self._path.rename(self._target)
            else:
                self._claim()
            directory = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._unwritten(error) from error

    def _claim(self) -> None:
        """Take the name only while nobody has it, in one step where the file system has links."""
        try:
            os.link(self._path, self._target)
        except FileExistsError:
            self._require_same()
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self._target):
                self._require_same()
            else:
                self._path.rename(self._target)

    def _require_same(self) -> None:
        self._require_file()
        if self._target.is_symlink() or _sha256_of(self._target) != self.sha256:
            raise Refused(f"{self._target} is there and is another file: move it, name another place, or use --force")

    def _require_file(self) -> None:
        with suppress(FileNotFoundError):
            mode = self._target.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise Refused(f"{self._target} is there and is no regular file: name another place")

    def _unwritten(self, error: OSError) -> Usage:
        return Usage(
            f"{self._target} cannot be written ({error.strerror}), and nothing was: "
            "make room and a directory for it, or name another place"
        )


def _target(name: str, to: Path | None) -> Path:
    place = Path.cwd() if to is None else to
    if not place.is_dir():
        return place
    last = _last(name)
    if last in {"", ".", ".."} or "\0" in last:
        raise Usage(f"{shown(name)} gives no name for a file: name the file to write")
    return place / last


def _copy_from_disk(entry: Artifact, source_dir: Path, draft: _Draft) -> _Loss | None:
    """Copy what is there; gives why that is not what was indexed, if it is not."""
    try:
        with Tree(source_dir) as tree, tree.open(entry.name) as fd:
            before = os.fstat(fd)
            if before.st_size != entry.size_bytes:
                return _other(entry, before, "")
            while chunk := os.read(fd, _CHUNK_BYTES):
                if draft.size > entry.size_bytes:
                    break  # It grows: no digest would fit any more.
                draft.write(chunk)
            after = os.fstat(fd)
    except FileNotFoundError:
        return _Loss(f"is not in {source_dir} any more", gone=True)
    except Unfit as unfit:
        return _Loss(f"is not what it was in {source_dir}: {unfit}")
    except OSError as error:
        return _Loss(f"in {source_dir} cannot be read ({error.strerror})", changed=False)
    draft.modified_ns = after.st_mtime_ns
    unread = not entry.sha256 and time_of(after.st_mtime_ns) == entry.modified_at and draft.size == entry.size_bytes
    return None if unread or draft.sha256 == entry.sha256 else _other(entry, after, draft.sha256)


def _other(entry: Artifact, status: os.stat_result, sha256: str) -> _Loss:
    then = f"{entry.size_bytes} bytes, {_brief(entry.sha256)}of {entry.modified_at or 'a time that nobody noted'}"
    now = f"{status.st_size} bytes, {_brief(sha256)}of {time_of(status.st_mtime_ns)}"
    return _Loss(f"has changed since it was indexed (then {then}; now {now})")


def _copy_from_blob(entry: Artifact, loss: _Loss, blobs: BlobStore, draft: _Draft) -> None:
    if not entry.captured:
        loss.raise_for(entry, ", and its bytes were not captured")
    draft.restart()
    try:
        for chunk in blobs.chunks(entry.sha256):
            draft.write(chunk)
    except EventLogError as error:
        loss.raise_for(entry, f", and its captured bytes cannot be had ({error})")
    draft.modified_ns = (datetime.fromisoformat(entry.modified_at) - _EPOCH) // timedelta(microseconds=1) * 1000


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123  no Path has these flags
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _last(name: str) -> str:
    return PurePosixPath(name).name


def _brief(sha256: str) -> str:
    return f"sha256 {sha256[:12]}…, " if sha256 else ""


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = len(names) - CANDIDATES_MAX
    listed = ", ".join(map(shown, names[:CANDIDATES_MAX]))
    return f"{listed} and {more} more" if more > 0 else listed
