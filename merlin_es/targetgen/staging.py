"""How do changes become one commit of a branch, all of them or none, and once however often it is asked?

The commit is made beside the checkout, in an index of its own, and the branch is moved to it in one step. Only then are
the files that it changes brought into the worktree; a note says that this is under way, so that it is finished after a
crash. Nothing that a person has changed in the worktree is overwritten: that is looked at before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from merlin_es.errors import Refused
from merlin_es.failpoints import reach
from merlin_es.targetgen.ports import Change
from merlin_es.targetgen.repository import GitFailed, Repository, entries, joined

TRAILER = "TargetGen-Changes"
_NO_LINK = {
    "120000": "is a link in the repository: name what it leads to",
    "160000": "is a submodule, a repository of its own: change it there",
    "100644": "is a file in the repository: a file cannot lie below it",
    "100755": "is a file in the repository: a file cannot lie below it",
}


class Unfit(Exception):
    """Some of the changes cannot be made; `errors` says which and why, and nothing was done."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = tuple(errors)


@dataclass(frozen=True)
class Stage:
    """The worktree at `place` on `branch`, whose lock whoever calls holds, in the repository that `git` asks."""

    git: Repository
    place: Path
    branch: str

    @property
    def here(self) -> Repository:
        """The repository as it is seen from the worktree."""
        return Repository(self.place, self.git.keep, top=True)

    def head(self) -> str:
        """Give the commit that the branch is at; raises GitFailed when there is no such branch."""
        return self.git.word("rev-parse", "--verify", "-q", f"refs/heads/{self.branch}^{{commit}}")

    def commit(self, changes: Sequence[Change], workspace: Path, base: str) -> tuple[str, str]:
        """Make the changes, unless they are made, and give the commits before and after them; raises Unfit."""
        top = Path(os.path.realpath(self.git.directory))
        paths = _paths_in(top, workspace, changes)
        key, head = _key(changes), self.head()
        if made := self._made(key, head, base, paths):
            return f"{made}^", made
        tree = self._tree(head, changes, paths, top, workspace)
        if tree == self.git.word("rev-parse", f"{head}^{{tree}}"):
            return head, head
        touched = self.git.names("diff-tree", "-r", "-z", "--name-only", "--no-renames", head, tree)
        if beyond := sorted(set(touched) - set(paths)):
            raise Unfit([f"{beyond[0]}: it is changed, but no change names it: name it"])
        self._require_untouched(touched)
        text = f"TargetGen: {_subject(paths)}\n\n{TRAILER}: {key}\n"
        made = self.git.word("commit-tree", "-p", head, "-m", text, tree)
        self._note().write_text(made)
        reach("stage.noted")
        self.git.ask("update-ref", "-m", "targetgen", f"refs/heads/{self.branch}", made, head)
        reach("stage.moved")
        self._bring(touched, made)
        reach("stage.brought")
        self._note().unlink()
        return head, made

    def finish(self) -> None:
        """Finish what a call that died had begun; without one there is nothing to do."""
        try:
            made = self._note().read_text()
        except FileNotFoundError:
            return
        # Nobody of ours is at work any more, not even git: it would hold the lock that we have now.
        for name in ("index.lock", f"refs/heads/{self.branch}.lock"):
            with suppress(FileNotFoundError, GitFailed):
                (self.place / self.here.word("rev-parse", "--git-path", name)).unlink()
        if made and self.head() == made:
            touched = self.git.names("diff-tree", "-r", "-z", "--name-only", "--no-renames", f"{made}^", made)
            self._bring(touched, made)
        self._note().unlink(missing_ok=True)

    def _made(self, key: str, head: str, base: str, paths: Sequence[str]) -> str | None:
        """Give the commit that made these very changes, if what it made is there as it made it."""
        found = self.git.word(
            "log", "-1", "--format=%H", "--fixed-strings", f"--grep={TRAILER}: {key}", f"{base}..{head}"
        )
        if found and self.git.succeeds("diff-tree", "-r", "--quiet", found, head, "--", *paths):
            return found
        return None

    def _tree(self, head: str, changes: Sequence[Change], paths: Sequence[str], top: Path, workspace: Path) -> str:
        """Give the tree of `head` with the changes made."""
        index = self.place.with_name(f"{self.place.name}.index")
        for left in (index, index.with_name(f"{index.name}.lock")):
            left.unlink(missing_ok=True)
        try:
            self.here.ask("read-tree", head, index=index)
            errors = [
                f"{change.path}: {error}"
                for change, path in zip(changes, paths, strict=True)
                if (error := self._put(head, change, path, _strip(top, workspace), index))
            ]
            if errors:
                raise Unfit(errors)
            return self.here.word("write-tree", index=index)
        finally:
            index.unlink(missing_ok=True)

    def _put(self, head: str, change: Change, path: str, strip: Sequence[str], index: Path) -> str | None:
        """Make one change in the index; gives why that cannot be."""
        above = [str(parent) for parent in PurePosixPath(path).parents][:-1]
        modes = entries(self.git, head, [*above, path])
        for parent in above:
            if why := _NO_LINK.get(modes.get(parent, "")):
                return f"{parent} {why}"
        mode = modes.get(path, "100644")
        if mode not in ("100644", "100755"):
            return f"it {_NO_LINK.get(mode, 'is a directory: name a file in it')}"
        try:
            if change.how == "diff":
                words = ("apply", "--cached", "--whitespace=nowarn", *strip, "-")
                self.here.ask(*words, stdin=change.text.encode(), index=index)
            else:
                blob = self.git.ask("hash-object", "-w", "--stdin", "--no-filters", stdin=change.text.encode())
                cache = f"{mode},{blob.decode().strip()},{path}"
                self.here.ask("update-index", "--add", "--cacheinfo", cache, index=index)
        except GitFailed as error:
            said = "; ".join(str(error).splitlines())
            return f"it does not fit what is on {self.branch} ({said}): make it against that, or give the file whole"
        return None

    def _require_untouched(self, touched: Sequence[str]) -> None:
        """Refuse to change what somebody has changed in the worktree and not committed; raises Unfit."""
        words = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored=matching")
        changed = [line[3:] for line in self.here.names(*words, "--ignore-submodules=all", "--", *touched)]
        above = {str(parent) for name in touched for parent in PurePosixPath(name).parents}
        changed += sorted(name for name in above if (self.place / name).is_symlink())
        if changed:
            how = f"commit that (`git -C {self.place} add -A && git -C {self.place} commit`), or undo it"
            raise Unfit([f"{name}: it was changed in {self.place} by hand: {how}" for name in changed])

    def _bring(self, touched: Sequence[str], commit: str) -> None:
        """Bring files into the worktree as the commit has them."""
        there = set(self.git.names("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", *touched))
        gone, present = [name for name in touched if name not in there], [name for name in touched if name in there]
        listed = ("--pathspec-from-file=-", "--pathspec-file-nul")
        if gone:
            self.here.ask("rm", "-f", "-q", "--ignore-unmatch", *listed, stdin=joined(gone))
        if present:
            self.here.ask("checkout", "-f", "-q", commit, *listed, stdin=joined(present))

    def _note(self) -> Path:
        return self.place.with_name(f"{self.place.name}.moving")


