"""What can still happen to a run, and what cannot any more?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from projections.statuses import TERMINAL

BEGINNINGS: Final = frozenset({"run.requested", "run.forked", "run.adopted", "run.imported"})
"""A run begins once, with one of these."""
WITH_THE_BEGINNING: Final = frozenset({"run.artifacts_imported"})
"""What comes in the append that begins a run, and never later."""

NEXT: Final[Mapping[str, Mapping[str, str]]] = {
    "requested": {
        "run.waiting": "waiting",
        "run.blocked": "blocked",
        "run.dry_run_recorded": "dry_run",
        "run.submitted": "submitted",
        "run.submission_failed": "error",
        "run.cancelled": "cancelled",
    },
    "waiting": {
        "run.lease_bound": "requested",
        "run.blocked": "blocked",
        "run.cancelled": "cancelled",
        "run.dry_run_recorded": "dry_run",
    },
    "blocked": {"run.unblocked": "requested", "run.cancelled": "cancelled"},
    "submitted": {
        "run.started": "running",
        "run.completed": "completed",
        "run.failed": "failed",
        "run.cancelled": "cancelled",
        "run.attempt_failed": "requested",
        "run.lost": "lost",
    },
    "running": {
        "run.completed": "completed",
        "run.failed": "failed",
        "run.cancelled": "cancelled",
        "run.attempt_failed": "requested",
        "run.lost": "lost",
    },
    "lost": {"run.recovered": "submitted", "run.unblocked": "requested", "run.cancelled": "cancelled"},
}
"""The events that change a status, and to which: the diagram of the README."""

AFTER_THE_END: Final = frozenset(
    {"run.anomaly_seen", "run.artifacts_indexed", "run.lease_unbound", "run.sealed", "log.repaired", "log.checkpoint"}
)
"""What may be recorded of a run that has ended."""


def reachable(status: str) -> frozenset[str]:
    """Give the statuses that a run of this status may still get, one way or another."""
    found: set[str] = set()
    ahead = [status]
    while ahead:
        for following in NEXT.get(ahead.pop(), {}).values():
            if following not in found:
                found.add(following)
                ahead.append(following)
    return frozenset(found)


def can_happen(event_type: str, status: str) -> bool:
    """Tell whether an event of that type may still be recorded of a run of this status."""
    if event_type in BEGINNINGS | WITH_THE_BEGINNING:
        return False
    if event_type in AFTER_THE_END:
        return True
    changing = {kind for events in NEXT.values() for kind in events}
    if event_type not in changing:
        return status not in TERMINAL
    return any(event_type in NEXT.get(each, {}) for each in {status, *reachable(status)})
