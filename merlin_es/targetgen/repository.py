"""How is git asked so that it answers the same whoever the user is, and nothing of theirs is touched?

Identity, hooks, signatures and all that changes what is written are set here; what decides how files look in a checkout
(line ends, large file storage) stays as the user has it, so that a worktree is built as their own checkout is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from merlin_es.errors import Refused

AUTHOR, EMAIL = "Merlin TargetGen", "targetgen@merlin.invalid"
LIMIT_S = 1800.0
"""For one call of git; the longest one checks out a compiler."""
_SETTINGS = {
    "apply.ignoreWhitespace": "no",
    "commit.gpgSign": "false",
    "core.commentChar": "#",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "gc.auto": "0",
    "i18n.commitEncoding": "UTF-8",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
}
_WORDS = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]


class GitFailed(Exception):
    """Git did not do what it was asked; the text is what it said."""


@dataclass(frozen=True)
class Repository:
    """A checkout, as git sees it from `directory`; a `top` has it seen from nowhere else than its own directory.

    `keep` is a descriptor that git is to hold open while it lives.
    """

    directory: Path
    keep: int | None = None
    top: bool = False

    def ask(self, *words: str, stdin: bytes = b"", index: Path | None = None) -> bytes:
        """Run git and give what it wrote; raises GitFailed, and Refused where there is no git."""
        done = self.tried(*words, stdin=stdin, index=index)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
            raise GitFailed(f"git {words[0]}: {said}")
        return done.stdout

    def word(self, *words: str, index: Path | None = None) -> str:
        """Run git and give the line that it wrote."""
        return os.fsdecode(self.ask(*words, index=index)).removesuffix("\n")

    def names(self, *words: str) -> list[str]:
        """Run git and give the names that it wrote, each ended by a zero byte."""
        return [os.fsdecode(name) for name in self.ask(*words).split(b"\0") if name]

    def succeeds(self, *words: str) -> bool:
        """Run git and tell whether it ended with 0."""
        return self.tried(*words).returncode == 0

    def tried(self, *words: str, stdin: bytes = b"", index: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run git, however it ends."""
        try:
            return subprocess.run(  # noqa: S603  the words are ours, and no shell reads them
                ["git", *_WORDS, *words],  # noqa: S607  the git of whoever asks
                cwd=self.directory,
                env=self._environment(index),
                input=stdin,
                capture_output=True,
                pass_fds=() if self.keep is None else (self.keep,),
                timeout=LIMIT_S,
                check=False,
            )
        except FileNotFoundError:
            if not self.directory.is_dir():
                raise Refused(f"{self.directory} is not there: make it, or correct the repository root") from None
            raise Refused("there is no git on this host: install it, changes are staged in a git worktree") from None
        except subprocess.TimeoutExpired:
            raise GitFailed(f"git {words[0]}: it took more than {LIMIT_S:.0f} s") from None

    def _environment(self, index: Path | None) -> dict[str, str]:
        """Give git's environment: nothing that names another repository, nobody to ask, and an author that is ours."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "CONFIG" in name}
        return {
            **kept,
            "GIT_AUTHOR_NAME": AUTHOR,
            "GIT_AUTHOR_EMAIL": EMAIL,
            "GIT_COMMITTER_NAME": AUTHOR,
            "GIT_COMMITTER_EMAIL": EMAIL,
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            # Else git would take a worktree without its `.git` for a directory of the checkout around it.
            **({"GIT_CEILING_DIRECTORIES": str(self.directory.parent)} if self.top else {}),
            **({"GIT_INDEX_FILE": str(index)} if index else {}),
        }


@dataclass(frozen=True, slots=True)
class Checkout:
    """A worktree as git lists it: where it is, and the branch in it (None when there is none)."""

    path: Path
    branch: str | None


def checkouts(repository: Repository) -> list[Checkout]:
    """Give all worktrees of a repository, also those whose directory is gone."""
    found = []
    for entry in repository.word("worktree", "list", "--porcelain").split("\n\n"):
        fields = dict(line.partition(" ")[::2] for line in entry.split("\n") if line)
        if "worktree" in fields:
            branch = fields.get("branch", "").removeprefix("refs/heads/")
            found.append(Checkout(Path(fields["worktree"]), branch or None))
    return found


def enclosing(directory: Path) -> Path:
    """Give the top of the checkout that `directory` is in; raises Refused when it is in none, or in an empty one."""
    inside = Repository(directory)
    try:
        top = Path(inside.word("rev-parse", "--show-toplevel"))
    except GitFailed as error:
        raise Refused(
            f"{directory} is not in a checkout of git ({error}): make one with `git init` and a first commit"
        ) from None
    relative = os.path.relpath(os.path.realpath(directory), top)
    if relative != "." and _is_submodule(Repository(top), relative):
        raise Refused(
            f"the submodule {relative} is not initialised: run `git submodule update --init {relative}` in {top}"
        )
    return top


def joined(names: Iterable[str]) -> bytes:
    """Give names as git reads them where each is ended by a zero byte."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)


def entries(repository: Repository, commit: str, paths: Sequence[str]) -> dict[str, str]:
    """Give the modes that paths have in a commit, as far as they are there; a directory's is 040000."""
    found = {}
    for entry in repository.names("ls-tree", "-z", "--full-tree", commit, "--", *paths):
        fields, _, path = entry.partition("\t")
        found[path] = fields.split(" ")[0]
    return found


def _is_submodule(repository: Repository, path: str) -> bool:
    listed = repository.ask("ls-files", "--stage", "-z", "--", path)
    return listed.startswith(b"160000 ") and listed.rstrip(b"\0").endswith(b"\t" + os.fsencode(path))
