"""Is what lies on the disk what the logs say, and how does it become so again when somebody has lost or changed it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eventlog import Damaged, Disk, EventLog, NotReadable
from eventlog.frame import origin
from projections import proving
from projections.events.recorded import UnknownEvent
from projections.files import NotPublished, Publisher, content_of
from projections.fresh import read_document, stamp_of
from projections.layout import (
    CLUSTER,
    EXECUTION_BUNDLE,
    EXECUTION_DIRECTORIES,
    EXECUTION_STATE,
    RESOURCES,
    StateLayout,
    run_stream,
)
from projections.lease_files import LeaseFiles
from projections.projection import Files, Projection, file_names, has_projection, projection_of
from projections.verdict import Verdict, orphan, verdict_of


def rebuild(log: EventLog, root: Path, *, check: bool = False, disk: Disk | None = None) -> Iterator[Verdict]:
    """Compare every projected file with its log and, unless only to `check`, write those that differ.

    A log that is damaged is named, and the others go on. Nothing is removed.
    """
    publisher = Publisher(log, root, disk=disk)
    leases = LeaseFiles(log, root, publisher.disk)
    layout = StateLayout(root)
    folded = set()
    for stream in log.streams():
        if not has_projection(stream):
            continue
        folded.add(stream)
        try:
            if stream == RESOURCES:
                verdicts = list(leases.verdicts())
            else:
                verdicts = _verdicts(log, root, stream, projection_of(stream), file_names(stream))
            if not check:
                publisher.publish(stream)
                verdicts = [_written(verdict) for verdict in verdicts]
            yield from verdicts
        except NotPublished as error:
            yield Verdict(str(error.path.relative_to(root)), "sick", str(error))
        except (Damaged, NotReadable, UnknownEvent) as error:
            yield Verdict(str(layout.path(stream).relative_to(root)), "sick", str(error))
    for stream in (CLUSTER, *(run_stream(run_id) for run_id in sorted(layout.run_ids()))):
        if stream not in folded:
            yield from _orphans(root, file_names(stream))
    if RESOURCES not in folded:
        yield from leases.orphans(set(), with_catalog=True)


def rebuild_execution(
    log: EventLog, publisher: Publisher, target_dir: Path, stream: str, *, check: bool
) -> list[Verdict]:
    """Do for the execution of a target directory what `rebuild` does for a state root."""
    found = [path for name in EXECUTION_DIRECTORIES for path in sorted((target_dir / name).glob("*.json"))]
    names = [path.relative_to(target_dir).as_posix() for path in found]
    projection = publisher.projection_of(stream)
    verdicts = _verdicts(log, target_dir, stream, projection, [*names, EXECUTION_BUNDLE, EXECUTION_STATE])
    if check:
        return verdicts
    publisher.publish(stream)
    return [_written(verdict) for verdict in verdicts]


def _verdicts(
    log: EventLog,
    root: Path,
    stream: str,
    projection: Projection[Any, Any],
    names: Sequence[str],
) -> list[Verdict]:
    """Compare the files of one stream; they are read before the log, which then says at least as much."""
    found = {name: content_of(root / name) for name in names}
    stamp = stamp_of(read_document(root / names[-1]) or {})
    state, head = projection.origin, origin(stream).head
    then: Files = {}
    prover = proving.Prover(projection, stream)
    for event, state, head in proving.steps(projection, log.read(stream), projection.origin):
        prover.take(event, state, head)
        if stamp and stamp.head == head:
            then = projection.files(stream, state, head)
    files = projection.files(stream, state, head)
    is_of_other_fold = stamp is not None and stamp.fold != projection.version
    verdicts = [
        verdict_of(name, found.get(name), content, then.get(name), is_of_other_fold=is_of_other_fold)
        for name, content in files.items()
    ]
    if prover.divergence and not prover.divergence.is_of_other_fold:
        path = str(StateLayout(root).path(stream).relative_to(root))
        verdicts.append(Verdict(path, "diverged", str(prover.divergence)))
    return [*verdicts, *_orphans(root, [name for name in names if name not in files])]


def _written(verdict: Verdict) -> Verdict:
    if verdict.state in ("same", "orphan", "diverged"):
        return verdict
    was = f"{verdict.state}: {verdict.why}" if verdict.why else verdict.state
    return Verdict(verdict.path, "written", was, verdict.patch)


def _orphans(root: Path, names: Iterable[str]) -> Iterator[Verdict]:
    for name in names:
        if (root / name).exists():
            yield orphan(name)
