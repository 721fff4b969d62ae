"""What did a run, its artifacts, its execution or the cluster look like at some moment?

The answers have the fields of today's, so whatever shows what is can show what was.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from eventlog import Event
from merlin_es.errors import NotFound
from merlin_es.moments import AtTime, AtType, Point, find, last_by, parse
from merlin_es.past import Past
from merlin_es.waiting import WORKFLOW, standing
from projections.artifacts import Artifact
from projections.cluster import ClusterRecord
from projections.events.execution import EXECUTION_EVENTS
from projections.events.run import RUN_EVENTS
from projections.execution import evolve
from projections.execution_files import state_json
from projections.execution_state import ExecutionState
from projections.layout import CLUSTER, run_id_of
from projections.projection import RunState, run_document
from projections.snapshots import Stand


@dataclass(frozen=True, slots=True)
class Then:
    """A run after `event`, which is at `point`; `time` is up to when its execution is told."""

    point: Point
    event: Event
    stand: Stand
    time: str

    @property
    def state(self) -> RunState:
        """The run."""
        state: RunState = self.stand.state
        return state


def point(past: Past, name: str, moment: str | None) -> Point:
    """Give the event of a run that is meant; a type of event of its execution means what the run was then."""
    stream = past.folded(name)
    meant = None if moment is None else parse(moment, past.now())
    if not isinstance(meant, AtType) or meant.type in RUN_EVENTS.types:
        return past.point(stream, moment)
    run_id = run_id_of(stream)
    execution = past.execution_of(run_id) if run_id else None
    if execution is None:
        return past.point(stream, moment)
    log = past.elsewhere.logs[execution]
    found = find(meant, execution, log.read(execution))
    event = next(log.read(execution, found.seq))
    return Point(last_by(event.time, past.log.read(stream))[0] or 1, found.note, found.seq)


def run(past: Past, run_id: str, moment: str) -> Then:
    """Give a run at a moment; raises NotFound, Usage and Ambiguous."""
    stream = past.folded(run_id)
    if run_id_of(stream) is None:
        raise NotFound(f"{run_id} is no run: `merlin ray state {run_id} --at {shlex.quote(moment)}` shows it")
    found = point(past, run_id, moment)
    meant = parse(moment, past.now())
    stand = past.at(stream, found.seq)
    event = next(past.log.read(stream, found.seq))
    return Then(found, event, stand, meant.time if isinstance(meant, AtTime) else event.time)


def status(past: Past, run_id: str, moment: str) -> tuple[Mapping[str, Any], Then]:
    """Give a run as `run_record.json` had it, with where its execution stood, if it carried out one."""
    then = run(past, run_id, moment)
    record = then.state.record
    if record is None:
        raise NotFound(f"{run_id} had not begun at {moment}")
    document: Mapping[str, Any] = run_document(record, then.stand.head)
    stream = past.execution_of(record.request.run_id) if record.request.workflow == WORKFLOW else None
    if stream is None:
        return document, then
    state = execution(past, stream, then.time, then.point.execution_seq)
    if not state.is_prepared:
        return document, then
    current = state.current_task
    said = standing(state_json(state, {}), current.message if current else None)
    return {**document, "execution": said}, then


def artifacts(past: Past, run_id: str, moment: str) -> tuple[tuple[Artifact, ...], Then]:
    """Give the artifacts of a run as they had been indexed by then."""
    then = run(past, run_id, moment)
    return then.state.artifacts.files or (), then


def cluster(past: Past, moment: str) -> tuple[ClusterRecord, Point]:
    """Give the cluster as it was recorded at a moment."""
    if not past.knows(CLUSTER):
        raise NotFound("no cluster was ever recorded here: `merlin ray cluster start-local` starts one")
    found = past.point(CLUSTER, moment)
    return past.at(CLUSTER, found.seq).state, found


def execution(past: Past, stream: str, time: str, seq: int | None = None) -> ExecutionState:
    """Give an execution that was met (see Past.execution_of) at a time, or at one of its events."""
    log = past.elsewhere.logs[stream]
    last = seq if seq is not None else last_by(time, log.read(stream))[0]
    state = ExecutionState()
    for recorded in EXECUTION_EVENTS.decode(takewhile(lambda event: event.seq <= last, log.read(stream))):
        state = evolve(state, recorded)
    return state
