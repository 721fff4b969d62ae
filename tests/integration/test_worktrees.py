"""Are changes applied in a worktree of their own, all or none and once, and is nothing of the user's touched?"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventlog
from merlin_es.errors import Refused
from merlin_es.targetgen import responses
from merlin_es.targetgen.ports import Change, Worktree
from merlin_es.targetgen.staging import TRAILER
from merlin_es.targetgen.worktrees import GitWorktrees
from tests.conftest import Figure
from tests.examples import ROOT

BRANCH = "targetgen/board-staged"
NEW = Change("src/new.c", "whole", "int n;\n")
EDIT = """\
--- a/src/a.c
+++ b/src/a.c
@@ -1,3 +1,3 @@
 one
-two
+zwei
 three
"""


def diff(text: str) -> tuple[Change, ...]:
    reading = responses.read(f"```diff\n{text}```\n".encode(), ("src/", "sub/", "other/", "link/", "lib/"))
    assert reading.errors == ()
    return reading.changes


def git(where: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True).stdout


class Site:
    """A user's repository, and the target directory in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "src").mkdir(parents=True)
        git(top, "init", "-q", "-b", "main")
        git(top, "config", "user.name", "ada")
        git(top, "config", "user.email", "ada@lab")
        (top / ".gitignore").write_text("build/\n")
        (top / "src/a.c").write_text("one\ntwo\nthree\n")
        (top / "src/run.sh").write_text("true\n")
        (top / "src/run.sh").chmod(0o755)
        git(top, "add", "-A")
        git(top, "commit", "-qm", "first")
        self.target_dir = top / "build/targetgen/board"
        self.blobs = eventlog.BlobStore(top / "build/blobs")
        self.worktrees = GitWorktrees(self.blobs)

    def prepare(self, repo_root: str = ".") -> Worktree:
        return self.worktrees.prepare(self.top / repo_root, BRANCH, self.target_dir)

    def apply(self, worktree: Worktree, *changes: Change, repo_root: str = ".") -> tuple[str, ...]:
        applied = self.worktrees.apply(worktree, self.top / repo_root, self.top, changes)
        return applied.errors or applied.diff_summary

    def commits(self) -> int:
        return int(git(self.top, "rev-list", "--count", BRANCH))

    def users(self) -> list[str]:
        """Give all that is the user's: what is checked out, staged, stashed, and how files differ."""
        words = [("rev-parse", "HEAD"), ("rev-parse", "--abbrev-ref", "HEAD"), ("status", "--porcelain=v2", "-z")]
        words += [("ls-files", "--stage"), ("stash", "list"), ("diff",), ("diff", "--cached"), ("config", "--list")]
        index = (self.top / ".git/index").read_bytes().hex()
        return [git(self.top, *each) for each in words] + [index, *git(self.top, "branch", "--list", "main").split()]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "repo")


def test_a_response_is_one_commit_of_ours_on_the_branch_and_in_the_worktree(site: Site) -> None:
    worktree = site.prepare()
    assert not worktree.kept
    assert worktree.base == git(site.top, "rev-parse", "main").strip()
    removed = diff("--- a/src/run.sh\n+++ /dev/null\n@@ -1 +0,0 @@\n-true\n")
    summary = site.apply(worktree, NEW, *diff(EDIT), *removed)
    assert summary == ("M src/a.c (+1 -1)", "A src/new.c (+1 -0)", "D src/run.sh (+0 -1)")
    assert (worktree.path / "src/a.c").read_text() == "one\nzwei\nthree\n"
    assert (worktree.path / "src/new.c").read_text() == "int n;\n"
    assert not (worktree.path / "src/run.sh").exists()
    assert git(worktree.path, "status", "--porcelain", "--ignored") == ""
    assert git(site.top, "log", "-1", "--format=%an %ae %cn %ce", BRANCH).strip() == (
        "Merlin TargetGen targetgen@merlin.invalid Merlin TargetGen targetgen@merlin.invalid"
    )
    assert TRAILER in git(site.top, "log", "-1", "--format=%B", BRANCH)


