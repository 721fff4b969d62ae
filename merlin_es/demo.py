"""What does a new user see first? A real Ray that runs, loses and is found out, in the words that a user would type."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

_WIDTH_MAX = 110
_WORK = """
import pathlib, time
print("bringing up the board", flush=True)
for lane in range(4):
    print(f"lane {lane} is up", flush=True)
    time.sleep(0.2)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/report.json").write_text('{"lanes": 4, "ok": true}\\n')
"""


class Failed(Exception):
    """A step did not do what it says."""


def play(*, keep: bool) -> int:
    """Play all scenes in a new directory; gives the exit code."""
    top = Path(tempfile.mkdtemp(prefix="merlin-demo-"))
    scenes = Scenes(top)
    try:
        scenes.play()
    except Failed as failure:
        print(f"\nmerlin: {failure}", file=sys.stderr)
        return 1
    finally:
        scenes.stop()
        scenes.remove_rays_files()
        if keep:
            print(f"\nThe files are in {top}. Look around:\n  {_python()} -m eventlog verify {top / 'state'}")
        else:
            shutil.rmtree(top, ignore_errors=True)
    if not keep:
        print("\nNothing is left behind; `demo --keep` leaves the files to look at.")
    return 0


class Scenes:
    """The demo, over a directory of its own."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._state = top / "state"
        self._stopped = True
        path = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        (top / "work.py").write_text(_WORK)

    def play(self) -> None:
        """Play every scene."""
        _say(
            "1. Start a Ray head for this directory: its own ports, its own token, its own processes. What is started "
            "is an event in a log; the status is a look at the world, compared with the record."
        )
        self._stopped = False
        self._merlin("cluster", "start-local")
        _say(
            "2. Submit a run. The wish is on disk before Ray is asked, and the submission id is the run id: whatever "
            "crashes, it is submitted once. `--wait` shows its output and ends with its outcome."
        )
        run = self._submit("--capture", "out/*.json", "--wait", "--", sys.executable, "work.py")
        _say("3. What is known of it, and what it left behind. Both stay readable when the cluster is gone.")
        self._merlin("jobs", "status", run)
        self._merlin("artifacts", "list", run)
        self._merlin("jobs", "logs", "--tail", "1", run)
        _say("4. Submit a long one, and kill the head under it with SIGKILL, as a crash of the machine would.")
        long = self._submit("--", sys.executable, "-c", "import time; time.sleep(3600)")
        self._until(long, "running")
        self._kill_head()
        self._merlin("cluster", "status", code=6)
        self._merlin("jobs", "status", long)
        _say(
            "No answer of Ray says nothing about the run, so its status stays, with the time since when it is stale. "
            "Only when a new head answers and does not know it is it `lost`, with the evidence."
        )
        self._merlin("cluster", "start-local")
        self._merlin("reconcile", "--once")
        self._merlin("jobs", "list")
        _say("5. Delete every state file. They are folds of the logs, so they come back, byte for byte.")
        self._delete_and_rebuild()
        _say("6. Stop: this head, and nothing else on this host.")
        self._merlin("cluster", "stop")
        self._stopped = True
        _say("Every line of every log vouches for the lines before it:")
        self._shell([sys.executable, "-m", "eventlog", "verify", "state"])

    def stop(self) -> None:
        """End the head, also after a failure or an interrupt."""
        if not self._stopped:
            self._quietly("cluster", "stop")

    def remove_rays_files(self) -> None:
        """Remove what Ray keeps of its sessions, where the path of `top` is too long for its sockets."""
        record = self._state / "cluster" / "bootstrap.json"
        if record.is_file() and (temp_dir := json.loads(record.read_text())["temp_dir"]):
            shutil.rmtree(Path(temp_dir).parent, ignore_errors=True)

    def _submit(self, *options: str) -> str:
        target = ("--target", "demo_board", "--workflow", "bringup", "--target-dir", ".")
        return self._merlin("jobs", "submit", *target, *options).partition("Run ID: ")[2].partition("\n")[0]

    def _until(self, run: str, status: str) -> None:
        """Wait for a status, at most as long as a slow machine takes to start a job."""
        for _ in range(120):
            if json.loads(self._quietly("jobs", "status", "-o", "json", run) or "{}").get("status") == status:
                return
        raise Failed(f"{run} did not get to be {status}")

    def _kill_head(self) -> None:
        pid = json.loads((self._state / "cluster" / "bootstrap.json").read_text())["pid"]
        print(f"$ kill -9 {pid}")
        os.kill(pid, signal.SIGKILL)
        print()

    def _delete_and_rebuild(self) -> None:
        folded = [path for path in self._state.rglob("*.json") if "witness" not in path.parts]
        before = {path: path.read_bytes() for path in folded}
        for path in [*folded, self._state / "index.sqlite"]:
            path.unlink()
        print(f"$ rm  # {len(folded)} state files and the index")
        self._merlin("rebuild")
        if any(path.read_bytes() != content for path, content in before.items()):
            raise Failed("a rebuilt file differs from what it was")
        print(f"{len(before)} files, each the same bytes as before.\n")

    def _quietly(self, *words: str) -> str:
        argv, where = self._argv(*words), self._top
        done = subprocess.run(argv, cwd=where, env=self._environment, capture_output=True, text=True, check=False)
        return done.stdout

    def _merlin(self, *words: str, code: int = 0) -> str:
        return self._shell(self._argv(*words), f"merlin ray {shlex.join(words)}", code)

    def _argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(self._state), *words]

    def _shell(self, argv: Sequence[str], shown: str = "", code: int = 0) -> str:
        """Run and show a command; gives what it printed."""
        print(f"$ {_short(shown or f'python {shlex.join(argv[1:])}')}", flush=True)
        pipe = subprocess.PIPE
        with subprocess.Popen(
            argv, cwd=self._top, env=self._environment, stdout=pipe, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout  # noqa: S101  asked for
            printed = b""
            for line in process.stdout:
                printed += line
                print(_short(line.decode(errors="replace").rstrip()).replace(f"{self._top}/", ""), flush=True)
        print()
        if process.returncode != code:
            raise Failed(f"that ended with exit code {process.returncode} instead of {code}")
        return printed.decode(errors="replace")


def _say(text: str) -> None:
    width = min(shutil.get_terminal_size((_WIDTH_MAX, 24)).columns, _WIDTH_MAX)
    print(textwrap.fill(text, width) + "\n", flush=True)


def _short(text: str) -> str:
    return text.replace(sys.executable, "python")


def _python() -> str:
    return shlex.quote(sys.executable)
