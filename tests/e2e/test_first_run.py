"""Does the first command of the README do the main job from a clean clone, and is nothing left when it has ended?"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from merlin_es.ray_adapter.head_files import temp_dir_for
from merlin_es.ray_adapter.heads import head_processes
from tests.conftest import Figure
from tests.e2e.lab import LIMIT_S, until
from tests.examples import ROOT

pytestmark = pytest.mark.xdist_group("ray")

SEEN = (
    "Status: active",
    "Open question: implement_llvm_ukernel-branch_gate",
    "Selected option: apply_in_worktree",
    "Execution: completed",
    "ukernel/opu.py",
    "passed=true",
    "task_states/implement_llvm_ukernel.json",
    "released  ",
    '"fold": 1',
    "run.completed",
    "Forked from: run/",
    "Unreachable since",
    "each with the same bytes as before",
    "Nothing runs any more.",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a clean clone of this checkout, with what is not committed yet."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    listing = ["git", "ls-files", "--modified", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listing, cwd=ROOT, text=True).splitlines():
        (clone / name).unlink(missing_ok=True)
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    return clone


def sessions_of(top: Path) -> Path:
    """Give where Ray keeps the sessions of a workspace whose path is too long for its sockets."""
    temp_dir = temp_dir_for(top / "build/generated/ray/cluster/head")
    assert not temp_dir.is_relative_to(top)
    return temp_dir


def status(clone: Path) -> str:
    return subprocess.check_output(["git", "status", "--porcelain"], cwd=clone, text=True)


def environment(places: Path) -> Mapping[str, str]:
    """Give the environment of a new user, whose `python3` has what Merlin needs, so that nothing is fetched."""
    places.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MERLIN_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mine = {"PATH": path, "TMPDIR": str(places), "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore", "COLUMNS": "80"}
    return {**kept, **mine, "GIT_PAGER": "cat"}


def test_the_first_command_of_the_readme_does_the_main_job_from_a_clean_clone(
    clone: Path, tmp_path: Path, figure: Figure
) -> None:
    command = re.findall(r"^\$ (.*)$", (clone / "README.md").read_text(), re.MULTILINE)[0]
    variables, before = environment(tmp_path / "places"), status(clone)
    demo = subprocess.run(
        ["bash", "-c", command], cwd=clone, env=variables, capture_output=True, text=True, check=False
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    told, _, ending = demo.stdout.partition("Look around:")
    assert [text for text in SEEN if text not in told] == []
    assert "\x1b" not in demo.stdout
    assert "Traceback" not in demo.stdout + demo.stderr
    [top] = (tmp_path / "places").iterdir()
    sessions = sessions_of(top)
    assert head_processes(sessions) == []
    sessions.parent.rmdir()  # To ask for it was to make it; there is nothing in it.
    assert status(clone) == before
    *looks, removal = re.findall(r"^\$ (.*)$", ending, re.MULTILINE)
    assert len(looks) > 5
    looked = subprocess.run(
        ["bash", "-ec", "\n".join(looks)], cwd=clone, env=variables, capture_output=True, text=True, check=False
    )
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "lost" in looked.stdout
    subprocess.run(["bash", "-c", removal], check=True)
    assert list((tmp_path / "places").iterdir()) == []
    figure(re.findall(r"That was all of it, in (\d+ s)", told)[0])


PART = (
    "import sys; from merlin_es import cli; from merlin_es.demo.story import Story; all = Story.scenes; "
    "Story.scenes = lambda story: tuple(all(story)[at - 1] for at in ({scenes})); cli.main()"
)
"""The demo with some of its scenes only, for what comes late in all of it."""


class Demo:
    """A demo that is played in a process group of its own, as under a shell; `places` is where temporary files go."""

    def __init__(self, places: Path, *words: str, scenes: str = "") -> None:
        self.places = places
        begin = ["-c", PART.format(scenes=scenes)] if scenes else [str(ROOT / "tools" / "merlin.py")]
        variables = {**environment(places), "PYTHONPATH": str(ROOT)} if scenes else environment(places)
        self.process = subprocess.Popen(
            [sys.executable, *begin, "demo", *words],
            env=variables,
            cwd=places,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # Whatever whoever starts the tests has.
        )

    def shows(self, text: str) -> None:
        """Read on until a line begins so."""
        assert self.process.stdout
        seen = ""
        while not (line := self.process.stdout.readline()).startswith(text):
            seen += line
            assert line, seen

    def is_told(self) -> str:
        """Give the next line for people."""
        assert self.process.stderr
        return self.process.stderr.readline()

    def end(self) -> str:
        """See it end, with nothing left running; gives what it told people."""
        _, said = self.process.communicate(timeout=LIMIT_S)
        assert running_in(self.places) == []
        assert "Traceback" not in said
        return said


def running_in(places: Path) -> list[str]:
    """Give the commands of all processes that belong to what lies there."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            about = [process / "cmdline", process / "environ"] if process.name.isdecimal() else []
            if any(os.fsencode(places) in path.read_bytes() for path in about):
                found.append((process / "cmdline").read_bytes().decode())
    return found


def test_who_interrupts_the_demo_again_and_again_while_the_head_starts_leaves_nothing_running(tmp_path: Path) -> None:
    places = tmp_path / "places"
    demo = Demo(places)
    until(lambda: list(places.glob("*/build/generated/ray/cluster/head/head.log")))
    [top] = places.iterdir()
    temp_dir = sessions_of(top)
    until(lambda: head_processes(temp_dir))
    os.killpg(demo.process.pid, signal.SIGINT)  # As a terminal does.
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.is_told() == "merlin: ending what runs; it takes a few seconds\n"
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end() == (
        f"merlin: interrupted in scene 2 of 11; nothing runs any more, the files are in {top}\n"
        f"merlin: `rm -rf {top}` removes them; the same command plays it all again\n"
    )
    assert demo.process.returncode == 130
    assert head_processes(temp_dir) == []
    assert not temp_dir.parent.exists()


def test_whoever_ends_the_demo_while_a_run_goes_on_or_its_head_is_dead_can_play_it_again_there(tmp_path: Path) -> None:
    top = tmp_path / "places" / "demo"
    demo = Demo(tmp_path / "places", "--dir", str(top))
    demo.shows("$ ./merlin ray jobs wait ")
    demo.process.terminate()
    assert demo.is_told() == "merlin: ending what runs; it takes a few seconds\n"
    demo.process.send_signal(signal.SIGHUP)
    assert f"interrupted in scene 3 of 11; nothing runs any more, the files are in {top}\n" in demo.end()
    assert demo.process.returncode == 143
    demo = Demo(tmp_path / "places", "--dir", str(top), "--remove", scenes="1, 2, 9")
    demo.shows("$ kill -9 ")
    demo.process.send_signal(signal.SIGHUP)
    assert demo.end().endswith("merlin: interrupted in scene 3 of 3; nothing runs any more, and no file is left\n")
    assert demo.process.returncode == 129
    assert list((tmp_path / "places").iterdir()) == []
