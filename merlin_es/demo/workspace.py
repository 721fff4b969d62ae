"""Where does the story take place? In a small git repository of its own, from which this very Merlin is called."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from merlin_es.demo import remains
from merlin_es.errors import HeadFailed, MerlinError, Usage
from merlin_es.ray_adapter.head_files import temp_dir_for
from merlin_es.settings import SETTINGS
from merlin_es.targetgen.repository import GitFailed, Repository

REPOSITORY = Path(__file__).with_name("repository")
"""What the repository begins with."""
_OF_THE_USER = ("MERLIN_ACTOR", "MERLIN_ALLOW_SHARED", "MERLIN_FSYNC")
"""The settings that hold for the demo too; the others are about files and runs of the user's own."""
_IGNORED = "/build/\n/merlin\n__pycache__/\n"


@dataclass(frozen=True)
class Workspace:
    """A directory in which plans are carried out; `held` is the descriptor by which nobody else plays there."""

    top: Path
    held: int

    @property
    def state(self) -> Path:
        """Where Merlin keeps its files when nothing else is said."""
        return self.top / "build/generated/ray"

    def run_directory(self, run_id: str) -> str:
        """Give where the files of a run lie, from the top."""
        return str((self.state / "runs" / run_id).relative_to(self.top))

    def remove_what_lies_elsewhere(self) -> None:
        """Remove what Ray keeps of its sessions, where the path of the state root was too long for its sockets."""
        with suppress(HeadFailed):  # It is somebody else's, and stays.
            elsewhere = temp_dir_for(self.state / "cluster" / "head").parent
            if not elsewhere.is_relative_to(self.top.resolve()):
                shutil.rmtree(elsewhere, ignore_errors=True)

    def leave(self) -> None:
        """Let others play there."""
        os.close(self.held)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.top, ignore_errors=True)


def make(directory: Path | None) -> Workspace:
    """Make a workspace, in a new directory unless one is named; raises Usage and MerlinError."""
    if shutil.which("git") is None:
        raise Usage("there is no git on PATH: install it (`apt install git`), and run the demo again")
    top = Path(tempfile.mkdtemp(prefix="merlin-demo-")) if directory is None else _made(directory)
    held = _held(top)
    try:
        _require_room(top)
        _fill(top)
    except BaseException:
        os.close(held)
        if directory is None:
            shutil.rmtree(top, ignore_errors=True)
        raise
    return Workspace(top, held)


def _fill(top: Path) -> None:
    """Fill an empty directory; where that fails it is empty again."""
    try:
        _write(top)
    except BaseException:
        remains.empty(top)
        raise


def _write(top: Path) -> None:
    shutil.copytree(REPOSITORY, top, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (top / ".gitignore").write_text(_IGNORED, encoding="utf-8")
    (top / "merlin").write_text(_entry(), encoding="utf-8")
    (top / "merlin").chmod(0o755)
    repository = Repository(top, top=True)
    try:
        repository.ask("init", "--quiet", "--initial-branch=main", "--template=")
        repository.ask("add", "--all")
        repository.ask("commit", "--quiet", "--message=A repository for the demo")
    except GitFailed as error:
        raise MerlinError(f"{error}: mend that, and run the demo again") from error


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Usage(f"{directory} is no directory: give --dir one that is new or empty") from None
    return directory.absolute()


def _held(top: Path) -> int:
    """Keep everybody else from playing there; raises Usage where somebody does."""
    held = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise Usage(f"somebody plays the demo in {top}: wait for its end, or give --dir another directory") from None
    except OSError:  # A file system that cannot; two who play in one directory are not known there.
        pass
    return held


def _require_room(top: Path) -> None:
    """Have a directory empty, of what an earlier demo left there too: nothing of anybody's is written over."""
    if next(top.iterdir(), None) is None:
        return
    if not remains.are_own(top):
        raise Usage(f"{top} is not empty: give --dir a directory that is new, empty, or left by a demo as it was")
    remains.clear(top)


def _entry() -> str:
    """Give a program that calls this very Merlin, on the files that lie beside it and on no others."""
    here = shlex.quote(str(Path(__file__).resolve().parents[2]))
    others = " ".join(setting.variable for setting in SETTINGS if setting.variable not in _OF_THE_USER)
    return (
        f"#!/bin/sh\n{remains.MARK}\nunset {others}\n"
        f'PYTHONPATH={here}"${{PYTHONPATH:+{os.pathsep}$PYTHONPATH}}"\nexport PYTHONPATH\n'
        f'exec {shlex.quote(sys.executable)} -P -m merlin_es "$@"\n'
    )
