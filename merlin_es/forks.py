"""What does a run that goes on from the past of another one begin with?

With what was asked for then, but for what is asked for anew, and with the files that the other one had made by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Final

from eventlog import BlobStore, Head
from merlin_es import then
from merlin_es.app import Merlin
from merlin_es.commands import ForkRun, SubmitRun
from merlin_es.errors import MerlinError, NotFound, Refused, Usage
from merlin_es.fetch import fetch
from merlin_es.moments import Point, last_by
from merlin_es.past import Past
from merlin_es.redaction import restored
from merlin_es.run_ids import new_run_id
from merlin_es.targetgen import forking
from merlin_es.targetgen.target_dir import TargetDirectory
from merlin_es.waiting import WORKFLOW
from projections.artifacts import Artifact
from projections.layout import run_stream
from projections.projection import RunState
from projections.run_record import RunRecord
from projections.snapshots import Stand

SOURCE: Final = "fork"
_KEPT: Final = tuple(
    each.name for each in fields(SubmitRun) if each.name not in ("run_id", "source", "leases", "redacted")
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be otherwise than it was; None for what stays."""

    command: tuple[str, ...] | None = None
    workdir: str | None = None
    target_dir: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Forked:
    """The new run, and of the files that were to be brought back those that could not be, with the reason."""

    record: RunRecord
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Forks:
    """Makes runs from the past of others."""

    merlin: Merlin
    past: Past
    directory: Callable[[Path], TargetDirectory]

    def point(self, name: str, moment: str | None) -> Point:
        """Give the event of a run that is meant; a type of event of its execution means what the run was then."""
        return then.point(self.past, name, moment)

    def fork(self, name: str, point: Point, changes: Changes, *, dry_run: bool = False) -> Forked:
        """Have a run go on from event `point` of the one called `name`, with something changed.

        Raises NotFound, Usage and Refused.
        """
        stream = self.past.folded(name)
        state, head = self.past.at(stream, point.seq)
        if not isinstance(state, RunState) or state.record is None:
            raise NotFound(f"{stream}#{point.seq} is no run: name one, and a moment at which it was asked for")
        run_id = new_run_id(state.record.request.target, self.merlin.host.now())
        if state.record.request.workflow == WORKFLOW:
            return self._fork_execution(state.record, Stand(state, head), point, run_id, changes, dry_run=dry_run)
        command = self._whole(fork_of(state.record, head, run_id, changes), state.record)
        missing: Mapping[str, str] = {}
        if changes.target_dir is not None and not dry_run:
            made, there = state.artifacts.files or (), Path(state.record.request.target_dir)
            missing = restore(made, there, Path(changes.target_dir), self.merlin.blobs)
        return Forked(self.merlin.fork(command, dry_run=dry_run), missing)

    def _fork_execution(
        self, record: RunRecord, stand: Stand, point: Point, run_id: str, changes: Changes, *, dry_run: bool
    ) -> Forked:
        """Do that with a run that carries out a plan: in a new directory, with all that had happened to it by then."""
        name, old = run_id[-8:], Path(record.request.target_dir)
        new = Path(changes.target_dir or old.with_name(f"{old.name}-fork-{name}"))
        parent = self.directory(old)
        stream = parent.stream
        if stream is None:
            raise NotFound(f"{old} holds no execution any more, so nothing of it can be brought back")
        last = point.execution_seq or last_by(record.updated_at, parent.log.read(stream))[0]
        last = forking.point_for(parent, last, changes.answers)
        words = tuple(str(new) if word == str(old) else word for word in changes.command or record.request.command)
        changed = replace(changes, command=words, target_dir=str(new), answers={})
        command = self._whole(fork_of(record, stand.head, run_id, changed), record)
        if not dry_run:
            forking.fork(parent, last, self.directory(new), name, changes.answers)
        return Forked(self.merlin.fork(replace(command, answers=changes.answers), dry_run=dry_run))

    def _whole(self, command: ForkRun, record: RunRecord) -> ForkRun:
        """Give the command with what was hidden of the other run, as long as that is there."""
        hidden = self.merlin.submissions.vault.get(record.run_id)
        wish = restored(command.wish, record.request.redacted or (), record.run_id, hidden)
        return replace(command, wish=wish)


def fork_of(record: RunRecord, head: Head, run_id: str, changes: Changes) -> ForkRun:
    """Give the command for a run that goes on from `record` at `head`; raises Usage for an answer to no question."""
    if changes.answers:
        raise Usage(
            f"{record.run_id} asks no questions, so there is none to answer otherwise: leave out --answer, "
            "or change what it runs with --command"
        )
    kept = {name: getattr(record.request, name) for name in _KEPT}
    leases = record.tenancy.wish if record.tenancy else None
    wish = SubmitRun(run_id=run_id, source=SOURCE, leases=leases, **kept)
    wish = replace(wish, idempotency_key=None, traceparent=changes.traceparent)
    for name in ("command", "workdir", "target_dir"):
        if (value := getattr(changes, name)) is not None:
            wish = replace(wish, **{name: value})
    return ForkRun(wish, run_stream(record.run_id), str(head), changes.answers)


def restore(artifacts: Sequence[Artifact], source_dir: Path, directory: Path, blobs: BlobStore) -> dict[str, str]:
    """Bring the files that a run had made into a new directory; gives those that cannot be had as they were, and why.

    Raises Refused for a directory that has something in it.
    """
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is there and not empty: name a new directory, so that nothing in it is mixed up")
    missing = {}
    directory.mkdir(parents=True, exist_ok=True)
    for artifact in artifacts:
        place = PurePosixPath(artifact.name)
        if place.is_absolute() or not place.parts or {"..", "."} & set(place.parts) or "\0" in artifact.name:
            missing[artifact.name] = "its name leads out of the directory"
            continue
        to = directory / place
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            fetch(artifact, source_dir, to, blobs)
        except (MerlinError, OSError) as error:
            missing[artifact.name] = str(error)
    return missing
