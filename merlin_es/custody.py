"""Is everything that was recorded still there, and as it was recorded? And how is it kept so?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import eventlog
from eventlog import Head
from eventlog.present import archive_path, has_log
from merlin_es.deciders import run as rules
from merlin_es.errors import NotFound
from merlin_es.ledger import Ledger
from projections import proving
from projections.events.recorded import UnknownEvent
from projections.layout import CLUSTER, LEDGER, RESOURCES, SUBMISSIONS, is_run_id, run_id_of, run_stream
from projections.projection import projection_of
from projections.registry import Noted
from projections.run_record import RunRecord

State = Literal["whole", "torn", "corrupt", "truncated", "replaced", "missing", "diverged", "unread"]
DAMAGED: frozenset[State] = frozenset({"corrupt", "truncated", "replaced", "missing", "unread"})
"""What was recorded is not there as it was recorded."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a look at every line of one stream, and at what the registry says of it, has found.

    `torn`: an interrupted append that nobody was told of stands at its end; the next append sets it aside. `truncated`,
    `replaced`, `missing`: it ends before, or lacks, what the registry notes, or is gone. `diverged`: the fold comes to
    something else than a checkpoint says. `noted` is the last head that the registry has of it, `checkpoints` counts
    those that a replay has passed, None where none was made.
    """

    stream: str
    state: State
    head: Head | None = None
    size: int = 0
    noted: Head | None = None
    checkpoints: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the log of a run lies, which takes `size_bytes` as it was written and `stored_bytes` as it is."""

    run_id: str
    head: Head
    size_bytes: int
    path: Path
    stored_bytes: int


