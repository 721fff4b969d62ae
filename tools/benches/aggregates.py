"""How does the eventsourcing library record and rebuild an aggregate, on its own SQLite module?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benches.peers import WARM_UP_BATCH, WARM_UP_SAVES
from benches.samples import sample
from eventlog import NewEvent


class _Run(Aggregate):
    """A run as an aggregate, whose events carry what ours do."""

    status = actor = door = corr = ""

    @event("Observed")
    def observe(self, data: dict[str, object], actor: str, door: str, corr: str) -> None:
        self.status = str(data["status"])
        self.actor, self.door, self.corr = actor, door, corr


class Aggregates:
    """One aggregate that grows; its database is a file in WAL mode, which SQLite syncs at each commit."""

    def __init__(self, path: Path) -> None:
        self._application = Application[UUID](
            env={
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(path),
                "IS_SNAPSHOTTING_ENABLED": "yes",  # Costs nothing before one is taken.
            }
        )
        self._run = _Run()
        self._application.save(self._run)

    def warm_up(self) -> None:
        """Save so much that SQLite begins to write its log over again, as Sqlite.warm_up does."""
        for _ in range(WARM_UP_SAVES):
            self.append([sample()] * WARM_UP_BATCH)

    def append(self, events: Sequence[NewEvent]) -> None:
        """Trigger `events` on the aggregate and save it once."""
        for new in events:
            self._run.observe(data=dict(new.data), actor=new.actor, door=new.door, corr=str(new.corr))
        self._application.save(self._run)

    def rebuild(self) -> None:
        """Read all events of the aggregate and apply them."""
        self._application.repository.get(self._run.id)

    def view(self, version: int) -> None:
        """Give the aggregate as it was at a version."""
        self._application.repository.get(self._run.id, version=version)

    def snapshot(self, version: int) -> None:
        """Keep the aggregate as it was at a version, for views of later ones."""
        self._application.take_snapshot(self._run.id, version)
