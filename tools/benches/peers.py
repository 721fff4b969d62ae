"""What do others make of the same events?"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benches.race import Absent

if TYPE_CHECKING:
    from benches.aggregates import Aggregates


WARM_UP_SAVES, WARM_UP_BATCH = 150, 64
"""More than the thousand pages after which SQLite's log begins again."""


class Sqlite:
    """One table of lines in a database that syncs at each commit."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, line BLOB NOT NULL)")

    def warm_up(self) -> None:
        """Insert so much that SQLite begins to write its log over again, which is its steady state, and its fastest."""
        for _ in range(WARM_UP_SAVES):
            self.append([b"x" * 400] * WARM_UP_BATCH)

    def append(self, lines: Sequence[bytes]) -> None:
        """Insert `lines` in one transaction; a single INSERT is one by itself."""
        if len(lines) == 1:
            self._database.execute("INSERT INTO events (line) VALUES (?)", lines)
            return
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO events (line) VALUES (?)", [(line,) for line in lines])
        self._database.execute("COMMIT")


def aggregates(path: Path) -> Aggregates | Absent:
    """Give the eventsourcing library with its database at `path`, where the library is installed."""
    try:
        from benches.aggregates import Aggregates
    except ModuleNotFoundError as error:
        if error.name != "eventsourcing":
            raise
        return Absent("eventsourcing", "not installed (pip install eventsourcing)")
    return Aggregates(path)
