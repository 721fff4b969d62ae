"""Is what the demo shows real: can its commands be copied, is its repository one, and does its stand-in do the work?"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from merlin_es.demo import workspace
from merlin_es.demo.interruption import Interruption
from merlin_es.demo.screen import Screen, as_typed
from merlin_es.demo.shell import Failed, Shell
from merlin_es.demo.story import QUESTION, TARGET, TASK, WITH, Story
from merlin_es.demo.workspace import Workspace
from merlin_es.errors import MerlinError, Usage

WIDTH = 80


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace.make(tmp_path / "demo")


def call(place: Workspace, *words: str, code: int = 0, **variables: str) -> str:
    """Type a command in the workspace."""
    done = subprocess.run(
        words,
        cwd=place.top,
        env={**os.environ, "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


WORDS = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))
OPTIONS = st.from_regex(r"--[a-z]{1,30}", fullmatch=True)


@settings(deadline=None)
@given(words=st.lists(WORDS | OPTIONS, min_size=1))
@example(words=["./merlin", "targetgen", "execute", "--example", TARGET, *WITH])
def test_a_command_that_is_shown_over_several_lines_is_read_by_a_shell_as_the_same_words(words: list[str]) -> None:
    in_one = as_typed(words, WIDTH).replace(" \\\n", " ")
    assert "\n" not in in_one
    assert shlex.split(in_one) == words


def test_the_commands_of_the_demo_fit_on_a_small_screen_and_options_stay_with_their_values() -> None:
    lines = as_typed(("./merlin", "targetgen", "execute", "--example", TARGET, *WITH), WIDTH).splitlines()
    assert all(len(f"$ {line}") <= WIDTH for line in lines)
    assert not [line for line in lines if line.rstrip(" \\").split()[-1].startswith("--")]


def test_every_scene_says_in_one_line_what_it_means(place: Workspace) -> None:
    scenes = Story(place, Screen(io.StringIO(), {}), {}, Interruption()).scenes()
    meanings = [f"{len(scenes)}/{len(scenes)}  {scene.meaning}" for scene in scenes]
    assert all(len(meaning) <= WIDTH for meaning in meanings)
    assert len(set(meanings)) == len(meanings) == 11


def test_what_is_piped_has_no_colour_and_no_line_that_is_written_over() -> None:
    out = io.StringIO()
    screen = Screen(out, {})
    screen.say("a", loud=True)
    with screen.waiting("b"):
        screen.typed("c")
    assert out.getvalue() == "a\n$ c\n"


def test_on_a_terminal_what_takes_long_says_for_how_long_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merlin_es.demo.screen.PATIENCE_S", 0.0)
    monkeypatch.setattr("merlin_es.demo.screen._STEP_S", 0.001)
    out = io.StringIO()
    screen = Screen(out, {"NO_COLOR": "1"}, live=True)
    with screen.waiting("Ray starts"):
        while "0 s: Ray starts ..." not in out.getvalue():
            pass
        screen.line("it is there")
    lines = [line.rpartition("\r\x1b[K")[2] for line in out.getvalue().split("\n")]
    assert lines == ["it is there", ""]


def test_the_workspace_is_a_repository_and_its_merlin_is_this_one_on_its_own_files(
    place: Workspace, tmp_path: Path
) -> None:
    assert call(place, "git", "status", "--porcelain") == ""
    assert "stand_in.py" in call(place, "git", "ls-files")
    call(place, "./merlin", "ray", "resources", "reserve", "k", "--owner", "ada", MERLIN_STATE_ROOT=str(tmp_path / "s"))
    assert not (tmp_path / "s").exists(), "whatever the user has set is about their own files"
    assert (place.state / "resources" / "events.jsonl").is_file()
    assert call(place, "git", "status", "--porcelain") == ""


def test_nothing_of_anybodys_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Usage, match="not empty"):
        workspace.make(tmp_path)
    with pytest.raises(Usage, match="no directory"):
        workspace.make(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "theirs",
    [
        ("sh", "-c", "echo mine > notes.txt"),
        ("sh", "-c", "echo mine > third_party/notes.txt"),
        ("sh", "-c", "echo mine >> stand_in.py"),
        ("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", "mine"),
        ("sh", "-c", "echo '#!/bin/sh' > merlin"),
    ],
)
def test_a_workspace_is_played_in_again_unless_somebody_has_put_anything_there(
    place: Workspace, theirs: tuple[str, ...]
) -> None:
    with pytest.raises(Usage, match="somebody plays the demo"):
        workspace.make(place.top)
    place.leave()
    (place.top / "build").mkdir()
    (place.top / "build" / "left").touch()
    again = workspace.make(place.top)
    assert not (place.top / "build").exists()
    assert call(place, "git", "log", "--oneline").count("\n") == 1
    call(place, *theirs)
    again.leave()
    with pytest.raises(Usage, match="not empty"):
        workspace.make(place.top)
    assert (place.top / ".git").is_dir()


def test_what_cannot_be_made_leaves_a_named_directory_as_empty_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nkill -INT $$\n")  # As a terminal does to the whole group.
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(git.parent), prepend=os.pathsep)
    with pytest.raises(MerlinError, match="run the demo again"):
        workspace.make(tmp_path / "demo")
    assert list((tmp_path / "demo").iterdir()) == []


def test_without_git_somebody_is_told_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Usage, match="install it"):
        workspace.make(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_the_stand_in_answers_the_one_prompt_that_it_knows_and_its_work_is_proved(place: Workspace) -> None:
    here = WITH[WITH.index("--prompt-backend") :]
    words = ("./merlin", "targetgen", "execute", "--example", TARGET, *here)
    assert f"Open question: {QUESTION}\n" in call(place, *words, code=17)
    directory = f"build/generated/targetgen/{TARGET}"
    call(place, "python3", "tests/same_results.py", code=1)
    answer = ("--target-dir", directory, "--question-id", QUESTION, "--choice", "apply_in_worktree")
    call(place, "./merlin", "targetgen", "answer", *answer)
    done = call(place, "./merlin", "targetgen", "execute", "--from-dir", directory, *here)
    assert "Outcome: completed\n" in done
    [kernel] = (place.top / directory / "mutation" / "worktree_root").rglob("opu.py")
    worktree = next(parent for parent in kernel.parents if (parent / ".git").exists())
    proof = subprocess.run([sys.executable, "tests/same_results.py"], cwd=worktree, capture_output=True, text=True)
    assert (proof.returncode, proof.stdout.count("the results of the portable kernel")) == (0, 2)
    kernel.write_text(kernel.read_text().replace("left * right", "left * right + (lane == 31)"))
    proof = subprocess.run([sys.executable, "tests/same_results.py"], cwd=worktree, capture_output=True, text=True)
    assert (proof.returncode, "32x32: other results" in proof.stdout) == (1, True)
    assert f"`{TASK}`" in (place.top / directory / "prompts" / "prompt_003.md").read_text()
    other = place.top / directory / "prompts" / "prompt_001.md"
    call(place, "python3", "stand_in.py", str(other), str(place.top / "answer.md"), code=1)
    assert not (place.top / "answer.md").exists()


def test_a_command_that_ends_otherwise_ends_the_demo_and_says_what_to_do(place: Workspace) -> None:
    out = io.StringIO()
    shell = Shell(place, Screen(out, {}), os.environ, Interruption())
    assert shell.type("sh", "-c", f"echo in {place.top}/here; exit 3", code=3) == f"in {place.top}/here\n"
    with pytest.raises(Failed, match=r"exit code 4\. Ask somebody, then run the demo again"):
        shell.type("sh", "-c", "exit 4", mend="Ask somebody")
    assert shell.type("seq", "5", lines=2) == "1\n2\n3\n4\n5\n"
    assert shell.type("seq", "5", lines=-2) == "1\n2\n3\n4\n5\n"
    assert out.getvalue().endswith("$ seq 5\n(3 lines before these)\n4\n5\n\n")
    assert "in here\n" in out.getvalue()
    assert "1\n2\n(3 lines more)\n\n" in out.getvalue()
