"""What of a working directory goes to the cluster when a run asks for an upload?"""

from __future__ import annotations

import hashlib
import ntpath
import os
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from merlin_es.errors import Usage
from merlin_es.tree import DEPTH_MAX, ENTRIES_MAX, Excluded, Tree, Unfit, shown

PACKAGE_BYTES_MAX = 100 * 1024 * 1024
"""What a job server takes in one request; Ray 2.60, measured: it answers 413 to more."""
UNPACKED_BYTES_MAX = 1024 * 1024 * 1024
GIT_LIMIT_S = 60.0
LARGEST_SHOWN = 5
OMITTED_MAX = 100
_CHUNK_BYTES = 1024 * 1024
_LEVEL = 1  # Twice as fast as the default, and less than a tenth larger.
_WHAT_TO_DO = (
    "ignore them in .gitignore, name a smaller --working-dir, or leave it out: then the run works in place, on a "
    "directory that its nodes share"
)


@dataclass(frozen=True, slots=True)
class Package:
    """A zip called by the digest of what is in it; `omitted` says what of the directory is not, and why."""

    path: Path
    sha256: str
    omitted: tuple[str, ...]


@contextmanager
def package(directory: Path, excluded: Sequence[Path] = ()) -> Iterator[Package]:
    """Pack `directory` for as long as the context lasts; the same content gives the same bytes and the same name.

    In a git checkout that is what git knows or would add, submodules included; elsewhere everything but `.git`. A
    link is packed as the file that it leads to; one that leads out of `directory` is omitted, and so is what Ray does
    not unpack. Empty directories are not packed. Raises Usage at too much, at nothing, and where git refuses.
    """
    with tempfile.TemporaryDirectory(prefix="merlin-package-") as place:
        try:
            with Tree(directory, excluded) as tree:
                packing = _Packing(tree)
                packing.add_all(directory, _names(directory, tree, packing.omitted), Path(place) / "new.zip")
        except OSError as error:
            raise Usage(
                f"{directory} cannot be packed ({error.filename or place}: {error.strerror}): check that it can be "
                f"read, and that there is room in {place} (TMPDIR names another place)"
            ) from error
        sha256 = packing.content.hexdigest()
        path = (Path(place) / "new.zip").rename(Path(place) / f"{sha256}.zip")
        yield Package(path, sha256, _bounded(packing.omitted))


class _Candidate(NamedTuple):
    name: str
    size_bytes: int


