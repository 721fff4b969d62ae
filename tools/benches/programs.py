"""How long does a program take from its start to its end, as who types it waits for it?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benches.race import Turn, timed

ROOT = Path(__file__).resolve().parent.parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
LIMIT_S = 120.0
"""How long a program may take; fifty times what the slowest needs."""
_MERLIN = "import sys\nfrom merlin_es.cli import main\nsys.exit(main())\n"
_TYPER = """import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def hello(name: str) -> None:
    typer.echo(f"Hello {name}")


app()
"""


class Failed(Exception):
    """A program that is measured did not do what it should; what it wrote says why."""


class Programs:
    """The programs that are measured: `merlin` as pip installs it, `ray`, and the least that typer can be."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MERLIN_", "RAY_"))}
        own.pop("PYTHONDONTWRITEBYTECODE", None)  # Whoever types a verb does not wait for a compiler each time.
        own["PYTHONPYCACHEPREFIX"] = str(directory.absolute() / "bytecode")
        self.environment = {**own, "PYTHONPATH": str(ROOT), **(environment or {})}
        directory.mkdir(parents=True, exist_ok=True)
        self._merlin = self._written("merlin", _MERLIN)
        self._typer = self._written("hello.py", _TYPER)

    def merlin(self, root: Path, *words: str) -> list[str]:
        """Give the words of `merlin ray` on a state root."""
        return [sys.executable, self._merlin, "ray", "--state-root", str(root), *words]

    def targetgen(self, *words: str) -> list[str]:
        """Give the words of `merlin targetgen`."""
        return [sys.executable, self._merlin, "targetgen", *words]

    def python(self, program: str) -> list[str]:
        """Give the words of a Python program of one line."""
        return [sys.executable, "-c", program]

    def typer(self) -> list[str]:
        """Give the words of an app with one command that only greets."""
        return [sys.executable, self._typer, "ada"]

    def output(self, command: Sequence[str]) -> str:
        """Run a program and give what it printed; raises Failed."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def running(self, command: Sequence[str]) -> Turn:
        """Give a turn that runs a program once."""
        return lambda: timed(1, lambda: self.output(command))

    def _written(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return str(path)
