"""What do the tests of custody have at hand? A state root with runs that have ended, without any Ray."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from eventlog import Head
from merlin_es import bootstrap, cli
from merlin_es.settings import Settings
from projections.events import run as r
from projections.layout import run_stream
from tests.examples import ROOT
from tests.run_examples import completed, indexed, intended, requested, started, submitted

_MINE = {"MERLIN_FSYNC": "off", "MERLIN_ACTOR": "ada@lab", "PYTHONWARNINGS": "ignore"}


class Done(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str
    output: bytes


class Archive:
    """A state root, as the product and as people use it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(root, root.parent, "ada@lab", sync=False)
        self.open()

    def open(self) -> None:
        """Know nothing but what is on disk, as a new process does."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            self.custody = bootstrap.custody(self.settings)
        self.ledger = self.custody.ledger
        self.log = self.ledger.log

    def record(self, run_id: str, *events: r.RunEvent) -> None:
        """Have something happen to a run."""
        self.ledger.change_run(run_id, lambda _known: events)

    def ended(self, run_id: str, *more: r.RunEvent, target: str = "saturn") -> Head:
        """Have a run live from its beginning to its end; gives its head."""
        self.record(run_id, requested(run_id, target=target))
        self.record(run_id, intended(), submitted())
        self.record(run_id, started())
        self.record(run_id, *more, indexed("a.txt"), completed())
        return self.log.head(run_stream(run_id))

    def path(self, run_id: str) -> Path:
        """Give the log of a run."""
        return self.log.path(run_stream(run_id))

    def states(self, *, fold: bool = False) -> dict[str, str]:
        """Give what `verify --all` says of each stream, as a new process."""
        self.open()
        return {proof.stream: proof.state for proof in self.custody.verify_all(fold=fold)}

    def cli(self, *words: str) -> Done:
        """Run `merlin ray …` here, as a process would, but for the time that its start takes."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        environment = dict(os.environ)
        argv = sys.argv
        os.environ |= _MINE
        sys.argv = ["merlin", "ray", "--state-root", str(self.root), *words]
        try:
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                code = cli._run()
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ |= environment
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue())
        self.open()
        return Done(code, texts[0].decode(), texts[1].decode(), texts[0])

    def killed(self, failpoint: str, *words: str) -> bool:
        """Run `merlin ray …` as a process that dies at a failpoint; tells whether it did."""
        done = subprocess.run(
            [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(self.root), *words],
            cwd=self.root.parent,
            env={**os.environ, **_MINE, "PYTHONPATH": str(ROOT), "MERLIN_FAILPOINT": failpoint},
            capture_output=True,
            timeout=120,
            check=False,
        )
        self.open()
        return done.returncode == -signal.SIGKILL

    def dry_run(self) -> tuple[str, ...]:
        """Give the words that submit a run which ends at once, without a cluster."""
        wish = ("--target", "board", "--workflow", "bringup", "--target-dir", str(self.root.parent), "--", "true")
        return ("--dry-run", "jobs", "submit", *wish)
