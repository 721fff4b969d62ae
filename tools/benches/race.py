"""How do several contestants compare when they take turns on the same machine?

A disk, a neighbour or a hot CPU slows everybody for a while, and who follows another finds the caches as that one left
them. So the contestants of a row go round robin, in short turns and a new order each round, and each is compared with
the baseline of its own round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Turn: TypeAlias = Callable[[], float]
"""Does one contestant's part of a round; gives what one unit of it cost, in seconds or bytes."""

Unit: TypeAlias = Literal["µs", "ms", "events/s", "MB", "requests"]
"""How a cost is shown: seconds as µs, ms or as a rate, bytes as MB, and what is counted as it is."""

OURS = "ours"
"""The name of our contestant where nothing more is to be said of it."""
_dice = random.Random(0)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a contestant came to: its median cost, and the median over the rounds of its ratio to the baseline.

    `low` and `high` are the quartiles of that ratio: where they lie far apart, somebody else used the machine.
    """

    name: str
    cost: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Absent:
    """A contestant that could not take part, and what to do about it."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio must be (`floor`) and shall be (`aim`): at least, where `more` is better, else at most."""

    more: bool
    aim: float
    floor: float | None = None

    def missed_by(self, ratio: float) -> bool:
        """Tell whether `ratio` is on the wrong side of the floor."""
        if self.floor is None:
            return False
        return ratio < self.floor if self.more else ratio > self.floor


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured: ours beside the baseline, and what others do."""

    what: str
    unit: Unit
    goal: Goal | None
    baseline: Standing
    ours: Standing
    peers: tuple[Standing | Absent, ...] = ()

    @property
    def missed(self) -> bool:
        """Whether the floor does not hold."""
        return self.goal is not None and self.goal.missed_by(self.ours.ratio)


def race(turns: Mapping[str, Turn], rounds: int, *, speed: bool = True) -> list[Standing]:
    """Let all take turns, the baseline being the first of them; give where each of them stands.

    The ratio is one of speeds (2 is twice as fast as the baseline), or, unless `speed`, one of costs.
    """
    costs: dict[str, list[float]] = {name: [] for name in turns}
    order = list(turns)
    for turn in turns.values():
        turn()  # To warm up.
    for _ in range(rounds):
        _dice.shuffle(order)
        for name in order:
            costs[name].append(turns[name]())
    baseline = next(iter(costs.values()))
    return [_standing(name, own, baseline, speed=speed) for name, own in costs.items()]


def timed(count: int, work: Callable[[], object]) -> float:
    """Do `work`, which is `count` units of it; give the seconds that one took."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) / count


def _standing(name: str, costs: list[float], baseline: list[float], *, speed: bool) -> Standing:
    ratios = [b / c if speed else c / b for c, b in zip(costs, baseline, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Standing(name, statistics.median(costs), statistics.median(ratios), low, high)
