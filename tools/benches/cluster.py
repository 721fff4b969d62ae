"""Which Ray do the benchmarks of runs use, and how do they ask it without Merlin?"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from merlin_es import bootstrap
from merlin_es.app import Merlin
from merlin_es.ports import Head, Wanted
from merlin_es.ray_adapter.heads import LocalHeads
from merlin_es.ray_adapter.tcp_ports import free_port
from merlin_es.settings import Settings

ENOUGH = ("--num-cpus=16", "--object-store-memory=100000000")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
LIMIT_S = 120.0
_STEP_S = 0.05


class Overdue(Exception):
    """Something of Ray's did not come; start the benchmark again, on a machine that does less."""


class Cluster:
    """A head that takes jobs."""

    def __init__(self, head: Head) -> None:
        self.url = head.dashboard_url
        self._token_path = head.token_path
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=LIMIT_S)
        self._headers = {"Authorization": f"Bearer {head.token_path.read_text(encoding='ascii')}"}

    def environment(self) -> dict[str, str]:
        """Give what Ray's own program needs to be let in."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._token_path)}

    def merlin(self, root: Path) -> Merlin:
        """Give Merlin over a state root whose runs go here."""
        settings = Settings(root, root, "ada@lab3")
        bootstrap.clusters(settings).attach(self.url, "merlin", self._token_path)
        return bootstrap.build(settings)

    def status(self, submission_id: str) -> str:
        """Ask for one job, over a connection that stays open; gives its status."""
        self._connection.request("GET", f"/api/jobs/{submission_id}", headers=self._headers)
        return str(json.loads(self._connection.getresponse().read())["status"])

    def wait_until_ended(self, submission_id: str) -> None:
        """Wait for the end of a job, so that it takes nothing from what is measured next."""
        until(lambda: self.status(submission_id) in ENDED, f"the end of {submission_id}")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a head, and end it with all that it started, also when this program is interrupted or told to end."""
    directory = Path(tempfile.mkdtemp(prefix="mb-", dir="/tmp"))
    heads = LocalHeads(ENOUGH)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    head = None
    try:
        port = free_port(())
        head = heads.start(Wanted("127.0.0.1", port, free_port((port,)), directory, durable=False))
        yield Cluster(head)
    finally:
        with _undisturbed():
            if head:
                heads.stop(head.process, head.temp_dir)
            heads.clean(directory)
            shutil.rmtree(directory, ignore_errors=True)
        signal.signal(signal.SIGTERM, previous)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; raises Overdue."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise Overdue(f"{what} did not come within {LIMIT_S:g} s")
        time.sleep(_STEP_S)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nobody who is impatient keep the head from being ended."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
