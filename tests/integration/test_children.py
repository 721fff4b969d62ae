"""Does a command end in time, with all that it started, and is what it wrote kept? Validation and agents rest on it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eventlog
from merlin_es import processes
from merlin_es.errors import Usage
from merlin_es.targetgen import children, launchers
from merlin_es.targetgen.agents import CommandAgent
from merlin_es.targetgen.ports import Ran
from merlin_es.targetgen.validation import ShellValidation, without_secrets
from tests.e2e.lab import until
from tests.examples import ROOT


class Bench:
    """A directory to run commands in, and the store of their outputs."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.blobs = eventlog.BlobStore(top / "blobs", disk=eventlog.UnsyncedDisk())
        self.validation = ShellValidation(self.blobs, dict(os.environ))

    def run(self, command: str, limit_s: float = 60) -> tuple[Ran, str]:
        ran = self.validation.run(command, self.top, limit_s)
        return ran, self.blobs.get(ran.output_sha256).decode()

    def agent(self, *words: str) -> CommandAgent:
        return CommandAgent(shlex.join(words), self.blobs, dict(os.environ), self.top)

    def alive(self, *names: str) -> list[str]:
        """Give the pids that a command has left in files, as far as these live."""
        pids = [(self.top / name).read_text().strip() for name in names]
        return [pid for pid in pids if (known := processes.identify(int(pid))) and processes.is_alive(known)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_command_is_run_where_it_belongs_and_what_it_writes_is_kept(bench: Bench) -> None:
    ran, output = bench.run('pwd; echo "$PWD" >&2; read line || echo nothing to read; exit 3')
    assert ran.argv[:2] == ("/bin/sh", "-c")
    assert (ran.exit_code, ran.timed_out, ran.succeeded) == (3, False, False)
    assert output == f"{bench.top}\n{bench.top}\nnothing to read\n"
    assert ran.duration_s > 0
    assert bench.run("true")[0].succeeded
    assert bench.run("no-such-command")[0].exit_code == 127
    assert bench.run("kill -9 $$")[0].exit_code == -9


def test_a_directory_that_is_not_there_is_an_error(bench: Bench) -> None:
    with pytest.raises(NotADirectoryError):
        bench.validation.run("true", bench.top / "none", 1)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(bench: Bench) -> None:
    deaf = "trap '' TERM; echo $$ > deaf; while :; do sleep 1; done"
    apart = f"setsid sh -c {shlex.quote(deaf)} & sleep 600 & echo $! > child; echo begun; wait"
    ran, output = bench.run(apart, limit_s=3)
    assert ran.timed_out
    assert not ran.succeeded
    assert ran.exit_code < 0
    assert "begun" in output
    assert bench.alive("deaf", "child") == []


def test_nothing_is_left_of_a_command_that_has_ended(bench: Bench) -> None:
    ran, output = bench.run("(trap '' TERM; echo $BASHPID; exec sleep 600) & echo $! > left; (yes &) ; echo over")
    assert ran.succeeded
    assert "over" in output
    assert bench.alive("left") == []


def test_the_middle_of_an_output_that_is_too_long_is_left_out(bench: Bench) -> None:
    ran, _ = bench.run("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last")
    kept = bench.blobs.get(ran.output_sha256)
    assert len(kept) < children.OUTPUT_MAX + 100
    assert kept.startswith(b"first\nxxx")
    assert kept.endswith(b"xxx\nlast\n")
    assert b"[merlin: 3951" in kept


def test_what_a_killed_call_left_running_is_ended_by_the_next_one(bench: Bench) -> None:
    script = "import sys; from tests.integration.test_children import Bench; from pathlib import Path;"
    script += "Bench(Path(sys.argv[1])).run('echo $$ > pid; exec sleep 600')"
    caller = subprocess.Popen([sys.executable, "-c", script, str(bench.top)], cwd=ROOT)
    until(lambda: (bench.top / "pid").exists() and (bench.top / "pid").read_text())
    caller.kill()
    caller.wait()
    assert len(bench.alive("pid")) == 1
    assert bench.run("grep -qs '^State:.[RSD]' /proc/$(cat pid)/status")[0].exit_code, (
        "it does not run beside the next one"
    )
    assert bench.alive("pid") == []


def test_a_call_that_is_told_to_stop_ends_its_command(bench: Bench) -> None:
    script = "import sys; from merlin_es.cli import _prepare; _prepare();"
    script += "from tests.integration.test_children import Bench; from pathlib import Path;"
    script += "Bench(Path(sys.argv[1])).run('echo $$ > pid; exec sleep 600')"
    caller = subprocess.Popen([sys.executable, "-c", script, str(bench.top)], cwd=ROOT)
    until(lambda: (bench.top / "pid").exists() and (bench.top / "pid").read_text())
    caller.send_signal(signal.SIGTERM)
    assert caller.wait(60) == 128 + signal.SIGTERM
    assert bench.alive("pid") == []


def test_validation_knows_no_secrets() -> None:
    secret = {"AIHUB_API_TOKEN": "1", "my_password": "2", "OPENAI_API_KEY": "3", "AWS_SECRET_ACCESS_KEY": "4"}
    secret |= {"HTTPS_PROXY": "http://u:p@proxy", "SSH_AUTH_SOCK": "/s", "GIT_DIR": "/x", "BOARD_LOGIN": "named"}
    plain = {"PATH": "/bin", "HOME": "/root", "PWD": "/", "KEYBOARD": "us", "URL": "http://host:80/a@b"}
    assert without_secrets({**secret, **plain}, ("BOARD_LOGIN",)) == plain


@pytest.mark.parametrize(
    ("launcher", "wanted"),
    [
        (None, f"{shlex.quote(sys.executable)} tools/merlin.py build --x 'a b'"),
        ("uv run --frozen", "uv run --frozen tools/merlin.py build --x 'a b'"),
        ("", "tools/merlin.py build --x 'a b'"),
    ],
)
def test_the_seeds_launcher_is_replaced_where_it_is_not(launcher: str | None, wanted: str) -> None:
    command = "conda run -n merlin-dev uv run tools/merlin.py build --x 'a b'"
    assert launchers.launched(command, launcher, {"PATH": "/nowhere"}) == wanted
    assert launchers.launched("make conda run", launcher, {"PATH": "/nowhere"}) == "make conda run"


def test_the_seeds_launcher_is_kept_where_its_environment_is(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/conda").write_text("#!/bin/sh\n")
    (tmp_path / "bin/conda").chmod(0o755)
    variables = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), "PYTHONPATH": "/mine"}
    seed = "conda run -n merlin-dev uv run"
    verb = ("targetgen", "execute", "--engine", "local", "--from-dir", "/t", "--resume")
    assert launchers.launched(f"{seed} pytest x", None, variables) != f"{seed} pytest x"
    assert launchers.job(Path("/t"), tmp_path, None, variables) == (
        (sys.executable, "-m", "merlin_es", *verb),
        {"PYTHONPATH": f"{ROOT}:/mine"},
    )
    (tmp_path / "envs/merlin-dev").mkdir(parents=True)
    assert launchers.launched(f"{seed} pytest x", None, variables) == f"{seed} pytest x"
    assert launchers.job(Path("/t"), tmp_path, None, variables) == ((*seed.split(), "tools/merlin.py", *verb), {})