def _paths_in(top: Path, workspace: Path, changes: Sequence[Change]) -> list[str]:
    """Give the paths of changes relative to `top`; raises Unfit for those that are not below it."""
    places = [os.path.relpath(Path(os.path.realpath(workspace)) / change.path, top) for change in changes]
    beyond = [change.path for change, place in zip(changes, places, strict=True) if place.split("/")[0] in ("..", ".")]
    if beyond:
        raise Unfit(
            [f"{path}: it is not in the repository of the task, which is {top}: leave it out" for path in beyond]
        )
    return places


def _strip(top: Path, workspace: Path) -> list[str]:
    """Give git the words that make paths of the workspace paths of the repository."""
    relative = os.path.relpath(top, os.path.realpath(workspace))
    if relative == ".":
        return []
    if relative.split("/")[0] != "..":
        return [f"-p{1 + len(relative.split('/'))}"]
    return [f"--directory={os.path.relpath(os.path.realpath(workspace), top)}"]


def _key(changes: Sequence[Change]) -> str:
    return hashlib.sha256(json.dumps([asdict(change) for change in changes]).encode()).hexdigest()


def _subject(paths: Sequence[str]) -> str:
    name = PurePosixPath(paths[0]).name
    return name if len(paths) == 1 else f"{name} and {len(paths) - 1} more"


def require_branch(stage: Stage) -> None:
    """Refuse a worktree in which something else than its branch is checked out; raises Refused."""
    on = stage.here.tried("symbolic-ref", "-q", "HEAD").stdout.decode().strip()
    if on != f"refs/heads/{stage.branch}":
        raise Refused(
            f"{stage.place} is on {on.removeprefix('refs/heads/') or 'no branch'} and not on {stage.branch}: "
            f"run `git -C {stage.place} switch {stage.branch}`"
        )
