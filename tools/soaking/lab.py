"""What runs in a lab, how does it die, and how is it started again?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from merlin_es import processes
from merlin_es.ray_adapter.head_files import temp_dir_for
from merlin_es.ray_adapter.heads import head_processes
from soaking.place import Place

START_LIMIT_S = 600.0
GONE_LIMIT_S = 60.0
CLIENT_NICENESS = 5
"""Ray gives up on a head that is not up within 30 s: on two cores twenty clients may not be in its way."""


class Stuck(Exception):
    """Something did not come to be within its limit."""


@dataclass
class Lab:
    """The head, the reconciler and the clients of one place; `deaths` counts who was killed."""

    place: Place
    seed: int
    pause_s: float
    durable: bool
    deaths: Counter[str] = field(default_factory=Counter)
    lives: Counter[int] = field(default_factory=Counter)
    clients: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    reconciler: subprocess.Popen[bytes] | None = None

    @property
    def head_directory(self) -> Path:
        """Where Ray keeps the files of this lab's head."""
        return temp_dir_for(self.place.state / "cluster" / "head")

    def pids(self) -> list[int]:
        """Give the processes that write below the state root, the head aside."""
        return [process.pid for process in (*self.clients.values(), self.reconciler) if process]

    def start_head(self) -> None:
        """Have a head that takes jobs, whatever is left of the one before."""
        end, said = time.monotonic() + START_LIMIT_S, ""
        while time.monotonic() < end:
            done = self.place.merlin("ray", "cluster", "start-local", *(["--durable"] if self.durable else []))
            if done.returncode == 0:
                return
            said = done.stderr
            self.kill_head_processes()  # One that lives and gives no answer is no use.
            time.sleep(1)
        raise Stuck(f"no head came up within {START_LIMIT_S:.0f} s: {said}")

    def kill_head(self) -> None:
        """Have the head die as if the machine had lost it, with its jobs."""
        self.kill_head_processes()
        self.deaths["head kills"] += 1

    def kill_head_processes(self) -> None:
        """Kill whatever belongs to the head, until nothing does."""
        while left := head_processes(self.head_directory):
            for process in left:
                processes.send(process, signal.SIGKILL)
            if processes.wait_gone(left, GONE_LIMIT_S):
                raise Stuck("what belongs to the head outlives SIGKILL")

    def start_reconciler(self) -> None:
        """Have the loop run."""
        argv = [sys.executable, "-m", "merlin_es", "ray", "reconcile", "--unblock"]
        with (self.place.top / "reconciler.log").open("ab") as log:
            self.reconciler = subprocess.Popen(
                argv, cwd=self.place.work, env=self.place.environment("reconciler@lab"), stdout=log, stderr=log
            )

    def kill_reconciler(self) -> None:
        """Kill the loop, and start another one."""
        assert self.reconciler
        self.reconciler.kill()
        self.reconciler.wait()
        self.deaths["reconciler kills"] += 1
        self.start_reconciler()

    def start_client(self, number: int) -> None:
        """Begin the next life of a client."""
        words = (self.place.top, number, self.lives[number], self.seed, self.pause_s)
        with (self.place.top / "clients.log").open("ab") as log:
            self.clients[number] = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "soaking.client", *map(str, words)],
                env=self.place.environment(),
                stdout=log,
                stderr=log,
                preexec_fn=lambda: os.nice(CLIENT_NICENESS),
            )
        self.lives[number] += 1

    def kill_client(self, dice: random.Random) -> None:
        """Kill any of the clients, whatever it is doing, and have another one take its place."""
        number = dice.choice(sorted(self.clients))
        self.clients[number].kill()
        self.clients[number].wait()
        self.deaths["client kills"] += 1
        self.start_client(number)

    def send_clients_home(self) -> None:
        """Have each client finish what it is doing."""
        self.place.stopping.touch()
        for client in self.clients.values():
            client.wait(START_LIMIT_S)
        self.clients.clear()

    def stop(self) -> None:
        """End all that runs, in order where that works and at once where it does not."""
        for process in (*self.clients.values(), self.reconciler):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        with suppress(Exception):  # Whatever hinders it, the next line ends the head.
            self.place.merlin("ray", "cluster", "stop")
        self.kill_head_processes()
        if self.head_directory.parent != self.place.state / "cluster" / "head":
            shutil.rmtree(self.head_directory.parent, ignore_errors=True)


def wait_for(condition: Callable[[], object], limit_s: float, what: str) -> None:
    """Wait until a condition holds; raises Stuck with the words for it."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= end:
            raise Stuck(f"after {limit_s:.0f} s: {what}")
        time.sleep(0.5)


def machine() -> str:
    """Say on what the soak ran."""
    return f"{os.cpu_count()} cores, Python {'.'.join(map(str, sys.version_info[:3]))}, Linux {os.uname().release}"
