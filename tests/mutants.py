"""What would a program do in which somebody has changed one line? It is a copy of the packages, and it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.examples import ROOT

PACKAGES = ("eventlog", "projections", "merlin_es")


class Line(NamedTuple):
    """One line of a module, as it is and as somebody has changed it."""

    module: str
    old: str
    new: str


class Mutant:
    """The packages with one line changed."""

    def __init__(self, directory: Path, line: Line) -> None:
        self.directory = directory
        for name in PACKAGES:
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        path = directory / line.module
        text = path.read_text()
        assert text.count(line.old) == 1, f"{line.module} has {text.count(line.old)} times {line.old!r}"
        path.write_text(text.replace(line.old, line.new))

    def run(self, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m MODULE WORDS…` in it; tests are those of the checkout."""
        mine = {"PYTHONPATH": f"{self.directory}{os.pathsep}{ROOT}", "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore"}
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.directory,
            env={**{name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}, **mine},
            capture_output=True,
            text=True,
            check=False,
        )
