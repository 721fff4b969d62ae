"""Has what somebody waits for happened, and can it still?"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from merlin_es.errors import Usage
from projections.lifecycle import can_happen, reachable
from projections.statuses import STATUSES


@dataclass(frozen=True, slots=True)
class Expectation:
    """An event of type `event`, or one that leads to `status`, for the `count`th time, whose fields say `matches`."""

    event: str | None = None
    status: str | None = None
    matches: Mapping[str, str] = field(default_factory=dict)
    count: int = 1

    def __str__(self) -> str:
        what = self.event or f"the status {self.status}"
        times = f", {self.count} times" if self.count > 1 else ""
        return f"{what}{''.join(f' with {key}={value}' for key, value in self.matches.items())}{times}"


def expect(what: str, matches: Mapping[str, str], count: int, types: Collection[str]) -> Expectation:
    """Read what somebody waits for: a status, or a type of event, with or without its noun; raises Usage."""
    if what in STATUSES:
        return Expectation(status=what, matches=matches, count=count)
    found = [kind for kind in types if what in (kind, kind.rpartition(".")[2])]
    if len(found) == 1:
        return Expectation(event=found[0], matches=matches, count=count)
    if found:
        raise Usage(f"{what!r} may be {' or '.join(sorted(found))}: give one of them")
    near = difflib.get_close_matches(what, [*STATUSES, *types], n=3, cutoff=0.5)
    better = f"did you mean {' or '.join(near)}?" if near else f"a status is one of {', '.join(STATUSES)}"
    raise Usage(f"{what!r} is neither a status nor a type of event: {better}")


def is_met(wanted: Expectation, kind: str, data: Mapping[str, object], entered: str | None) -> bool:
    """Tell whether an event is one of those waited for; `entered` is the status that it led to, if it changed that."""
    if wanted.event is not None and wanted.event != kind:
        return False
    if wanted.status is not None and wanted.status != entered:
        return False
    return all(_says(data, key.split("."), value) for key, value in wanted.matches.items())


def can_come(wanted: Expectation, status: str) -> bool:
    """Tell whether a run of this status may still bring what is waited for; of other streams nobody can tell."""
    if not status:
        return True  # It has not begun.
    if wanted.status is not None:
        return wanted.status in reachable(status)
    return wanted.event is None or not wanted.event.startswith("run.") or can_happen(wanted.event, status)


def _says(value: object, keys: list[str], wanted: str) -> bool:
    for key in keys:
        match value:
            case dict() if key in value:
                value = value[key]
            case list() if key.isascii() and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            case _:
                return False
    return value == wanted if isinstance(value, str) else json.dumps(value) == wanted
