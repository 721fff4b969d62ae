"""What do the verbs that people type most import, and what does that cost them?"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benches.programs import LIMIT_S, Programs
from benches.race import Row, race

SHOWN = 6
_RUN = ("--target", "saturn", "--workflow", "w", "--target-dir", ".", "--", "true")


def rows(directory: Path, quick: bool) -> Iterator[Row]:
    """Measure the time that imports take, against those of the least that an app with typer imports."""
    programs = Programs(directory / "programs")
    verb = partial(programs.merlin, directory / "state")
    submitted = programs.output(verb("--dry-run", "jobs", "submit", *_RUN))
    run_id = submitted.partition("Run ID: ")[2].partition("\n")[0]
    reserved = programs.output(verb("resources", "reserve", "slot", "--owner", "ada", "--ttl", "1d"))
    lease_id = reserved.partition("Lease ID: ")[2].partition("\n")[0]
    numbers = itertools.count()
    verbs: Mapping[str, Callable[[], list[str]]] = {
        "jobs status": lambda: verb("jobs", "status", run_id),
        "jobs list": lambda: verb("jobs", "list"),
        "events": lambda: verb("events", run_id),
        "events resources": lambda: verb("events", "resources"),
        "resources list": lambda: verb("resources", "list"),
        "resources reserve": lambda: verb("resources", "reserve", f"slot{next(numbers)}", "--owner", "ada"),
        "resources check": lambda: verb("resources", "check", lease_id, "--fence", "1"),
    }
    for name, words in verbs.items():
        turns = {"typer": partial(_spent, programs, programs.typer), name: partial(_spent, programs, words)}
        bare, ours = race(turns, 3 if quick else 20, speed=False)
        print(f"        {name}: {_profile(programs, words())}", file=sys.stderr)
        yield Row(f"imports of `{name}`", "ms", None, bare, ours)


def _spent(programs: Programs, words: Callable[[], list[str]]) -> float:
    return sum(imported(programs, words()).values())


def _profile(programs: Programs, command: Sequence[str]) -> str:
    """Say which modules take the most time by themselves."""
    spent = imported(programs, command)
    most = sorted(spent, key=lambda module: -spent[module])[:SHOWN]
    return f"{len(spent)} modules, " + ", ".join(f"{module} {spent[module] * 1e3:.1f} ms" for module in most)


def imported(programs: Programs, command: Sequence[str]) -> dict[str, float]:
    """Give the seconds that each module took by itself, as `python -X importtime` says."""
    python, *words = command
    done = subprocess.run(
        [python, "-X", "importtime", *words],
        cwd=programs.directory,
        env=programs.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    lines = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    return {name.strip(): int(own) / 1e6 for own, _, name in lines if own.strip().isdigit()}
