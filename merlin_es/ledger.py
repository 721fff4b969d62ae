"""How does a decision get into a log? Fold, decide, append where it was decided; and again when somebody was faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

import eventlog
from eventlog.present import has_log
from merlin_es.deciders.run import with_its_leases
from merlin_es.errors import MerlinError, NotFound, Refused
from merlin_es.failpoints import reach
from projections.cluster import ClusterRecord
from projections.events.cluster import ClusterEvent
from projections.events.fact import Fact
from projections.events.run import RunEvent
from projections.files import Publisher
from projections.fresh import read_record
from projections.index import Index
from projections.layout import CLUSTER, is_run_id, run_stream
from projections.run_record import RunRecord

if TYPE_CHECKING:
    from merlin_es.registry import Registry

CONFLICTS_MAX = 20
"""How often a decision is taken again because the stream moved. Each time somebody else got on, so this is generous."""

S = TypeVar("S")


class Ledger(Struct, frozen=True):
    """The logs, with who writes to them and through which door; `ring` wakes who waits for news."""

    log: eventlog.FileLog
    publisher: Publisher
    index: Index
    actor: str
    door: str
    ring: Callable[[], None]

    def run(self, run_id: str) -> RunRecord:
        """Give a run as its log has it; raises NotFound."""
        record, _ = self.publisher.run_at_head(_stream(run_id))
        if record is None:
            raise NotFound(
                f"there is no run {run_id!r} in this state root: `merlin ray jobs list` shows those there are",
                names_a="run",
                name=run_id,
            )
        return record

    def status(self, run_id: str) -> tuple[str, int] | None:
        """Give the status of a run, and the seq of its record; None when it cannot be told."""
        if not self.has_run(run_id):
            return None
        with suppress(eventlog.EventLogError):
            if fresh := read_record(self.publisher.root, run_id, self.log):
                return fresh["status"], fresh["as_of"]["seq"]
            record = self.publisher.run(run_id)
            return (record.status, record.seq) if record else None
        return None

    def has_run(self, run_id: str) -> bool:
        """Tell whether the ledger has a log of that run, be it sick."""
        if not is_run_id(run_id):
            return False
        return has_log(self.log.path(run_stream(run_id)))

    def cluster(self) -> ClusterRecord:
        """Give the cluster as its log has it."""
        return self.publisher.cluster()

    def change_run(
        self, run_id: str, decide: Callable[[RunRecord | None], Sequence[RunEvent]], *, cause: int | None = None
    ) -> RunRecord:
        """Append what `decide` makes of the run, and give the run as it is then; published when this returns."""
        stream = _stream(run_id)

        def unless_sealed(record: RunRecord | None) -> Sequence[RunEvent]:
            events = with_its_leases(record, decide(record))
            if events and record and record.sealed_at:
                raise Refused(
                    f"{run_id} was sealed at {record.sealed_at}, so nothing more is recorded of it: "
                    "submit it again as a new run"
                )
            return events

        def note_end(record: RunRecord | None, head: eventlog.Head) -> None:
            if record and record.is_terminal:
                reach("note.before")
                self.registry.note(run_id, head, record.status)
                reach("note.after")

        state = self._transact(
            stream, self.publisher.run_at_head, unless_sealed, corr=run_id, cause=cause, then=note_end
        )
        if state is None:
            raise NotFound(
                f"there is no run {run_id!r} in this state root: `merlin ray jobs list` shows those there are",
                names_a="run",
                name=run_id,
            )
        return state

    @property
    def registry(self) -> Registry:
        """The heads of the runs that have ended."""
        from merlin_es.registry import Registry

        return Registry(self.log, self.index)

    def change_cluster(self, decide: Callable[[ClusterRecord], Sequence[ClusterEvent]]) -> ClusterRecord:
        """Append what `decide` makes of the cluster, and give it as it is then; published when this returns."""
        return self._transact(CLUSTER, self.publisher.cluster_at_head, decide, corr=None)

    def _transact(
        self,
        stream: str,
        load: Callable[[str], tuple[S, eventlog.Head]],
        decide: Callable[[S], Sequence[Fact]],
        *,
        corr: str | None,
        cause: int | None = None,
        then: Callable[[S, eventlog.Head], None] = lambda _state, _head: None,
    ) -> S:
        for _ in range(CONFLICTS_MAX):
            state, head = load(stream)
            events = [event.checked() for event in decide(state)]
            if not events:
                return state
            recorded = [event.recorded_by(self.actor, self.door, corr=corr, cause=cause) for event in events]
            closing = self.publisher.closing(stream, head, events)
            reach("append.before")
            with self.publisher.appending(stream, head):
                try:
                    self.log.append(stream, recorded, expected=head, closing=closing)
                except eventlog.Conflict:
                    continue
                reach("append.after")
                self.publisher.publish(stream)
            reach("publish.after")
            then(*load(stream))
            self.ring()
            return load(stream)[0]
        raise MerlinError(f"{stream} moved {CONFLICTS_MAX} times while one decision was taken: repeat the call")


def _stream(run_id: str) -> str:
    try:
        return run_stream(run_id)
    except eventlog.Invalid as error:
        raise NotFound(f"{error}: `merlin ray jobs list` shows the runs there are") from None
