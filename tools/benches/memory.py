"""Does the memory of a pass over a log depend on its length?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benches.race import Goal, Row, Turn, race
from benches.samples import STREAM, filled

SHORT, LONG = 10_000, 100_000
_PROGRAM = Path(__file__).with_name("peak.py")


def memory_rows(directory: Path, rounds: int) -> Iterator[Row]:
    """Measure the peak memory of passes over a long log against the same over a short one."""
    for size in (SHORT, LONG):
        filled(directory / str(size), size)
    for what in ("verify", "fold"):
        turns = {f"{size:,} events": _passing(what, directory / str(size)) for size in (SHORT, LONG)}
        short, long = race(turns, rounds, speed=False)
        yield Row(f"peak memory of {what}, {LONG // SHORT} times the log", "MB", Goal(False, 1.05, 1.15), short, long)


def _passing(what: str, top: Path) -> Turn:
    command = [sys.executable, str(_PROGRAM), what, str(top), STREAM]
    return lambda: float(subprocess.check_output(command))
