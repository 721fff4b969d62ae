"""Which logs do the tests of the past look back on?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from eventlog import FileLog
from merlin_es.past import Past
from projections.events.fact import Fact
from projections.layout import StateLayout, run_stream
from projections.snapshots import Snapshots
from tests.examples import unsynced
from tests.run_examples import RUN, completed, indexed, intended, requested, started, submitted

OTHER = "saturn-20261123071351-abcdef02"
BEGIN = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
STREAM = run_stream(RUN)
LIFE: Sequence[Fact] = (requested(), intended(), submitted(), started(), indexed("a.txt"), completed())


class Done(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What was printed, line by line."""
        return self.out.splitlines()

    @property
    def json(self) -> Any:  # noqa: ANN401  whatever was printed
        """What was printed, decoded."""
        return json.loads(self.out)


Type = Callable[..., Done]
"""`merlin ray …`, as the fixture `type_` has it."""


class Hands:
    """A clock that tests move; each look at it takes a second."""

    def __init__(self) -> None:
        self.at = BEGIN

    def __call__(self) -> int:
        now, self.at = self.at, self.at + timedelta(seconds=1)
        return int(now.timestamp() * 1_000_000) * 1_000


def log_in(root: Path, clock: Callable[[], int] | None = None) -> FileLog:
    """Open the logs of a state root, at a time that tests know."""
    return FileLog(StateLayout(root), disk=unsynced(), clock=clock or Hands())


def record(log: FileLog, stream: str, events: Iterable[Fact], actor: str = "ada@lab", door: str = "cli") -> None:
    """Append events one by one."""
    for event in events:
        log.append(stream, [event.checked().recorded_by(actor, door, corr=stream.removeprefix("run/"))])


def past_of(root: Path, log: FileLog | None = None, *, every: int = 512, now: datetime = BEGIN) -> Past:
    """Look back on a state root at a time that tests know."""
    log = log or log_in(root)
    return Past(log, root, lambda: now, Snapshots(log, root, every=every))


def a_life(root: Path) -> Past:
    """Give the past of a state root with one run, which has ended."""
    log = log_in(root)
    record(log, STREAM, LIFE)
    return past_of(root, log, now=BEGIN + timedelta(hours=1))
