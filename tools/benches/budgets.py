"""Which promises of speed are there, and which row of the benchmarks measures each?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benches.race import Row


class Unmeasured(Exception):
    """No benchmark has a row for a budget: one that was renamed is to be renamed here, too."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise: how the law begins to say it, and the row that measures it, with `#` for whatever number it has."""

    law: str
    family: str
    row: str


BUDGETS: Sequence[Budget] = (
    Budget("durable append of one event", "log", "durable append of one event"),
    Budget("durable append in batches of 64", "log", "durable append of # at once"),
    Budget("decode + verify chain + fold of a log", "log", "decode, verify and fold # events"),
    Budget("view of a run at event 5,000 of 10,000", "travel", "view at event # of #"),
    Budget("a follower sees an append", "log", "a follower has an append"),
    Budget("one status of a run with 100,000 events", "runs", "one status of a run with # events"),
    Budget("`jobs list` (newest 50) with 100,000 runs", "runs", "list the newest # of # runs"),
    Budget("one reconcile pass", "runs", "Ray requests of a reconcile pass, # active runs"),
    Budget("one reconcile pass", "runs", "reconcile pass, # ended runs more"),
    Budget("`merlin ray jobs status`, `list`, `reserve`", "runs", "`jobs status` against a bare app"),
    Budget("`merlin ray jobs status`, `list`, `reserve`", "runs", "`jobs list` against a bare app"),
    Budget("`merlin ray jobs status`, `list`, `reserve`", "leases", "`resources reserve` against a bare app"),
    Budget("`merlin ray jobs status`, `list`, `reserve`", "runs", "`events` of a run against a bare app"),
    Budget("memory of a fold or verify", "log", "peak memory of verify, # times the log"),
    Budget("memory of a fold or verify", "log", "peak memory of fold, # times the log"),
    Budget("reserve + release of a lease", "leases", "reserve and release by # processes on one key"),
)
"""All that are promised, in the order of the law."""


def without_numbers(what: str) -> str:
    """Give the name of a row whatever was counted in it."""
    return re.sub(r"\d[\d,]*", "#", what)


def of_budgets(rows: Iterable[Row]) -> list[Row]:
    """Give the row of each budget, in order; raises Unmeasured."""
    named: Mapping[str, Row] = {without_numbers(row.what): row for row in rows}
    if missing := [budget.row for budget in BUDGETS if budget.row not in named]:
        raise Unmeasured(f"no row is called {'; '.join(missing)}: see tools/benches/budgets.py")
    return [named[budget.row] for budget in BUDGETS]
