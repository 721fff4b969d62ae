"""How do folds get onto the disk?

A power cut may take back a file that was published, never mix it or leave it empty: it is written beside its place,
synced and renamed. The name is not synced: what the disk then has is an older file, whose stamp says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eventlog import Disk, Event, EventLog, EventLogError, Head, Layout, NewEvent, quiet
from eventlog.disk import make_directories, write_all
from eventlog.record import Closing
from projections.artifacts import Artifact
from projections.cluster import ClusterRecord
from projections.events.fact import Fact
from projections.index import Index
from projections.layout import CLUSTER, RESOURCES, StateLayout, run_id_of, run_stream
from projections.projection import Projection, RunState, projection_of, run_document
from projections.run_record import RunRecord
from projections.statuses import OPEN

if TYPE_CHECKING:
    from projections.proving import Step

STREAMS_MAX: Final = 256
"""How many streams a process remembers; of any other it reads the log from its first event."""
LOCK_LIMIT_S: Final = 30.0
"""How long a publisher waits for those who append. Turns are milliseconds."""


class NotPublished(EventLogError):
    """A projected file could not be written. The log has everything: remove the cause, then `rebuild`."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(
            f"{path} cannot be written ({cause.strerror or cause}); what it was to say is in the log beside it: "
            "remove the cause, then have the files rebuilt"
        )
        self.path = path
        self.errno = cause.errno


class Folded(NamedTuple):
    """The state of a stream, and the head that it was folded up to."""

    state: Any
    head: Head


