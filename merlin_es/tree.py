"""What lies in a directory that somebody else may fill, change and booby-trap while we look?"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

ENTRIES_MAX = 100_000
"""Names that one walk looks at: a second or two of a local disk's time, and some 15 MiB."""
DEPTH_MAX = 32
LINKS_MAX = 40
"""Links on the way to one file; the kernel's own limit."""
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_WALK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
# Not blocking, in case a FIFO takes the place of the file that was seen a moment ago.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_TYPES = {
    stat.S_IFDIR: "it is a directory",
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}


class Unfit(Exception):
    """What has that name is no regular file of the tree; the text says what it is."""


class Excluded(Unfit):
    """What has that name, or is led to by it, is not to be looked at."""


class Listing(NamedTuple):
    """What a walk saw: names of files and of links, sorted, and what it left out as name and reason.

    A name has `/` between its parts, relative to the top. A link may still lead nowhere: `Tree.open` tells.
    `unseen` says why the walk ended early, or nothing.
    """

    names: list[str]
    left: list[tuple[str, str]]
    unseen: str


class Tree:
    """A directory that is never left, whatever links are in it and whatever is put there while we look.

    What is `excluded` (directories or files, by what they are and not by their names) is not there for us.
    """

    def __init__(self, top: Path, excluded: Sequence[Path] = ()) -> None:
        self._top = os.path.realpath(os.fsencode(top))
        self._excluded = frozenset(_identities(excluded))
        self._fd = os.open(top, _STEP)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def walk(
        self,
        *,
        entries_max: int = ENTRIES_MAX,
        deadline: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
        skip: Collection[bytes] = (),
    ) -> Listing:
        """Walk the tree; what vanishes meanwhile was not there, and directories named in `skip` are not."""
        return _Walk(self._excluded, frozenset(skip), entries_max, deadline, clock).go(self._fd)

    @contextmanager
    def open(self, name: str) -> Iterator[int]:
        """Give a descriptor of the regular file `name`, also where it is a link to one in the tree.

        Raises Unfit, or OSError where the system does not let us.
        """
        links: list[bytes] = []
        try:
            fd = self._resolve(name.encode("utf-8", "surrogateescape"), links)
        except FileNotFoundError:
            if links:
                raise Unfit("it is a link that leads to nothing") from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Unfit("it is not a regular file any more")
            yield fd
        finally:
            os.close(fd)

    def _resolve(self, name: bytes, links: list[bytes]) -> int:
        """Walk to `name` as the kernel would, but see each link and each `..` before it is followed.

        Collects the links on the way in `links`.
        """
        if b"\0" in name:
            raise Unfit("it has a zero byte in its name")
        todo = name.split(b"/")[::-1]
        way = [os.dup(self._fd)]
        try:
            while todo:
                part = todo.pop()
                if part in {b"", b"."}:
                    continue
                if part == b"..":
                    os.close(way.pop())
                    if not way:
                        raise Unfit("it is a link that leads out of the directory")
                    continue
                status = os.stat(part, dir_fd=way[-1], follow_symlinks=False)
                if _identity(status) in self._excluded:
                    raise Excluded("it leads to what is excluded")
                if stat.S_ISLNK(status.st_mode):
                    target = os.readlink(part, dir_fd=way[-1])
                    links.append(part)
                    if len(links) > LINKS_MAX:
                        raise Unfit("it is a link that loops")
                    if target.startswith(b"/"):
                        target = self._inside(target)
                        while len(way) > 1:
                            os.close(way.pop())
                    todo.extend(reversed(target.split(b"/")))
                elif stat.S_ISDIR(status.st_mode):
                    if len(way) > DEPTH_MAX:
                        raise Unfit(f"it lies deeper than {DEPTH_MAX} directories")
                    way.append(os.open(part, _STEP | os.O_NOFOLLOW, dir_fd=way[-1]))
                elif any(rest not in {b"", b"."} for rest in todo):
                    raise Unfit("it leads through what is not a directory")
                else:
                    _require_regular(status)
                    return os.open(part, _FILE, dir_fd=way[-1])
            raise Unfit("it leads to a directory")
        finally:
            for fd in way:
                os.close(fd)

    def _inside(self, target: bytes) -> bytes:
        if not target.startswith(self._top.rstrip(b"/") + b"/"):
            raise Unfit("it is a link that leads out of the directory")
        return target[len(self._top) :]