def test_the_whole_diff_against_the_base_is_kept(site: Site) -> None:
    worktree = site.prepare()
    site.apply(worktree, NEW)
    applied = site.worktrees.apply(worktree, site.top, site.top, diff(EDIT))
    assert applied.diff_sha256
    kept = site.blobs.get(applied.diff_sha256).decode()
    assert "+zwei" in kept
    assert "+int n;" in kept
    git(site.top, "apply", "--check", str(site.blobs.path(applied.diff_sha256)))


def test_nothing_of_the_users_is_touched(site: Site) -> None:
    (site.top / "src/a.c").write_text("stashed\n")
    git(site.top, "stash")
    (site.top / "src/a.c").write_text("staged\n")
    git(site.top, "add", "src/a.c")
    (site.top / "src/a.c").write_text("dirty\n")
    (site.top / "untracked").write_text("mine")
    before = site.users()
    worktree = site.prepare()
    assert site.apply(worktree, NEW, *diff(EDIT)) == ("M src/a.c (+1 -1)", "A src/new.c (+1 -0)")
    assert site.users() == before
    assert (site.top / "src/a.c").read_text() == "dirty\n"


def test_applied_twice_is_applied_once(site: Site) -> None:
    worktree = site.prepare()
    first = site.apply(worktree, NEW, *diff(EDIT))
    assert site.apply(worktree, NEW, *diff(EDIT)) == first
    assert site.commits() == 2
    again = site.prepare()
    assert again.kept
    assert again.path == worktree.path
    assert again.base == worktree.base
    assert site.apply(again, NEW, *diff(EDIT)) == first
    assert site.commits() == 2


def test_a_response_that_was_undone_by_another_is_applied_again(site: Site) -> None:
    worktree, other = site.prepare(), Change("src/new.c", "whole", "int m;\n")
    for change in (NEW, other, NEW):
        site.apply(worktree, change)
        assert (worktree.path / "src/new.c").read_text() == change.text
    assert site.commits() == 4
    assert site.apply(worktree, Change("src/a.c", "whole", "one\ntwo\nthree\n")) == (), "nothing changes"
    assert site.commits() == 4


def test_all_or_nothing_is_applied_and_every_reason_is_said(site: Site) -> None:
    worktree = site.prepare()
    wrong = diff(EDIT.replace("-two", "-drei") + EDIT.replace("src/a.c", "src/none.c"))
    errors = site.apply(worktree, NEW, *wrong)
    assert [error.partition(":")[0] for error in errors] == ["src/a.c", "src/none.c"]
    assert "patch failed: src/a.c:1" in errors[0]
    assert "No such file" in errors[1] or "does not exist" in errors[1]
    assert site.commits() == 1
    assert not (worktree.path / "src/new.c").exists()
    assert git(worktree.path, "status", "--porcelain", "--ignored") == ""


def test_an_existing_file_keeps_its_mode_and_names_may_be_anything(site: Site) -> None:
    worktree = site.prepare()
    odd = Change("src/ü -x [a]*.c", "whole", "é\n")
    site.apply(worktree, Change("src/run.sh", "whole", "false\n"), odd)
    assert (worktree.path / "src/run.sh").stat().st_mode & 0o111
    assert (worktree.path / odd.path).read_text() == "é\n"
    edit = diff(f"--- a/{odd.path}\n+++ b/{odd.path}\n@@ -1 +1 @@\n-é\n+e\n")
    assert site.apply(worktree, *edit) == (f"M {odd.path} (+1 -1)",)


