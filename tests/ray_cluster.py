"""Which Ray clusters do the tests run on?

`ray_head` is one that they share and that nobody may harm; `own_head` starts one for a single test to destroy. Both
need a few seconds and some memory, so every test that uses them is marked `pytest.mark.xdist_group("ray")`: they
take turns on one worker, as two at once have the machine thrash. Their heads lack what no test looks at: an
autoscaler, who hands output to drivers, and workers in stock.
A watchman ends what is left when the tests are killed themselves.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from merlin_es import processes
from merlin_es.errors import HeadFailed
from merlin_es.ports import Head, Wanted
from merlin_es.ray_adapter.heads import LocalHeads, head_processes
from merlin_es.ray_adapter.tcp_ports import free_port

ENOUGH_FOR_ALL_TESTS = (
    *("--num-cpus=8", "--object-store-memory=100000000", "--no-monitor", "--include-log-monitor=false"),
    '--system-config={"prestart_worker_first_driver": false}',
)
GONE_LIMIT_S = 20.0
RESTARTS_MAX = 3
"""A head that has much to remember takes longer than Ray itself waits for it, where others keep the machine busy."""


class RunningHead:
    """A head that takes jobs."""

    def __init__(self, heads: LocalHeads, wanted: Wanted) -> None:
        self.heads = heads
        self.wanted = wanted
        self.head: Head = heads.start(wanted)

    @property
    def dashboard_url(self) -> str:
        """Where it is asked, as `http://host:port`."""
        return self.head.dashboard_url

    @property
    def token_path(self) -> Path:
        """The file with its token."""
        return self.head.token_path

    def stop(self) -> str:
        """End it in order; once is enough."""
        return self.heads.stop(self.head.process, self.head.temp_dir)


class OwnHead(RunningHead):
    """A head that one test has for itself."""

    def kill(self) -> None:
        """Have it die as if the machine had lost it: SIGKILL for Ray's processes, the jobs and what these started."""
        left = head_processes(self.head.temp_dir)
        while left:
            for process in left:
                processes.send(process, signal.SIGKILL)
            still = processes.wait_gone(left, GONE_LIMIT_S)
            assert not still, f"these outlive SIGKILL: {still}"
            left = head_processes(self.head.temp_dir)

    def restart(self) -> None:
        """Start it again, on the same ports and in the same directory; first end what still runs."""
        self.stop()
        for left in reversed(range(RESTARTS_MAX)):
            try:
                self.head = self.heads.start(self.wanted)
            except HeadFailed:
                if not left:
                    raise
            else:
                return


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RunningHead]:
    """Give the head that all tests share; it is not to be stopped or harmed."""
    with watched_directory() as directory:
        running = RunningHead(LocalHeads(ENOUGH_FOR_ALL_TESTS), free_place(directory))
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def own_head() -> Iterator[Callable[..., OwnHead]]:
    """Give a function that starts a head for this test: `start(durable=False, job_start_timeout_s=None)`."""
    with ExitStack() as stack:

        def start(*, durable: bool = False, job_start_timeout_s: int | None = None) -> OwnHead:
            directory = stack.enter_context(watched_directory())
            heads = LocalHeads(ENOUGH_FOR_ALL_TESTS, job_start_timeout_s=job_start_timeout_s)
            own = OwnHead(heads, free_place(directory, durable=durable))
            stack.callback(own.stop)
            return own

        yield start


def free_place(directory: Path, *, durable: bool = False) -> Wanted:
    """Give a wish for a head in `directory` on ports that nobody has, never on the default ones."""
    port = free_port(())
    return Wanted("127.0.0.1", port, free_port((port,)), directory, durable)


@contextmanager
def watched_directory() -> Iterator[Path]:
    """Give a directory with a short name; what runs of a head in there when this process is killed, is killed too."""
    directory = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    watchman = subprocess.Popen(
        [sys.executable, "-c", _WATCHMAN, str(os.getpid()), str(directory)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert watchman.stdout is not None
        assert watchman.stdout.readline() == b"watching\n"
        yield directory
    finally:
        watchman.kill()
        watchman.communicate()
        shutil.rmtree(directory, ignore_errors=True)


_WATCHMAN = """
import sys
from pathlib import Path
from tests.ray_cluster import clear_when_gone
clear_when_gone(int(sys.argv[1]), Path(sys.argv[2]))
"""


def clear_when_gone(pid: int, directory: Path) -> None:
    """Wait for the end of a process, then end all that runs of the head in `directory`, and remove that."""
    with suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        # A parent that is gone already has left this process to another one, and its pid may be anybody's.
        if os.getppid() == pid:
            os.write(sys.stdout.fileno(), b"watching\n")
            select.select([watched], [], [])
    while left := head_processes(directory / "ray"):
        for process in left:
            processes.send(process, signal.SIGKILL)
        processes.wait_gone(left, 1)
    shutil.rmtree(directory, ignore_errors=True)