class _Packing:
    """One package while it is made."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.omitted: list[str] = []
        self.content = hashlib.sha256()
        self._left = UNPACKED_BYTES_MAX

    def add_all(self, directory: Path, names: Sequence[str], path: Path) -> None:
        candidates = [candidate for name in names if (candidate := self._candidate(name))]
        if not candidates:
            raise Usage(f"{directory} holds no file to upload: name another --working-dir, or leave it out")
        total = sum(candidate.size_bytes for candidate in candidates)
        if total > UNPACKED_BYTES_MAX:
            raise _too_large(directory, f"{_mib(total)}, and at most {_mib(UNPACKED_BYTES_MAX)}", candidates)
        with path.open("wb") as file, _zip(file) as archive:
            for candidate in candidates:
                self._add(archive, file, candidate.name)
        if path.stat().st_size > PACKAGE_BYTES_MAX:
            raise _too_large(directory, f"more than the {_mib(PACKAGE_BYTES_MAX)} (packed) that", candidates)

    def _candidate(self, name: str) -> _Candidate | None:
        if "\\" in name or ntpath.splitdrive(name)[0]:  # Ray 2.60, measured: its unpacking skips them.
            self._omit(name, "Ray does not unpack such a name")
            return None
        try:
            name.encode()
            with self._tree.open(name) as fd:
                return _Candidate(name, os.fstat(fd).st_size)
        except (FileNotFoundError, Excluded):
            return None  # Git knows it; the working directory has it no more, or it is not to be had.
        except UnicodeEncodeError:
            self._omit(name, "its name is not UTF-8")
        except OSError as error:
            self._omit(name, f"it cannot be read ({error.strerror})")
        except Unfit as unfit:
            self._omit(name, str(unfit))
        return None

    def _add(self, archive: zipfile.ZipFile, file: BinaryIO, name: str) -> None:
        if file.tell() > PACKAGE_BYTES_MAX:
            return  # Too large already, whatever follows.
        try:
            with self._tree.open(name) as fd:
                self._write(archive, file, name, fd)
        except FileNotFoundError:
            self._omit(name, "it vanished while it was packed")
        except Unfit as unfit:
            self._omit(name, str(unfit))

    def _write(self, archive: zipfile.ZipFile, file: BinaryIO, name: str, fd: int) -> None:
        status = os.fstat(fd)
        left = min(status.st_size, self._left)  # A file that grows is packed as long as it was.
        self._left -= left
        digest = hashlib.sha256()
        with archive.open(name, "w") as packed:
            while left and file.tell() <= PACKAGE_BYTES_MAX and (chunk := _read(fd, min(left, _CHUNK_BYTES), name)):
                packed.write(chunk)
                digest.update(chunk)
                left -= len(chunk)
        mode = stat.S_IMODE(status.st_mode) & 0o777
        member = archive.getinfo(name)
        member.external_attr = (stat.S_IFREG | mode) << 16
        self.content.update(b"%s\0%o\0%s" % (name.encode(), mode, digest.digest()))

    def _omit(self, name: str, why: str) -> None:
        self.omitted.append(f"{shown(name)}: {why}")


def _names(directory: Path, tree: Tree, omitted: list[str]) -> Sequence[str]:
    """Give the names of the files to pack, sorted."""
    names = _git_names(directory, 0) if _is_checkout(directory) else None
    if names is None:
        listing = tree.walk(skip={b".git"})
        if listing.unseen:
            raise Usage(f"{directory} cannot be packed: {listing.unseen}; name a smaller --working-dir")
        omitted.extend(f"{shown(name)}: {why}" for name, why in listing.left)
        return listing.names
    if len(names) > ENTRIES_MAX:
        raise Usage(f"{directory} has {len(names)} files to upload and at most {ENTRIES_MAX} are: {_WHAT_TO_DO}")
    return sorted(names)


def _is_checkout(directory: Path) -> bool:
    top = directory.resolve()
    return any((parent / ".git").exists() for parent in (top, *top.parents))


def _git_names(directory: Path, depth: int) -> set[str] | None:
    """Ask git for the files of a checkout and of those within it; None where there is no git or it ignores it all."""
    try:
        names = _git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if not names and _is_ignored(directory):
            return None
    except FileNotFoundError:
        return None
    found: set[str] = set()
    for raw in names.split(b"\0"):
        name = raw.decode("utf-8", "surrogateescape").rstrip("/")
        path = directory / os.fsdecode(raw)
        if not name:
            continue
        if path.is_symlink() or not path.is_dir():
            found.add(name)
        elif (path / ".git").exists() and depth < DEPTH_MAX:  # A submodule, or a checkout that git would not add.
            found.update(f"{name}/{inner}" for inner in _git_names(path, depth + 1) or ())
    return found


def _is_ignored(directory: Path) -> bool:
    is_top = (directory / ".git").exists()  # Which no rule of its own can ignore.
    return not is_top and bool(_git(directory, "check-ignore", "--no-index", "--", str(directory.resolve())))


def _git(directory: Path, *arguments: str) -> bytes:
    """Run git as if it had been started there by hand; nothing that the checkout's settings name is executed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory.absolute()), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  the arguments are ours
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Usage(f"git took more than {GIT_LIMIT_S:g} s to list {directory}: name a smaller --working-dir") from None
    # 1 is what check-ignore says when nothing is ignored.
    if done.returncode not in {0, 1}:
        said = done.stderr.decode(errors="replace").strip()
        raise Usage(f"git does not list {directory} ({said}): mend that, or name a --working-dir outside of a checkout")
    return done.stdout


def _bounded(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - OMITTED_MAX
    return (*sorted(lines)[:OMITTED_MAX], *([f"{more} more files"] if more > 0 else []))


def _zip(file: BinaryIO) -> zipfile.ZipFile:
    return zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)


def _read(fd: int, size: int, name: str) -> bytes:
    try:
        return os.read(fd, size)
    except OSError as error:
        raise Usage(f"{shown(name)} cannot be read ({error.strerror}): move it out of the way, or ignore it") from error


def _too_large(directory: Path, how: str, candidates: Sequence[_Candidate]) -> Usage:
    largest = sorted(candidates, key=lambda candidate: (-candidate.size_bytes, candidate.name))[:LARGEST_SHOWN]
    named = ", ".join(f"{shown(name)} ({_mib(size_bytes)})" for name, size_bytes in largest)
    return Usage(f"{directory} has {how} can be uploaded. The largest files are {named}: {_WHAT_TO_DO}")


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
