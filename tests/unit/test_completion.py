"""Does a shell that asks what may come next get the names of what is there, at once and without a word beside them?"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import sysconfig
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from merlin_es.cli import completing
from merlin_es.cli.merlin import app
from projections.events.execution import EXECUTION_EVENTS
from projections.projection import event_types
from tests.examples import ROOT
from tests.unit.test_imports import HEAVY
from tests.unit.test_ray_cli import lines

LIMIT_S: Final = 120.0
SHELLS = [each for each in ("bash", "zsh", "fish") if shutil.which(each)]
"""Those of this host; the others are asked for by what they would send."""


class Place:
    """A directory with a state root in it, in which shells run; `merlin` is a program there."""

    def __init__(self, top: Path) -> None:
        self.top = top
        program = top / "bin" / "merlin"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m merlin_es "$@"\n')
        program.chmod(0o755)
        paths = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}
        ours = {"PYTHONPATH": paths, "MERLIN_FSYNC": "off", "PATH": f"{program.parent}:{os.environ['PATH']}"}
        self.environment = {**kept, **ours, "HOME": str(top), "TERM": "dumb"}
        submit = "ray jobs submit --target npu --workflow w --target-dir out -- ls"
        self.runs = [lines(self.merlin(*submit.split()))["Run ID"] for _ in range(2)]
        self.lease = self.merlin(*["ray", "resources", "reserve", "u250", "--owner", "ada", "-q"]).strip()
        elsewhere = ["ray", "--state-root", "my root", *submit.replace("npu", "zed").split()[1:]]
        self.run_elsewhere = lines(self.merlin(*elsewhere))["Run ID"]
        orchestrate = "targetgen orchestrate --example nvidia_ada --out-dir out"
        self.merlin(*orchestrate.split())
        self.merlin(*["targetgen", "execute", "--from-dir", "out/nvidia_ada"])

    def merlin(self, *words: str, **variables: str) -> str:
        return self.run(["merlin", *words], **variables)

    def run(self, argv: list[str], **variables: str) -> str:
        environment = {**self.environment, **variables}
        done = subprocess.run(
            argv, cwd=self.top, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert "Traceback" not in done.stderr
        return done.stdout

    def asked(self, text: str, shell: str = "bash") -> list[str]:
        """Give the candidates for the last word of a command line."""
        words = text.split()[1:] + ([""] if text.endswith(" ") else [])
        return self.merlin(*words, _MERLIN_COMPLETE=shell).splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("completion"))


def test_what_is_there_is_offered_where_it_is_meant(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.top)

    def asked(text: str) -> list[str]:
        *before, last = text.split()[1:] + ([""] if text.endswith(" ") else [])
        found = completing.candidates(app.group("merlin"), before, last, with_help=False)
        return [each.word for each in found]

    newest = place.runs[::-1]
    assert asked("merlin ray jobs status npu") == newest
    assert asked("merlin ray jobs cancel ") == newest
    assert asked("merlin ray --state-root nowhere jobs cancel ") == [], "those of the state root that is named"
    assert asked("merlin ray diff x npu") == newest
    assert asked("merlin ray resources release lease-") == [place.lease]
    assert asked("merlin ray resources drain u") == ["u250"]
    assert asked("merlin ray jobs submit --lease ") == ["u250"]
    assert asked("merlin ray events --type run.st") == ["run.started"]
    assert asked("merlin ray wait x compl") == ["completed"]
    assert asked("merlin ray jobs list --status dr") == ["dry_run"]
    assert asked("merlin ray jobs list -o js") == ["json", "jsonl"]
    assert asked("merlin targetgen plan --example gem") == ["gemmini"]
    question = "merlin targetgen answer --target-dir out/nvidia_ada --question-id imp"
    assert asked(question) == ["implement_runtime_hal-device"]
    assert asked("merlin ray jobs l") == ["list", "logs"]
    assert "--state-root" in asked("merlin ray --")
    assert asked("merlin completion z") == ["zsh"]
    assert asked("merlin schema ray.jobs.") == []


def test_each_shell_is_answered_in_its_own_way(place: Place) -> None:
    assert place.asked("merlin ray jobs list --status=dr", "bash") == ["--status=dry_run"[9:]]
    assert place.merlin(*["ray", "jobs", "list", "--status", "=", "dr"], _MERLIN_COMPLETE="bash") == "dry_run\n"
    assert place.asked("merlin ray jobs list --status=dr", "zsh") == ["--status=dry_run"]
    assert place.asked("merlin ray arch", "zsh") == ["archive:Compress the log of a run that has ended,..."]
    assert place.asked("merlin ray arch", "fish") == ["archive\tCompress the log of a run that has ended,..."]


def test_words_are_taken_as_they_are_meant_however_they_are_quoted(place: Place) -> None:
    for root in ("'my root'", '"my root"', "my\\ root", '~/"my root"'):
        words = ["ray", "--state-root", root, "jobs", "status", "'z"]
        assert place.merlin(*words, _MERLIN_COMPLETE="bash") == f"{place.run_elsewhere}\n", root


def test_nothing_wrong_is_ever_told_to_a_shell(place: Place) -> None:
    broken = place.top / "broken"
    broken.mkdir()
    (broken / "runs").touch()
    for words in (
        "merlin ray --state-root /nowhere/at/all jobs status ",
        f"merlin ray --state-root {broken} jobs status ",
        "merlin ray jobs list --nonsense ",
        "merlin nonsense ",
        "merlin targetgen answer --target-dir /nowhere --question-id ",
        "merlin ray jobs submit -- ls ",
    ):
        done = subprocess.run(
            ["merlin", *words.split()[1:], ""],
            cwd=place.top,
            env={**place.environment, "_MERLIN_COMPLETE": "bash"},
            capture_output=True,
            timeout=LIMIT_S,
            check=True,
        )
        assert done.stderr == b"", words
    (place.top / "pyproject.toml").write_text("no TOML")
    try:
        assert place.asked("merlin ray jobs status npu") == []
    finally:
        (place.top / "pyproject.toml").unlink()


def test_a_shell_does_not_wait_for_what_only_verbs_need(place: Place) -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "merlin_es", "ray", "jobs", "status", "npu"]
    environment = {**place.environment, "_MERLIN_COMPLETE": "bash"}
    done = subprocess.run(argv, cwd=place.top, env=environment, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert place.runs[0] in done.stdout
    assert not imported & {*HEAVY, "merlin_es.bootstrap", "merlin_es.cli.cluster", "tomllib"}


def test_the_types_that_are_offered_are_those_of_the_vocabulary() -> None:
    assert {*event_types(), *EXECUTION_EVENTS.types} <= set(completing.event_types())
    group = app.group("merlin")
    found = completing.candidates(group, ["ray", "events", "--type"], "run.su", with_help=False)
    assert [each.word for each in found] == ["run.submission_started", "run.submitted", "run.submission_failed"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_in_its_name(place: Place, shell: str) -> None:
    script = place.merlin("completion", shell)
    assert f"_MERLIN_COMPLETE{' ' if shell == 'fish' else '='}{shell}" in script
    if shell in SHELLS:
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=LIMIT_S)


BEGUN = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "--no-rcs", "-i"],
    "fish": ["fish", "--no-config", "--private", "-i"],
}
SOURCED = {
    "bash": "bind 'set enable-bracketed-paste off'; source <(merlin completion bash)",
    "zsh": "source <(merlin completion zsh)",
    "fish": "merlin completion fish | source",
}


@pytest.fixture
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in SHELLS:
        pytest.skip(f"there is no {name} here: `apt install {name}` has this test run")
    return name


@pytest.mark.parametrize("shell", BEGUN, indirect=True)
def test_a_real_shell_completes_what_is_typed_into_it(place: Place, shell: str) -> None:
    """The words are typed into a shell on a terminal, with the key that completes, as a person does."""
    leader, follower = pty.openpty()
    environment = {**place.environment, "PS1": "$ ", "TERM": "xterm", "HOME": str(place.top / "home")}
    (place.top / "home").mkdir(exist_ok=True)
    process = subprocess.Popen(
        BEGUN[shell],
        cwd=place.top,
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(follower)
    drained = threading.Thread(target=_drain, args=(leader,), daemon=True)
    drained.start()
    try:
        _type(leader, SOURCED[shell] + f"; echo ready > ready-{shell}")
        assert _said(place.top / f"ready-{shell}") == "ready\n"
        _type(leader, f"merlin ray resou\twho u\t > key-{shell}")
        assert "ada" in _said(place.top / f"key-{shell}")
        _type(leader, f"merlin ray --state-root 'my root' jobs stat\t--cach\t\"z\t > run-{shell}")
        assert _said(place.top / f"run-{shell}").startswith(f"Run ID: {place.run_elsewhere}\n")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        drained.join(LIMIT_S)
        os.close(leader)


@pytest.mark.parametrize("shell", ["fish"], indirect=True)
def test_a_real_fish_shows_what_a_candidate_means(place: Place, shell: str) -> None:
    asked = 'merlin completion fish | source; complete --do-complete "merlin ray jobs list --stat"'
    assert place.run([shell, "--no-config", "--private", "-c", asked]) == "--status\tOnly runs of this status.\n"


def _type(leader: int, line: str) -> None:
    os.write(leader, line.encode() + b"\n")


def _drain(leader: int) -> None:
    """Read what a shell shows, which else would wait for somebody who does."""
    with suppress(OSError):
        while os.read(leader, 65536):
            pass


def _said(path: Path) -> str:
    """Give what a command has written, as soon as all of it is there."""
    until = time.monotonic() + LIMIT_S
    while not (path.is_file() and path.read_text().endswith("\n")) and time.monotonic() < until:
        time.sleep(0.05)
    return path.read_text()