class Publisher:
    """Folds streams, and writes the states out. Any number of threads and processes may publish the same stream."""

    def __init__(
        self,
        log: EventLog,
        root: Path,
        index: Index | None = None,
        disk: Disk | None = None,
        *,
        layout: Layout | None = None,
        projections: Callable[[str], Projection[Any, Any]] = projection_of,
    ) -> None:
        self._log = log
        self.root = root
        self._layout = layout or StateLayout(root)
        self.projection_of = projections
        self._index = index
        self.disk = disk or Disk()
        self._bases: dict[str, Step] = {}  # Where the next checkpoint begins to look, so that it costs no whole fold.
        self._known: dict[str, Folded] = {}  # The least recently used first. Only dict operations that are atomic.

    def fold(self, stream: str) -> Folded:
        """Give the state of a stream as its log has it; only what is new since this process last looked is read."""
        known = self._known.pop(stream, None)
        folded = known and self._go_on(stream, known)
        if folded is None:
            folded = Folded(*self.projection_of(stream).fold_all(stream, self._log))
        if folded.head.seq == 0:
            return folded
        self._known[stream] = folded
        while len(self._known) > STREAMS_MAX:
            self._known.pop(next(iter(self._known)), None)
        return folded

    def run_at_head(self, stream: str) -> tuple[RunRecord | None, Head]:
        """Give the run of `stream`, None before it begins, and the head that it was folded up to."""
        state, head = self.fold(stream)
        return state.record, head

    def run(self, run_id: str) -> RunRecord | None:
        """Give a run as its log has it, None when it has not begun; raises Invalid for what cannot be an id."""
        return self.run_at_head(run_stream(run_id))[0]

    def artifacts(self, run_id: str) -> tuple[Artifact, ...]:
        """Give the artifacts of a run as they were indexed last."""
        state: RunState = self.fold(run_stream(run_id)).state
        return state.artifacts.files or ()

    def cluster_at_head(self, stream: str = CLUSTER) -> tuple[ClusterRecord, Head]:
        """Give the cluster, and the head that it was folded up to."""
        record, head = self.fold(stream)
        return record, head

    def cluster(self) -> ClusterRecord:
        """Give the cluster as its log has it."""
        return self.cluster_at_head()[0]

    @contextmanager
    def appending(self, stream: str, head: Head) -> Iterator[None]:
        """Say, before an append behind `head`, that the index may be behind from here on until it is published.

        An append that is made outside of this, or behind another head, may be missing in lists when its process dies
        before it has published.
        """
        run_id = run_id_of(stream)
        known = self._known.get(stream)
        if self._index is None or run_id is None or (known and known.head == head and _is_open(known.state)):
            yield
            return
        with self._index.in_doubt(run_id, head.seq):
            yield

    def publish(self, stream: str) -> Folded:
        """Fold `stream` and replace each of its files that says something else; raises NotPublished.

        Done while nobody appends, so nobody publishes less after more, and what is published is durable.
        """
        if stream == RESOURCES:
            from projections.lease_files import LeaseFiles

            LeaseFiles(self._log, self.root, self.disk).publish_all()
            return self.fold(stream)
        before = self._known.get(stream) or self.fold(stream)  # A long past is read before others have to wait.
        run_id, path = run_id_of(stream), self._layout.path(stream)
        try:
            with quiet(path, LOCK_LIMIT_S) as fd:
                folded = self.fold(stream)
                files = self.projection_of(stream).files(stream, *folded)
                changed = [name for name, content in files.items() if content_of(self.root / name) != content]
                if changed and fd is not None:
                    self.disk.sync(fd)  # Whoever wrote the last event may have died before its sync.
                for name in changed:
                    path = self.root / name
                    self._write(path, files[name])
                mark = self._index.mark(run_id) if self._index and run_id else ""
        except OSError as error:
            raise NotPublished(path, error) from error
        if run_id and not (_is_open(before.state) and _is_open(folded.state)):
            self._note(run_id, folded, mark)
        return folded

    def closing(self, stream: str, head: Head, new: Sequence[Fact]) -> Closing | None:
        """Give what makes the checkpoint that is due behind an append of `new` on `head`; None where none is."""
        from projections import proving

        kind = proving.kind_of(stream)
        if kind is None or not proving.is_due(head.seq, new):
            return None
        projection = projection_of(stream)
        base, known = self._since_checkpoint(stream, head)  # A long past is read before others have to wait.

        def close(events: Sequence[Event]) -> NewEvent:
            repairs = self._log.read(stream, head.seq + 1) if events[0].seq != head.seq + 1 else ()
            last = known[-1] if known else base
            added = proving.steps(projection, [*repairs, *events], last.state if last else projection.origin)
            content = proving.content_of(projection, stream, base, [*known, *added])
            return kind.made_of(content).recorded_by("merlin", "ledger", corr=run_id_of(stream))

        return close

    def _since_checkpoint(self, stream: str, head: Head) -> tuple[Step | None, list[Step]]:
        """Give the step at the last checkpoint before `head`, or not too long ago, and those after it."""
        from projections import proving

        recent = islice(self._log.read_backwards(stream, head.seq), proving.EVERY) if head.seq else ()
        oldest = max(0, head.seq - proving.EVERY)
        at = next((event.seq for event in recent if event.type == "log.checkpoint"), oldest)
        projection, base = projection_of(stream), self._bases.get(stream)
        events = self._log.read(stream, base.head.seq if base else 1)
        if base and getattr(next(events, None), "head", None) != base.head:
            base, events = None, self._log.read(stream)
        steps: list[Step] = []
        for step in proving.steps(projection, events, base.state if base else projection.origin):
            if step.head.seq > head.seq:
                break
            if step.head.seq <= at:
                base = step
            else:
                steps.append(step)
        if base:
            self._bases[stream] = base
            while len(self._bases) > STREAMS_MAX:
                self._bases.pop(next(iter(self._bases)), None)
        return base, steps

    def _write(self, path: Path, content: bytes) -> None:
        """Replace a file. Only one process at a time does, so whoever comes next takes over what a dead one left."""
        if not path.parent.is_dir():
            make_directories(self.disk, path.parent)
        temporary = path.with_name(f".{path.name}.new")
        fd = self.disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(self.disk, fd, content)
            self.disk.sync(fd)
        except OSError:
            with suppress(OSError):
                self.disk.unlink(temporary)
            raise
        finally:
            self.disk.close(fd)
        self.disk.rename(temporary, path)

    def _note(self, run_id: str, folded: Folded, mark: str) -> None:
        if self._index and folded.state.record:
            self._index.note(run_id, run_document(folded.state.record, folded.head), mark)

    def _go_on(self, stream: str, known: Folded) -> Folded | None:
        """Fold what is new; None when the log is not the one that was folded."""
        events = self._log.read(stream, known.head.seq)
        first = next(events, None)
        if first is None or first.head != known.head:
            return None
        return Folded(*self.projection_of(stream).fold(events, *known))


def _is_open(state: RunState) -> bool:
    return state.record is not None and state.record.status in OPEN


def content_of(path: Path) -> bytes | None:
    """Give what is in a file; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