class _Walk:
    """One walk, with what it has found so far; at most DEPTH_MAX descriptors are open at a time."""

    def __init__(
        self,
        excluded: frozenset[tuple[int, int]],
        skip: frozenset[bytes],
        entries_max: int,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._excluded = excluded
        self._skip = skip
        self._entries_max = entries_max
        self._entries = 0
        self._deadline = deadline
        self._clock = clock
        self._found = Listing([], [], "")

    def go(self, top: int) -> Listing:
        fd = os.open(b".", _WALK, dir_fd=top)
        if _identity(os.fstat(fd)) in self._excluded:
            os.close(fd)
            self._stop("it is excluded as a whole")
            return self._found
        self._look(fd, b"", 1)
        self._found.names.sort()
        return self._found

    def _look(self, fd: int, prefix: bytes, depth: int) -> None:
        """Take in the directory `fd`, which is closed then; its files before what lies in its directories."""
        try:
            try:
                parts = self._parts(fd)
            except OSError as error:
                self._leave(prefix.rstrip(b"/") or b".", error)
                return
            directories = [part for part in parts if self._meet(fd, part, prefix)]
            for part in directories:
                if self._found.unseen:
                    return
                if depth > DEPTH_MAX:
                    self._leave(prefix + part, f"it lies deeper than {DEPTH_MAX} directories")
                    continue
                try:
                    child = os.open(part, _WALK, dir_fd=fd)
                except OSError as error:
                    self._leave(prefix + part, error)
                    continue
                self._look(child, prefix + part + b"/", depth + 1)
        finally:
            os.close(fd)

    def _parts(self, fd: int) -> list[bytes]:
        left = self._entries_max - self._entries
        with os.scandir(fd) as entries:
            parts = [os.fsencode(entry.name) for entry in islice(entries, left + 1)]
        if len(parts) > left:
            self._stop(f"there are more than {self._entries_max} names")
            parts = parts[:left]
        self._entries += len(parts)
        return sorted(parts)

    def _meet(self, fd: int, part: bytes, prefix: bytes) -> bool:
        """Note what is there under the name `part`; True for a directory to look into."""
        name = prefix + part
        if self._clock() > self._deadline:
            self._stop("it took too long")
            return False
        if part in self._skip:
            return False
        try:
            status = os.stat(part, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            self._leave(name, error)
            return False
        if _identity(status) in self._excluded:
            return False
        try:
            text = name.decode()
        except UnicodeDecodeError:
            self._leave(name, "its name is not UTF-8")
            return False
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            self._found.names.append(text)
            return False
        if stat.S_ISDIR(status.st_mode):
            return True
        self._leave(name, _TYPES.get(stat.S_IFMT(status.st_mode), "it is not a regular file"))
        return False

    def _leave(self, name: bytes, why: str | OSError) -> None:
        if isinstance(why, FileNotFoundError):
            return  # It vanished while we looked.
        reason = f"it cannot be read ({why.strerror})" if isinstance(why, OSError) else why
        self._found.left.append((name.decode("utf-8", "surrogateescape"), reason))

    def _stop(self, why: str) -> None:
        self._found = self._found._replace(unseen=why)


def shown(name: str) -> str:
    """Give `name` so that it fits in one line of a message: no bytes that are not text, and not too long."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= 200 else f"{text[:99]}…{text[-100:]}"


def time_of(ns: int) -> str:
    """Give a time of a file as ISO 8601, UTC, fixed width; what a calendar cannot say is its nearest end."""
    lowest, highest = ((end - _EPOCH) // _MICROSECOND for end in (datetime.min, datetime.max))
    moment = _EPOCH + min(max(ns // 1000, lowest), highest) * _MICROSECOND
    return moment.isoformat(timespec="microseconds") + "Z"


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unfit(_TYPES.get(stat.S_IFMT(status.st_mode), "it is not a regular file"))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _identities(paths: Sequence[Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        with suppress(OSError):
            yield _identity(path.stat())