@dataclass(frozen=True)
class Custody:
    """What keeps and proves the logs of one state root."""

    ledger: Ledger
    root: Path

    def stream(self, name: str) -> str:
        """Give the stream that somebody means by `name`: a run, or a stream as `verify --all` lists it."""
        is_named = name in (CLUSTER, LEDGER, RESOURCES, SUBMISSIONS) or run_id_of(name) is not None
        stream = name if is_named else run_stream(name) if is_run_id(name) else None
        if stream is None or not self.has_log(stream):
            raise NotFound(
                f"there is no run and no stream {name!r} in this state root: `merlin ray verify --all` lists them",
                names_a="run",
                name=name,
            )
        return stream

    def has_log(self, stream: str) -> bool:
        """Tell whether something was recorded in `stream`, be it sick."""
        return has_log(self.ledger.log.path(stream))

    def head(self, name: str) -> Head:
        """Give where a stream ends."""
        return self.ledger.log.head(self.stream(name))

    def seal(self, run_id: str, reason: str = "") -> RunRecord:
        """Have nothing more recorded of a run that has ended."""
        self.ledger.run(run_id)
        return self.ledger.change_run(run_id, lambda known: rules.seal(reason, known) if known else ())

    def archive(self, run_id: str) -> Packed:
        """Compress the log of a run that has ended, in place; every verb reads it as before."""
        record = self.ledger.run(run_id)
        rules.require_ended(record, "archive it")
        stream = run_stream(run_id)
        self.ledger.registry.note(run_id, self.ledger.log.head(stream), record.status)
        self.ledger.log.archive(stream)
        return self._packed(run_id)

    def unarchive(self, run_id: str) -> Packed:
        """Bring the log of a run back as it was, byte by byte."""
        self.ledger.run(run_id)
        self.ledger.log.unarchive(run_stream(run_id))
        return self._packed(run_id)

    def _packed(self, run_id: str) -> Packed:
        path = self.ledger.log.path(run_stream(run_id))
        verdict = eventlog.verify(path, run_stream(run_id))
        there = path if path.exists() else archive_path(path)
        return Packed(run_id, verdict.head, verdict.size, there, there.stat().st_size)

    def verify(self, name: str, *, expect: Head | None = None, fold: bool = False) -> Proof:
        """Prove one stream; `expect` is a head noted elsewhere, `fold` replays and compares with the checkpoints."""
        noted = self._registry()
        stream = name if run_id_of(name) in noted else run_stream(name) if name in noted else self.stream(name)
        return self._proof(stream, noted.get(run_id_of(stream) or "", ()), expect, fold)

    def verify_all(self, *, fold: bool = False) -> Iterator[Proof]:
        """Prove every stream, and that every run which the registry has is there."""
        noted = self._registry()
        seen = set()
        for stream in self.ledger.log.streams():
            seen.add(stream)
            yield self._proof(stream, noted.get(run_id_of(stream) or "", ()), None, fold)
        for run_id in sorted(noted):
            if is_run_id(run_id) and run_stream(run_id) not in seen:
                yield self._proof(run_stream(run_id), noted[run_id], None, fold)

    def _registry(self) -> dict[str, Sequence[Noted]]:
        try:
            return self.ledger.registry.heads()
        except (eventlog.EventLogError, UnknownEvent):
            return {}  # Its own proof says what is wrong with it.

    def _proof(self, stream: str, noted: Sequence[Noted], expect: Head | None, fold: bool) -> Proof:
        path = self.ledger.log.path(stream)
        last = noted[-1].head if noted else None
        if noted and not self.has_log(stream):
            why = f"it ended as {noted[-1].status} at {last}, and its log {path} is gone: bring it back from a copy"
            return Proof(stream, "missing", noted=last, why=why)
        try:
            verdict = eventlog.verify(path, stream, expect)
        except eventlog.Damaged as error:
            return Proof(stream, "corrupt", noted=last, why=str(error))
        except eventlog.EventLogError as error:
            return Proof(stream, "unread", noted=last, why=str(error))
        if verdict.state == "corrupt":
            why = f"line {verdict.line} (byte {verdict.offset}) of {path}: {verdict.why}"
            return Proof(stream, "corrupt", verdict.head, verdict.size, last, why=why)
        for each in noted:
            if state := self._contradicts(stream, verdict.head, each):
                why = f"it ended as {each.status} at {each.head}, but {_WHY[state]}: bring {path} back from a copy"
                return Proof(stream, state, verdict.head, verdict.size, last, why=why)
        proof = Proof(stream, verdict.state, verdict.head, verdict.size, last, why=verdict.why)
        return self._folded(proof) if fold else proof

    def _contradicts(self, stream: str, head: Head, noted: Noted) -> Literal["truncated", "replaced"] | None:
        if head.seq < noted.head.seq:
            return "truncated"
        event = next(self.ledger.log.read(stream, noted.head.seq))
        return None if event.head == noted.head else "replaced"

    def _folded(self, proof: Proof) -> Proof:
        """Replay a whole log, and compare with its checkpoints and its seal."""
        if proving.kind_of(proof.stream) is None:
            return proof
        projection = projection_of(proof.stream)
        prover = proving.Prover(projection, proof.stream)
        sealed = 0
        try:
            for step in proving.steps(projection, self.ledger.log.read(proof.stream), projection.origin):
                prover.take(*step)
                if sealed and not step.event.type.startswith("log."):
                    why = (
                        f"it was sealed at seq {sealed}, and seq {step.head.seq} ({step.event.type}) stands behind that"
                    )
                    return replace(proof, state="replaced", why=why)
                sealed = sealed or (step.head.seq if step.event.type == "run.sealed" else 0)
        except (eventlog.EventLogError, UnknownEvent) as error:
            return replace(proof, state="unread", why=str(error))
        proof = replace(proof, checkpoints=prover.passed)
        if prover.divergence and not prover.divergence.is_of_other_fold:
            return replace(proof, state="diverged", why=str(prover.divergence))
        return proof


_WHY = {
    "truncated": "its log ends before that",
    "replaced": "another log stands there now",
}
