"""What does a test of runs on the real Ray have at hand? A state root of its own, on the cluster of all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventlog
from merlin_es import bootstrap, run_ids
from merlin_es.app import Merlin
from merlin_es.commands import SubmitRun
from merlin_es.ports import RayJob
from merlin_es.settings import Settings
from merlin_es.submission import HELPER, LEDGER
from projections.layout import StateLayout
from projections.run_record import RunRecord
from tests.examples import ROOT
from tests.ray_cluster import RunningHead

PAUSE = threading.Event()
"""Never set: what waits on it looks at its condition again soon."""
LIMIT_S = 300.0
"""For what takes a second or two, on a machine that does ten other things."""


class Lab:
    """A state root, the means to use it as people do and as the product does, and what Ray says of its jobs."""

    def __init__(self, top: Path, dashboard_url: str | None, token_path: Path | None) -> None:
        self.top = top
        self.root = top / "state"
        self.work = top / "work"
        self.work.mkdir(parents=True)
        self.url, self.token = dashboard_url, token_path
        self.settings = Settings(self.root, self.work, "ada@lab", sync=False)
        if dashboard_url:
            bootstrap.clusters(self.settings).attach(dashboard_url, "merlin", token_path)
        self.merlin: Merlin = self.build()

    def build(self) -> Merlin:
        """Give Merlin as a new process would have it: nothing is known but what is on disk."""
        return bootstrap.build(self.settings)

    def wish(self, *command: str, **options: Any) -> SubmitRun:  # noqa: ANN401  the options of SubmitRun
        """Give a command to submit; without CPUs, so that no test waits for another's."""
        return SubmitRun(
            **{
                "run_id": run_ids.new_run_id("board", bootstrap.now()),
                "target": "board",
                "workflow": "bringup",
                "source": "test",
                "command": command,
                "workdir": str(self.work),
                "target_dir": str(self.work),
                "cpus": 0.1,
                **options,
            }
        )

    def submit(self, *command: str, **options: Any) -> RunRecord:  # noqa: ANN401  the options of SubmitRun
        """Submit a command."""
        return self.merlin.submit(self.wish(*command, **options))

    def accepted(self, *command: str) -> str:
        """Submit a command, and see that Ray has it; gives the id of the run."""
        run_id = self.submit(*command).run_id
        self.until(run_id, lambda record: record.attempt is not None and record.attempt.status != "intended")
        return run_id

    def marked(self, then: str = "true") -> tuple[str, ...]:
        """Give a command that leaves one line for each time it is executed."""
        return ("sh", "-c", f"echo executed >> {self.work}/executed; {then}")

    def executed(self) -> int:
        """Count how often a marked command was executed."""
        path = self.work / "executed"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def until(self, run_id: str, condition: Callable[[RunRecord], bool], merlin: Merlin | None = None) -> RunRecord:
        """Reconcile until the run is as wanted."""
        merlin = merlin or self.merlin
        end = time.monotonic() + LIMIT_S
        while True:
            merlin.reconcile_once()
            record = merlin.ledger.run(run_id)
            if condition(record):
                return record
            assert time.monotonic() < end, f"after {LIMIT_S} s: {record}"
            PAUSE.wait(0.1)

    def ended(self, run_id: str, merlin: Merlin | None = None) -> RunRecord:
        """Reconcile until the run has ended."""
        return self.until(run_id, lambda record: record.is_terminal or record.status == "lost", merlin)

    def ended_after_adoption(self, run_id: str, merlin: Merlin) -> RunRecord:
        """Reconcile until a run that the ledger does not know has been taken in, and has ended."""
        until(lambda: merlin.reconcile_once() and merlin.ledger.has_run(run_id))
        return self.ended(run_id, merlin)

    def running(self, run_id: str) -> RunRecord:
        """Reconcile until the command runs."""
        return self.until(run_id, lambda record: record.status == "running")

    def types(self, run_id: str) -> list[str]:
        """Give the types of a run's events."""
        log = eventlog.FileLog(StateLayout(self.root))
        return [event.type for event in log.read(f"run/{run_id}")]

    def runs(self) -> list[str]:
        """Give the ids of all runs that have a log."""
        layout = StateLayout(self.root)
        return [stream.removeprefix("run/") for stream in layout.streams() if stream.startswith("run/")]

    def jobs(self) -> list[RayJob]:
        """Give what Ray has of this state root, helpers aside."""
        assert self.url
        server = bootstrap.connect(self.url, self.token)
        ours = self.merlin.submissions.ledger_id
        return [job for job in server.jobs() if job.metadata.get(LEDGER) == ours and HELPER not in job.metadata]

    def delete_in_ray(self, submission_id: str) -> None:
        """Delete a job that has ended, as somebody may do with Ray's own tools."""
        assert self.url
        assert self.token
        request = urllib.request.Request(f"{self.url}/api/jobs/{submission_id}", method="DELETE")
        request.add_header("Authorization", f"Bearer {self.token.read_text()}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    def cli(self, *words: str, failpoint: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `merlin ray …` as a process."""
        return subprocess.run(
            [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(self.root), *words],
            cwd=cwd or self.work,
            env=self.environment(failpoint),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def environment(self, failpoint: str = "") -> dict[str, str]:
        """Give the environment of such a process."""
        mine = {"PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "MERLIN_ACTOR": "ada@lab", "PYTHONWARNINGS": "ignore"}
        if failpoint:
            mine["MERLIN_FAILPOINT"] = failpoint
        return {**{name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}, **mine}

    def record_file(self, run_id: str) -> dict[str, Any]:
        """Give `run_record.json`."""
        content: dict[str, Any] = json.loads((self.root / "runs" / run_id / "run_record.json").read_text())
        return content


def until(condition: Callable[[], object], limit_s: float = LIMIT_S, step_s: float = 0.05) -> None:
    """Wait until a condition holds; look again after `step_s`, which is longer where looking costs something."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not so after {limit_s} s"
        PAUSE.wait(step_s)


def with_token(head: RunningHead) -> dict[str, str]:
    """Give the environment in which Ray's own tools may use the cluster."""
    mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.token_path), "RAY_USAGE_STATS_ENABLED": "0"}
    mark = {"MERLIN_HEAD": str(head.head.temp_dir)}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("RAY_")}, **mine, **mark}