def test_a_file_may_take_the_place_of_a_directory(site: Site) -> None:
    worktree = site.prepare()
    site.apply(worktree, Change("src/d/x", "whole", "x\n"))
    removed = diff("--- a/src/d/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n")
    site.apply(worktree, *removed)
    site.apply(worktree, Change("src/d", "whole", "d\n"))
    assert (worktree.path / "src/d").read_text() == "d\n"
    assert "is a file in the repository" in site.apply(worktree, Change("src/d/y", "whole", "y\n"))[0]
    assert "is a directory" in site.apply(worktree, Change("src", "whole", "y\n"))[0]


def test_a_link_is_never_written_through(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (site.top / "link").symlink_to(outside)
    (site.top / "src/one").symlink_to(outside / "file")
    git(site.top, "add", "-A")
    git(site.top, "commit", "-qm", "links")
    worktree = site.prepare()
    assert "link is a link" in site.apply(worktree, Change("link/x", "whole", "x\n"))[0]
    assert "it is a link" in site.apply(worktree, Change("src/one", "whole", "x\n"))[0]
    made = diff("--- /dev/null\n+++ b/link/y\n@@ -0,0 +1 @@\n+y\n")
    assert "link is a link" in site.apply(worktree, *made)[0]
    (worktree.path / "lib").symlink_to(outside)  # Nobody has committed this one.
    assert "by hand: commit that" in site.apply(worktree, Change("lib/z", "whole", "z\n"))[0]
    assert list(outside.iterdir()) == []
    assert site.commits() == 2


def test_what_a_person_has_changed_in_the_worktree_is_kept(site: Site) -> None:
    worktree = site.prepare()
    (worktree.path / "src/a.c").write_text("by hand\n")
    (worktree.path / "made").write_text("by a build")
    assert site.apply(worktree, NEW) == ("A src/new.c (+1 -0)",)
    assert (worktree.path / "src/a.c").read_text() == "by hand\n"
    refused = site.apply(worktree, Change("src/a.c", "whole", "x\n"), Change("made", "whole", "x\n"))
    assert len(refused) == 2
    assert all("was changed in" in error and "git -C" in error for error in refused)
    git(worktree.path, "add", "src/a.c")
    git(worktree.path, "commit", "-qm", "mine")
    assert site.apply(worktree, Change("src/a.c", "whole", "x\n")) == ("M src/a.c (+1 -1)",)
    assert (worktree.path / "made").read_text() == "by a build"
    assert site.prepare().kept


def test_the_users_hooks_signatures_and_identity_play_no_part(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = site.top / ".git/hooks"
    for name in ("pre-commit", "post-checkout", "reference-transaction", "post-commit", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {site.top.parent}/hooked\nexit 1\n")
        (hooks / name).chmod(0o755)
    for name, value in [("commit.gpgSign", "true"), ("core.autocrlf", "true"), ("apply.whitespace", "error-all")]:
        git(site.top, "config", name, value)
    git(site.top, "config", "diff.noprefix", "true")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "eve")
    worktree = site.prepare()
    assert site.apply(worktree, Change("src/new.c", "whole", "trailing \n"), *diff(EDIT)) == (
        "M src/a.c (+1 -1)",
        "A src/new.c (+1 -0)",
    )
    monkeypatch.undo()
    assert git(site.top, "cat-file", "blob", f"{BRANCH}:src/new.c") == "trailing \n"
    assert "eve" not in git(site.top, "log", "-1", "--format=%an%cn", BRANCH)
    assert not (site.top.parent / "hooked").exists()


@pytest.mark.parametrize("harm", ["directory removed", "pruned", "no .git", "branch of ours", "detached user"])
def test_a_worktree_that_was_harmed_is_made_again(site: Site, harm: str) -> None:
    worktree = site.prepare()
    site.apply(worktree, NEW)
    if harm == "branch of ours":
        git(site.top, "worktree", "remove", "--force", str(worktree.path))
    elif harm == "detached user":
        git(site.top, "checkout", "-q", "--detach")
    elif harm == "no .git":
        (worktree.path / ".git").unlink()
    else:
        worktree.path.rename(worktree.path.with_name("elsewhere"))
        if harm == "pruned":
            git(site.top, "worktree", "prune")
            worktree.path.mkdir()
            (worktree.path / "mine").write_text("somebody's")
    before = site.users()
    again = site.prepare()
    assert (again.path, again.base) == (worktree.path, worktree.base)
    assert (again.path / "src/new.c").read_text() == "int n;\n"
    assert site.apply(again, NEW) == ("A src/new.c (+1 -0)",)
    assert site.commits() == 2
    assert site.users() == before
    if harm == "pruned":
        assert (worktree.path.with_name(f"{worktree.path.name}.lost-1") / "mine").exists()


def test_what_stands_in_the_way_is_refused_with_what_to_do(site: Site, tmp_path: Path) -> None:
    def refused(repo_root: Path, branch: str = BRANCH) -> str:
        with pytest.raises(Refused) as error:
            site.worktrees.prepare(repo_root, branch, site.target_dir)
        return str(error.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is not in a checkout of git" in refused(empty)
    git(empty, "init", "-q")
    assert "no commit yet" in refused(empty)
    git(tmp_path, "clone", "-q", "--bare", str(site.top), "bare")
    assert "is not in a checkout of git" in refused(tmp_path / "bare")
    assert "is not there" in refused(tmp_path / "none")
    assert "cannot be the name of a branch" in refused(site.top, "targetgen/a..b")
    git(site.top, "worktree", "add", "-q", "-b", BRANCH, str(tmp_path / "other"))
    assert f"is checked out in {tmp_path / 'other'}" in refused(site.top)
    git(site.top, "worktree", "remove", str(tmp_path / "other"))
    worktree = site.prepare()
    git(worktree.path, "switch", "-q", "--detach")
    assert f"switch {BRANCH}" in refused(site.top)


def test_a_submodule_is_a_repository_of_its_own(site: Site, tmp_path: Path) -> None:
    library = Site(tmp_path / "library")
    git(site.top, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.top), "sub/lib")
    git(site.top, "commit", "-qm", "with a submodule")
    before, inside = site.users(), Path("sub/lib")
    worktree = site.prepare("sub/lib/src")
    assert worktree.path.name == "src"
    beyond = Change("src/a.c", "whole", "x\n")
    within = Change("sub/lib/src/a.c", "whole", "x\n")
    assert "is not in the repository of the task" in site.apply(worktree, beyond, within, repo_root="sub/lib/src")[0]
    edit = diff(EDIT.replace("src/a.c", "sub/lib/src/a.c"))
    assert site.apply(worktree, *edit, repo_root="sub/lib/src") == ("M sub/lib/src/a.c (+1 -1)",)
    assert "zwei" in (worktree.path / "a.c").read_text()
    assert site.users() == before
    assert "sub/lib is a submodule" in site.apply(site.prepare(), Change(f"{inside}/x", "whole", "x\n"))[0]
    git(site.top, "submodule", "deinit", "-q", "-f", "sub/lib")
    with pytest.raises(Refused, match="git submodule update --init sub/lib"):
        site.prepare("sub/lib")


def test_a_workspace_may_be_a_part_of_its_repository(site: Site) -> None:
    workspace = site.top / "src"
    worktree = site.worktrees.prepare(workspace, BRANCH, site.target_dir)
    changes = [Change("new.c", "whole", "n\n"), *diff(EDIT)]
    changes[1] = Change("a.c", "diff", changes[1].text.replace("src/a.c", "a.c"))
    applied = site.worktrees.apply(worktree, workspace, workspace, changes)
    assert applied.diff_summary == ("M a.c (+1 -1)", "A new.c (+1 -0)")
    assert (worktree.path / "a.c").read_text() == "one\nzwei\nthree\n"


def test_two_targets_have_two_worktrees_and_two_calls_one_result(site: Site) -> None:
    other = site.worktrees.prepare(site.top, "targetgen/other-staged", site.target_dir.with_name("other"))
    assert other.path != site.prepare().path
    script = "import sys; from tests.integration.test_worktrees import act; act(sys.argv[1])"
    asked = [subprocess.Popen([sys.executable, "-c", script, str(site.top)], cwd=ROOT) for _ in range(3)]
    assert [each.wait(120) for each in asked] == [0] * 3
    assert site.commits() == 2


def act(top: str) -> None:
    """Prepare and apply, as a process of its own."""
    site = object.__new__(Site)
    site.top = Path(top)
    site.target_dir = site.top / "build/targetgen/board"
    site.worktrees = GitWorktrees(eventlog.BlobStore(site.top / "build/blobs", disk=eventlog.UnsyncedDisk()))
    assert site.apply(site.prepare(), NEW, *diff(EDIT)) == ("M src/a.c (+1 -1)", "A src/new.c (+1 -0)")


@pytest.mark.parametrize(
    "point", ["worktree.making", "worktree.made", "stage.noted", "stage.moved", "stage.brought", "random"]
)
def test_killed_anywhere_the_same_call_gives_the_same_result(site: Site, point: str, figure: Figure) -> None:
    before = site.users()
    for number in range(5 if point == "random" else 1):
        script = "import sys; from tests.integration.test_worktrees import act; act(sys.argv[1])"
        environment = {**os.environ, "MERLIN_FAILPOINT": point}
        argv = [sys.executable, "-c", script, str(site.top)]
        child = subprocess.Popen(argv, cwd=ROOT, env=environment, start_new_session=True)
        if point == "random":
            for _ in _until_git(child, random.Random(number).uniform(0, 0.15)):
                os.killpg(child.pid, signal.SIGKILL)  # With git itself, whose locks then stay.
        child.wait(120)
    worktree = site.prepare()
    assert site.apply(worktree, NEW, *diff(EDIT)) == ("M src/a.c (+1 -1)", "A src/new.c (+1 -0)")
    assert site.commits() == 2
    assert git(worktree.path, "status", "--porcelain", "--ignored") == ""
    assert (worktree.path / "src/a.c").read_text() == "one\nzwei\nthree\n"
    assert site.users() == before
    figure(f"killed at {point}, one commit")


def test_a_worktree_whose_checkout_was_killed_with_git_itself_is_made_anew(site: Site) -> None:
    """A filter of the user's repository kills everybody while the first file is being checked out."""
    kill = f"if [ ! -e {site.top.parent}/killed ]; then touch {site.top.parent}/killed; kill -9 0; fi; cat"
    git(site.top, "config", "filter.deadly.smudge", kill)
    (site.top / ".gitattributes").write_text("src/run.sh filter=deadly\n")
    git(site.top, "add", ".gitattributes")
    git(site.top, "commit", "-qm", "deadly")
    script = "import sys; from tests.integration.test_worktrees import act; act(sys.argv[1])"
    child = subprocess.Popen([sys.executable, "-c", script, str(site.top)], cwd=ROOT, start_new_session=True)
    assert child.wait(120) == -signal.SIGKILL
    worktree = site.prepare()
    assert not worktree.kept
    assert git(worktree.path, "status", "--porcelain", "--ignored") == ""
    assert (worktree.path / "src/run.sh").exists()
    assert site.apply(worktree, NEW) == ("A src/new.c (+1 -0)",)
    assert len(git(site.top, "worktree", "list").splitlines()) == 2


def _until_git(child: subprocess.Popen[bytes], delay_s: float) -> Iterator[None]:
    """Yield once, a while after the child has begun to ask git, if it has not ended."""
    from tests.e2e.lab import PAUSE

    while child.poll() is None:
        if Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().strip():
            PAUSE.wait(delay_s)
            if child.poll() is None:
                yield
            return
        PAUSE.wait(0.002)
