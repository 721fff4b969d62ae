"""Which statuses does a run have, and what do they promise?"""

from __future__ import annotations

from typing import Final, Literal, get_args

Status = Literal[
    "requested",
    "waiting",
    "blocked",
    "dry_run",
    "submitted",
    "running",
    "completed",
    "failed",
    "cancelled",
    "error",
    "lost",
]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
TERMINAL: Final[frozenset[str]] = frozenset({"completed", "failed", "cancelled", "error", "dry_run"})
RESTING: Final[frozenset[str]] = TERMINAL | {"lost", "blocked"}
"""Nothing will happen to such a run by itself."""
OPEN: Final[frozenset[str]] = frozenset(STATUSES) - TERMINAL - {"lost"}
"""Such a run is still wanted: it goes on by itself, or as soon as somebody takes away what blocks it."""
