"""Where are proposals applied, so that nothing of the user's is touched? In a git worktree below the target directory.

<target directory>/mutation/worktree_root/
    <repository>-<hash>/           the worktree, on the branch `targetgen/<target>-staged`
    <repository>-<hash>.base       the commit that the branch was made from
    <repository>-<hash>.making     there while the worktree is made: what a crash leaves is cleared away
    <repository>-<hash>.moving     there while a commit is brought into it: what a crash leaves is finished
    .lock                          one at a time; git holds it too, as long as it runs
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import eventlog
from merlin_es.errors import Refused
from merlin_es.failpoints import reach
from merlin_es.targetgen.ports import Applied, Change, Worktree
from merlin_es.targetgen.repository import GitFailed, Repository, checkouts, enclosing
from merlin_es.targetgen.staging import Stage, Unfit, require_branch

WORKTREE_ROOT = "mutation/worktree_root"


class GitWorktrees:
    """Worktrees of git; whole diffs go into the blob store."""

    def __init__(self, blobs: eventlog.BlobStore) -> None:
        self._blobs = blobs

    def prepare(self, repo_root: Path, branch: str, target_dir: Path) -> Worktree:
        """Give the worktree of `branch` for the repository that holds `repo_root`; raises Refused."""
        top = enclosing(repo_root)
        place = _place(top, target_dir)
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.parent) as lock:
            stage = Stage(Repository(top, lock), place, branch)
            try:
                kept = self._make(stage)
                base = _base(stage)
            except GitFailed as error:
                raise Refused(
                    f"no worktree of {top} could be made ({error}): mend that, then repeat the call"
                ) from None
        inner = os.path.relpath(os.path.realpath(repo_root), top)
        return Worktree(place if inner == "." else place / inner, branch, base, kept)

    def apply(self, worktree: Worktree, repo_root: Path, workspace: Path, changes: Sequence[Change]) -> Applied:
        """Apply changes in the worktree: all of them or none."""
        top = enclosing(repo_root)
        inner = os.path.relpath(os.path.realpath(repo_root), top)
        place = worktree.path if inner == "." else worktree.path.parents[len(inner.split("/")) - 1]
        with _locked(place.parent) as lock:
            stage = Stage(Repository(top, lock), place, worktree.branch)
            try:
                require_branch(stage)
                stage.finish()
                before, after = stage.commit(changes, workspace, worktree.base)
                diff = stage.git.ask(
                    "diff-tree", "-p", *_PLAIN, "--full-index", "--binary", worktree.base, stage.head()
                )
                return Applied(_summary(stage, before, after, top, workspace), self._blobs.put(diff))
            except Unfit as unfit:
                return Applied(errors=unfit.errors)
            except GitFailed as error:
                raise Refused(f"the changes could not be applied ({error}): mend that, then repeat the call") from None

    def _make(self, stage: Stage) -> bool:
        """Have the worktree be there, and tell whether it was."""
        git, place, branch = stage.git, stage.place, stage.branch
        if not git.succeeds("check-ref-format", f"refs/heads/{branch}"):
            raise Refused(f"{branch!r} cannot be the name of a branch: give the target another name")
        making = place.with_name(f"{place.name}.making")
        if making.exists():
            _clear(stage)
        listed = checkouts(git)
        for other in listed:
            if other.branch == branch and other.path != place and other.path.exists():
                raise Refused(
                    f"the branch {branch} is checked out in {other.path}: go on there, or remove that worktree with "
                    f"`git worktree remove {other.path}`"
                )
        is_known = any(known.path == place for known in listed)
        if is_known and place.exists() and stage.here.succeeds("rev-parse", "--git-dir"):
            require_branch(stage)
            making.unlink(missing_ok=True)
            stage.finish()
            return True
        _put_aside(place)
        making.touch()
        reach("worktree.making")
        self._add(stage)
        reach("worktree.made")
        making.unlink()
        return False

    def _add(self, stage: Stage) -> None:
        """Make the worktree: on the branch as it is, or on a new one from what is checked out now."""
        git, place = stage.git, stage.place
        place.with_name(f"{place.name}.moving").unlink(missing_ok=True)
        # Twice --force: git still knows the place when somebody removed the directory.
        words = ("worktree", "add", "--force", "--force", "--quiet")
        if git.succeeds("rev-parse", "--verify", "-q", f"refs/heads/{stage.branch}^{{commit}}"):
            git.ask(*words, str(place), stage.branch)
            return
        if not git.succeeds("rev-parse", "--verify", "-q", "HEAD^{commit}"):
            raise Refused(f"{git.directory} has no commit yet, so nothing can be changed in it: make a first one")
        base = git.word("rev-parse", "HEAD^{commit}")
        _base_file(place).write_text(base)
        git.ask(*words, "--no-track", "-b", stage.branch, str(place), base)


_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")


def _place(top: Path, target_dir: Path) -> Path:
    """Give the place of the worktree: one for each repository and target directory."""
    root = Path(os.path.realpath(target_dir)) / WORKTREE_ROOT
    mark = hashlib.sha256(os.fsencode(f"{top}\0{root}")).hexdigest()[:8]
    return root / f"{top.name or 'root'}-{mark}"


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Be the only one at work; gives a descriptor that holds the lock for whoever has it open."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _clear(stage: Stage) -> None:
    """Clear away a worktree that was only half made: nobody has worked in it."""
    git, place = stage.git, stage.place
    git.tried("worktree", "unlock", str(place))
    git.tried("worktree", "remove", "--force", "--force", str(place))
    shutil.rmtree(place, ignore_errors=True)
    common = git.directory / git.word("rev-parse", "--git-common-dir")
    for half in (common / "worktrees").glob(f"{place.name}*"):
        shutil.rmtree(half, ignore_errors=True)
    with suppress(FileNotFoundError):
        (common / f"refs/heads/{stage.branch}.lock").unlink()


def _put_aside(place: Path) -> None:
    """Keep what lies where the worktree is to be, and is none that git knows: it may be somebody's work."""
    with suppress(OSError):
        place.rmdir()
    number = 1
    while place.exists():
        with suppress(OSError):
            place.rename(place.with_name(f"{place.name}.lost-{number}"))
        number += 1


def _base_file(place: Path) -> Path:
    return place.with_name(f"{place.name}.base")


def _base(stage: Stage) -> str:
    """Give the commit that the branch was made from, as far as that is known."""
    with suppress(FileNotFoundError):
        noted = _base_file(stage.place).read_text()
        if noted and stage.git.succeeds("merge-base", "--is-ancestor", noted, f"refs/heads/{stage.branch}"):
            return noted
    done = stage.git.tried("merge-base", "HEAD", f"refs/heads/{stage.branch}")
    base = done.stdout.decode().strip() or stage.head()
    _base_file(stage.place).write_text(base)
    return base


def _summary(stage: Stage, before: str, after: str, top: Path, workspace: Path) -> tuple[str, ...]:
    """Say what was done to each file, by its path in the workspace."""
    words = ("diff-tree", "-r", "-z", "--no-renames")
    letters = stage.git.names(*words, "--name-status", before, after)
    kinds = dict(zip(letters[1::2], letters[::2], strict=True))
    lines = []
    for entry in stage.git.names(*words, "--numstat", before, after):
        added, removed, name = entry.split("\t", 2)
        path = os.path.relpath(top / name, os.path.realpath(workspace))
        lines.append(f"{kinds[name]} {path} (+{added} -{removed})")
    return tuple(lines)
