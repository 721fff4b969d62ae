"""What does the executor of a plan need from the world, in its own words? Adapters speak those of git and the shell.

What goes wrong in the ordinary way is an answer, not an error: a response that cannot be used, a change that does not
apply, a command that fails or takes too long. Each is recorded, and somebody can do something about it. An error is
raised only where nothing could be found out; each method says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Change:
    """One file that a response wants changed.

    `path` is relative to the workspace, normalised, and within the write scope. `text` is all of the new file for
    `whole`, a unified diff of that one file for `diff` (which may also create or remove it).
    """

    path: str
    how: Literal["whole", "diff"]
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response says. Where there are `errors`, one sentence each with line number, it cannot be used as it is.

    `summary` is one line for people: the first four lines that are not blank, each stripped, joined by spaces, and cut
    to 240 characters. Without changes and without errors it proposes nothing: the work is done elsewhere or not needed.
    """

    summary: str
    changes: tuple[Change, ...] = ()
    errors: tuple[str, ...] = ()


class Responses(Protocol):
    """Reads what a human or an agent answered to a prompt: Markdown with fenced diffs, or whole files with paths."""

    def read(self, path: Path, write_scope: Sequence[str]) -> Reading:
        """Read and check a response; one that is empty or not UTF-8 has errors, too.

        `write_scope` holds paths relative to the workspace as the bundle has them, placeholders filled in: a directory
        ends in `/`, and a remark in brackets may follow a path. Raises OSError when the file cannot be read. The same
        bytes give the same reading.
        """
        ...


@dataclass(frozen=True, slots=True)
class Worktree:
    """A checkout of our own, where proposals are applied. `base` is the commit that the branch was made from.

    `path` is the directory of the worktree that stands for the repository root of the task, and `branch` what is
    checked out there. `kept` tells that it was there already, with whatever an earlier attempt left in it.
    """

    path: Path
    branch: str
    base: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of applying changes: all of them or none.

    `diff_summary` has one line a file (`M path (+3 -1)`, where `path` is relative to the workspace); `diff_sha256` is
    the blob that holds the whole diff against `base`. `errors` says for each change that does not apply why, and then
    the worktree is as it was before.
    """

    diff_summary: tuple[str, ...] = ()
    diff_sha256: str | None = None
    errors: tuple[str, ...] = ()


class Worktrees(Protocol):
    """Keeps one git worktree per repository and branch. The user's checkout, index and branch are never touched."""

    def prepare(self, repo_root: Path, branch: str, target_dir: Path) -> Worktree:
        """Give the worktree of `branch` for the repository that holds `repo_root`, made under `target_dir` if needed.

        Repeating the call gives the same worktree, also after a crash in the middle of the first one. Raises Refused
        when there can be none (no git, no git repository, no commit yet, a submodule that is not initialised, the
        branch is checked out elsewhere), with what to do next.
        """
        ...

    def apply(self, worktree: Worktree, repo_root: Path, workspace: Path, changes: Sequence[Change]) -> Applied:
        """Apply `changes`, whose paths are relative to `workspace`, in the worktree of `repo_root`.

        Applying what is applied already changes nothing and is no error, so a crash is followed by the same call. A
        path in another repository than `repo_root`'s, a link that leads out, and a diff that does not fit are
        `errors`. Raises OSError when the disk refuses.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended. `exit_code` is negative for a signal; with `timed_out` it was ended, with all it started.

    `output_sha256` is the blob with what it wrote, stdout and stderr in one, cut in the middle where it is too long;
    `argv` is what was run, exactly; neither has secrets in it.
    """

    argv: tuple[str, ...]
    exit_code: int
    duration_s: float
    output_sha256: str
    timed_out: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself and well."""
        return self.exit_code == 0 and not self.timed_out


class Validation(Protocol):
    """Runs what proves that a change works."""

    def run(self, command: str, cwd: Path, limit_s: float) -> Ran:
        """Run one validation command in a shell at `cwd` and wait; nothing that it started is left when this returns.

        A command that cannot be found is an exit code like any other (127). Raises OSError when no process can be made
        or `cwd` is not there.
        """
        ...


class Agent(Protocol):
    """Writes responses by itself. There is none unless one is configured."""

    @property
    def command(self) -> str:
        """The command as it was configured, with its placeholders `{prompt_file}` and `{response_file}`."""
        ...

    def run(self, prompt_file: Path, response_file: Path, limit_s: float) -> Ran:
        """Have the agent answer a prompt and wait.

        `response_file` appears whole or not at all (the agent writes beside it), only when the agent succeeded, and one
        that is there already is never replaced. Whether it is there afterwards is for the caller to see. Raises OSError
        when no process can be made.
        """
        ...


class Credentials(Protocol):
    """Tells which secrets this process has. It never gives them away."""

    def has(self, name: str) -> bool:
        """Tell whether the environment variable `name` is set and not empty."""
        ...


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease on a device that this run holds."""

    lease_id: str
    fence: str


class Leases(Protocol):
    """Tells which devices this run holds."""

    def held(self, key: str | None) -> HeldLease | None:
        """Give the lease of this run on `key` (None: on whatever it has one for), None when it holds none now."""
        ...
