"""What can a disk do to us? One that fails on request, and one that records so that crashes can be played back."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eventlog import Disk

SECTOR_BYTES = 512


class FailingDisk(Disk):
    """A disk whose next calls fail as `failures` says: the name of the call and its error number, used up in order.

    An error number of 0 lets a call pass. A `write` that fails takes `short_bytes` bytes first, as a full disk does.
    """

    def __init__(self, *, short_bytes: int = 0) -> None:
        self.failures: list[tuple[str, int]] = []
        self.calls: list[str] = []
        self._short_bytes = short_bytes
        self._short = False

    def _meet(self, call: str) -> None:
        self.calls.append(call)
        if self.failures and self.failures[0][0] == call:
            number = self.failures.pop(0)[1]
            if not number:
                return
            raise OSError(number, os.strerror(number))

    def open(self, path: Path, flags: int) -> int:
        self._meet("open")
        return super().open(path, flags)

    def write(self, fd: int, data: bytes) -> int:
        if self._short_bytes and self.failures and self.failures[0][0] == "write" and not self._short:
            self._short = True
            return super().write(fd, data[: self._short_bytes])
        self._short = False
        self._meet("write")
        return super().write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        self._meet("truncate")
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._meet("sync")
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        self._meet("sync_directory")
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._meet("rename")
        super().rename(source, target)

    def mkdir(self, path: Path) -> None:
        self._meet("mkdir")
        super().mkdir(path)


Call = tuple[str, object, object]
"""What a call did, to which file (by a number of its own, like an inode) or name, and with what."""


@dataclass
class Model:
    """What a crash may leave of a file system: per file its content, per directory its names."""

    files: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, int | None] = field(default_factory=dict)  # None is a directory.


class RecordingDisk(Disk):
    """A disk that works, and remembers every change and every sync in order, for `crash_states`."""

    def __init__(self, top: Path) -> None:
        self.log: list[Call] = []
        self._top = top
        self._inode: dict[int, int] = {}
        self._known: dict[Path, int] = {}
        self._numbers = itertools.count(1)

    def mark(self, text: str) -> None:
        """Note that the caller was told something at this point."""
        self.log.append(("mark", text, None))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._top).as_posix()

    def open(self, path: Path, flags: int) -> int:
        exists = path.exists()
        fd = super().open(path, flags)
        if not exists:
            self._known[path] = next(self._numbers)
            self.log.append(("name", self._name(path), self._known[path]))
        self._inode[fd] = self._known[path]
        if exists and flags & os.O_TRUNC:
            self.log.append(("truncate", self._known[path], 0))
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self.log.append(("write", self._inode[fd], bytes(data)))
        return super().write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        self.log.append(("truncate", self._inode[fd], size))
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if fd in self._inode:
            self.log.append(("sync", self._inode[fd], None))

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if path == self._top or self._top in path.parents:
            self.log.append(("sync_directory", self._name(path), None))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._known[target] = self._known.pop(source)
        self.log.append(("rename", self._name(source), (self._name(target), self._known[target])))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.log.append(("unlink", self._name(path), None))

    def mkdir(self, path: Path) -> None:
        existed = path.is_dir()
        super().mkdir(path)
        if not existed:
            self.log.append(("name", self._name(path), None))

    def adopt(self, path: Path) -> Model:
        """Give the model of what lies on disk before the first recorded call, all of it durable."""
        model = Model(names={".": None})
        for found in sorted(path.rglob("*")):
            if found.is_dir():
                model.names[self._name(found)] = None
            else:
                number = self._known[found] = next(self._numbers)
                model.names[self._name(found)] = number
                model.files[number] = found.read_bytes()
        return model


@dataclass(frozen=True)
class CrashState:
    """One state that a crash may leave, and what the caller had been told by then."""

    model: Model
    told: tuple[str, ...]

    def materialize(self, top: Path) -> None:
        """Write the state as real files."""
        top.mkdir(parents=True)
        for name, number in sorted(self.model.names.items()):
            path = top / name
            if not _reachable(self.model, name):
                continue
            if number is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(self.model.files.get(number, b""))


def _reachable(model: Model, name: str) -> bool:
    parents = [parent.as_posix() for parent in Path(name).parents]
    return all(parent in model.names for parent in parents)


def crash_states(start: Model, log: list[Call]) -> Iterator[CrashState]:
    """Yield every state that a crash may leave at any point between the recorded calls.

    What a sync covered is there. Of the changes since, any subset may be: of the bytes of a file each whole sector may
    be new or (where the file has become longer already) zero, its length that after any of the changes; of the names in
    a directory each change may have reached the disk or not, but a rename moves a name in one piece. This is at least
    as harsh as what ext4, XFS and btrfs document.
    """
    seen: set[object] = set()
    for point in range(len(log) + 1):
        done = log[:point]
        told = tuple(str(what) for kind, what, _ in done if kind == "mark")
        for model in _states_after(start, done):
            key = (told, tuple(sorted(model.files.items())), tuple(sorted(model.names.items(), key=str)))
            if key not in seen:
                seen.add(key)
                yield CrashState(model, told)


def _states_after(start: Model, done: list[Call]) -> Iterator[Model]:
    files = {number: [content] for number, content in start.files.items()}
    for kind, what, value in done:
        if kind == "name" and value is not None:
            files.setdefault(int(str(value)), [b""])
        elif kind == "write":
            assert isinstance(value, bytes)
            history = files[int(str(what))]
            history.append(history[-1] + value)
        elif kind == "truncate":
            history = files[int(str(what))]
            history.append(history[-1][: int(str(value))])
        elif kind == "sync":
            files[int(str(what))] = files[int(str(what))][-1:]
    contents = {number: list(_contents(history)) for number, history in files.items()}
    for names in _names_after(start.names, done):
        used = sorted({number for number in names.values() if number is not None})
        for chosen in itertools.product(*(contents[number] for number in used)):
            yield Model(dict(zip(used, chosen, strict=True)), dict(names))


def _contents(history: list[bytes]) -> Iterator[bytes]:
    """Yield what may be on disk of a file whose last sync saw history[0]."""
    yield from dict.fromkeys(history)
    for before, after in itertools.pairwise(history):
        if not after.startswith(before):
            continue
        added = len(after) - len(before)
        yield from (after[: len(before) + cut] for cut in {0, 1, added // 2, added - 1})
        cuts = [
            len(before),
            *range((len(before) // SECTOR_BYTES + 1) * SECTOR_BYTES, len(after), SECTOR_BYTES),
            len(after),
        ]
        pieces = list(itertools.pairwise(cuts))
        if len(pieces) <= 6:
            for there in itertools.product((True, False), repeat=len(pieces)):
                yield before + b"".join(
                    after[a:b] if kept else bytes(b - a) for (a, b), kept in zip(pieces, there, strict=True)
                )


@dataclass(frozen=True)
class _NameChange:
    """One change in one directory: `name` comes to mean `number` (None: a directory), or nothing any more."""

    name: str
    number: int | None = None
    gone: bool = False
    moved_from: str = ""

    def apply(self, names: dict[str, int | None]) -> None:
        names.pop(self.moved_from, None)
        if self.gone:
            names.pop(self.name, None)
        else:
            names[self.name] = self.number


def _names_after(start: dict[str, int | None], done: list[Call]) -> Iterator[dict[str, int | None]]:
    pending: list[_NameChange] = []
    base = dict(start)
    for kind, what, value in done:
        if kind == "name":
            pending.append(_NameChange(str(what), value if isinstance(value, int) else None))
        elif kind == "unlink":
            pending.append(_NameChange(str(what), gone=True))
        elif kind == "rename" and isinstance(value, tuple):
            pending.append(_NameChange(value[0], value[1], moved_from=str(what)))
        elif kind == "sync_directory":
            synced = [change for change in pending if _parent(change.name) == what]
            moved = {change.moved_from for change in synced}
            for change in synced:
                change.apply(base)
            pending = [change for change in pending if change not in synced and change.name not in moved]
    for there in itertools.product((True, False), repeat=len(pending)):
        names = dict(base)
        for change, kept in zip(pending, there, strict=True):
            if kept:
                change.apply(names)
        yield names


def _parent(name: str) -> str:
    return Path(name).parent.as_posix()
