"""Do the verbs print what they always have, say with their exit codes what happened, and hold what they run?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.examples import ROOT

LIMIT_S = 120.0


class Shell:
    """Runs `merlin ray resources …` on a state root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        own = {name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}
        self.environment = {**own, "PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore"}

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(self.root), "resources", *words]

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.words(*words), env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "state")


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_lines_of_old_are_as_they_were(shell: Shell) -> None:
    assert shell.run("list") == "No resource leases.\n"
    lines = shell.run("reserve", "u250", "--owner", "ada", "--metadata", "a=1", "--metadata", "bare").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Lease ID", "Resource", "Status", "Fence"]
    lease_id = lines[0].removeprefix("Lease ID: ")
    assert lines[1:3] == ["Resource: u250", "Status: active"]
    assert shell.run("list") == f"{lease_id} u250 active owner=ada\n"
    document = json.loads((shell.root / "resources" / "leases" / f"{lease_id}.json").read_text())
    assert document["metadata"] == {"a": "1", "bare": "true"}
    assert shell.run("release", lease_id) == f"Lease ID: {lease_id}\nStatus: released\n"
    assert shell.run("release", lease_id) == f"Lease ID: {lease_id}\nStatus: released\n"
    assert shell.run("list") == "No resource leases.\n"
    assert shell.run("list", "--all") == f"{lease_id} u250 released owner=ada\n"
    assert shell.run("list", "--at", "2") == f"{lease_id} u250 active owner=ada\n"


def test_each_refusal_has_its_own_exit_code(shell: Shell) -> None:
    lease = json.loads(shell.run("reserve", "u250", "--owner", "ada", "-o", "json"))
    assert "held by ada" in shell.run("reserve", "u250", "--owner", "bob", code=13)
    assert "not granted within" in shell.run(
        "reserve", "u250", "--owner", "bob", "--wait", "--timeout", "0.5s", code=12
    )
    shell.run("check", lease["lease_id"], "--fence", "1")
    assert "is ada's now" in shell.run("check", lease["lease_id"], "--fence", "7", code=14)
    assert "there is no lease" in shell.run("release", "lease-ffffffffff", code=3)
    shell.run("drain", "u250", "--reason", "a new fan")
    shell.run("release", lease["lease_id"])
    assert "a new fan" in shell.run("reserve", "u250", "--owner", "bob", code=15)
    shell.run("enable", "u250")
    shell.run("retire", "u250", "--reason", "sold")
    assert "sold" in shell.run("reserve", "u250", "--owner", "bob", "--wait", code=16)
    assert "a label" not in shell.run("reserve", "--any", "board=x", "--owner", "bob", "--wait", code=16)
    for bad in (["reserve", "../x", "--owner", "a"], ["reserve", "--owner", "a"], ["reserve", "k", "--owner", " "]):
        shell.run(*bad, code=2)


def test_a_command_holds_its_lease_while_it_runs_and_its_exit_status_is_passed_on(shell: Shell) -> None:
    script = "echo $MERLIN_LEASE_ID $MERLIN_LEASE_FENCE $MERLIN_LEASE_KEY; exit 7"
    line = shell.run("hold", "u250", "x60", "--owner", "ada", "--", "sh", "-c", script, code=7).split()
    assert [len(word.split(",")) for word in line] == [2, 2, 2]
    assert line[1:] == ["1,1", "u250,x60"]
    assert shell.run("list") == "No resource leases.\n"
    holding = shell.start("hold", "u250", "--owner", "ada", "--", "sleep", "60")
    until(lambda: "u250 active" in shell.run("list"))
    holding.send_signal(signal.SIGTERM)
    assert holding.wait(LIMIT_S) == 128 + signal.SIGTERM
    assert shell.run("list") == "No resource leases.\n"
    shell.run("hold", "u250", "--owner", "ada", "--", "/no/such/program", code=2)
    assert shell.run("list") == "No resource leases.\n"


def test_what_is_held_ends_with_a_killed_holder_and_its_command_with_it(shell: Shell, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    holding = shell.start("hold", "u250", "--owner", "ada", "--", "sh", "-c", f"echo $$ > {pid}; exec sleep 60")
    until(lambda: pid.exists() and pid.read_text().strip() != "")
    holding.kill()
    holding.wait(LIMIT_S)
    until(lambda: not Path(f"/proc/{pid.read_text().strip()}/exe").exists())
    shell.run("reserve", "u250", "--owner", "bob")


def test_a_command_whose_lease_was_taken_away_is_ended(shell: Shell) -> None:
    holding = shell.start("hold", "u250", "--owner", "ada", "--ttl", "1s", "--", "sleep", "60")
    until(lambda: "u250 active" in shell.run("list"))
    shell.run("release", "--key", "u250", "--owner", "boss", "--force", "--reason", "it burns")
    assert holding.wait(LIMIT_S) == 14
    assert holding.stderr
    assert "it burns" in holding.stderr.read()


def test_who_waits_is_in_the_queue_and_leaves_it_when_interrupted(shell: Shell) -> None:
    shell.run("reserve", "u250", "--owner", "ada")
    waiting = shell.start("reserve", "u250", "--owner", "bob", "--wait")
    until(lambda: "bob" in shell.run("queue"))
    details = shell.run("list", "--long")
    assert "1. bob waits since" in details
    assert "manual" in details
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(LIMIT_S) == 130
    assert shell.run("queue", "u250") == "Nobody waits.\n"
    waiting = shell.start("reserve", "u250", "--owner", "cid", "--wait", "--timeout", "10m")
    until(lambda: "cid" in shell.run("queue"))
    shell.run("release", "--key", "u250")
    assert waiting.wait(LIMIT_S) == 0
    assert "owner=cid" in shell.run("list")
    seen = shell.run("history", "u250")
    assert [what for what in ("queued", "left", "released", "granted") if what not in seen] == []
    assert "Owner: ada" in shell.run("who", "u250", "--at", "2")
    [use] = json.loads(shell.run("report", "-o", "json"))
    assert (use["key"], use["grants"]) == ("u250", 2)
    assert set(use["owners"]) == {"ada", "cid"}