def test_a_launcher_of_ones_own_starts_the_entry_of_the_workspace_or_the_program(tmp_path: Path) -> None:
    words, needed = launchers.job(Path("/t"), tmp_path, "uv run --env-file 'a b'", {})
    assert words[:6] == ("uv", "run", "--env-file", "a b", "merlin", "targetgen")
    assert needed == {}
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/merlin.py").touch()
    assert launchers.job(Path("/t"), tmp_path, "uv run", {})[0][:4] == ("uv", "run", "tools/merlin.py", "targetgen")
    with pytest.raises(Usage, match="close its quotes"):
        launchers.job(Path("/t"), tmp_path, "'", {})


def test_programs_beside_this_interpreter_come_first(bench: Bench) -> None:
    _ran, output = bench.run("conda run -n merlin-dev uv run python -c 'import sys; print(sys.prefix)'")
    assert output == f"{sys.prefix}\n"


WRITE = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text().upper())"


def test_an_agent_reads_the_prompt_and_its_response_appears_as_a_whole(bench: Bench) -> None:
    prompt, response = bench.top / "a prompt.md", bench.top / "a prompt.response.md"
    prompt.write_text("do it")
    ran = bench.agent(sys.executable, "-c", WRITE, "{prompt_file}", "{response_file}").run(prompt, response, 60)
    assert ran.succeeded
    assert str(prompt) in ran.argv
    assert response.read_text() == "DO IT"
    assert sorted(path.name for path in bench.top.iterdir() if "prompt" in path.name) == [prompt.name, response.name]


def test_a_response_that_is_there_is_never_replaced(bench: Bench) -> None:
    response = bench.top / "r"
    response.write_text("by a person")
    words = ("sh", "-c", "test -f x{prompt_file} || echo agent > {response_file}")
    assert bench.agent(*words).run(bench.top / "p", response, 60).succeeded
    assert response.read_text() == "by a person"


@pytest.mark.parametrize(
    ("does", "exit_code"),
    [
        ("echo half > {response_file}; exit 4", 4),
        ("echo half > {response_file}; sleep 600", -15),
        ("ln -s /etc/hostname {response_file}", 0),
        ("mkdir {response_file}; rmdir {response_file}; mkfifo {response_file}", 0),
        ("true", 0),
    ],
)
def test_an_agent_that_fails_or_leaves_no_file_leaves_no_response(bench: Bench, does: str, exit_code: int) -> None:
    ran = bench.agent("sh", "-c", does, "{prompt_file}", "{response_file}").run(bench.top / "p", bench.top / "r", 2)
    assert ran.exit_code == exit_code
    assert [path.name for path in bench.top.iterdir() if path.name != "blobs"] == []


def test_an_agent_that_is_not_there_is_an_exit_code(bench: Bench) -> None:
    ran = bench.agent("no-such-agent", "{prompt_file}", "{response_file}").run(bench.top / "p", bench.top / "r", 2)
    assert ran.exit_code == children.NOT_FOUND
    assert b"no-such-agent" in bench.blobs.get(ran.output_sha256)


@pytest.mark.parametrize("command", ["", "'", "agent {prompt_file}", "agent {response_file}"])
def test_a_command_that_cannot_be_an_agent_is_refused_at_once(bench: Bench, command: str) -> None:
    with pytest.raises(Usage, match="--agent-command"):
        CommandAgent(command, bench.blobs, {}, bench.top)


def test_the_clock_of_the_wall_plays_no_part(bench: Bench) -> None:
    begun = time.monotonic()
    ran, _ = bench.run("sleep 0.2")
    assert 0.2 <= ran.duration_s <= time.monotonic() - begun
