"""What was everything like at some time: runs, cluster, and whatever else has a stream?

Every stream is taken at the last event that it says was recorded by then. Most runs need no look at their logs: one
that the index says was last touched before is as it was, and one that begins later was not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from eventlog import Damaged, NotReadable
from merlin_es import then
from merlin_es.moments import last_by
from merlin_es.past import Past
from merlin_es.waiting import WORKFLOW
from projections.cluster import NOT_STARTED, ClusterRecord
from projections.events.recorded import UnknownEvent
from projections.index import Index, RunRow, Selection
from projections.layout import CLUSTER, RESOURCES, run_stream
from projections.lease_state import Resources
from projections.line import line_for
from projections.projection import cluster_json, run_json
from projections.snapshots import Stand
from projections.statuses import OPEN, STATUSES


@dataclass(frozen=True, slots=True)
class RunThen:
    """A run as it stood."""

    run_id: str
    status: str
    workflow: str
    updated_at: str
    message: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A key that was held, by whom and since when, and who waited for it, the next one first."""

    key: str
    lease_id: str | None
    owner: str | None
    since: str | None
    status: str
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Open:
    """A question that waited for somebody's word, in the execution of a run."""

    run_id: str
    question_id: str
    question: str
    options: tuple[str, ...]
    since: str


@dataclass(slots=True)
class Plane:
    """Everything, at `time`; `runs` counts them by status, `open` are those that had not ended.

    `keys` are those that were held, waited for, or not to be had.

    `doubtful` are streams whose clocks went back, so that a time says less of them; `sick` are those that could not be
    read, with the reason.
    """

    time: str
    cluster: Mapping[str, object] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    open: list[RunThen] = field(default_factory=list)
    keys: list[Held] = field(default_factory=list)
    questions: list[Open] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    sick: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunsThen:
    """A list of runs as it was; `doubtful` and `sick` as for Plane."""

    rows: tuple[RunRow, ...]
    doubtful: list[str]
    sick: dict[str, str]


def at(time: str, past: Past, index: Index) -> Plane:
    """Give everything at a time (ISO 8601, UTC, as events have it)."""
    plane = Plane(time)
    cluster: ClusterRecord = _then(past, CLUSTER, plane) or NOT_STARTED
    plane.cluster = cluster_json(cluster)
    plane.keys = list(_keys(_then(past, RESOURCES, plane)))
    counted: Counter[str] = Counter()
    executions: set[str] = set()
    for row in reversed(index.list()):
        if run := _row(row, past, plane):
            counted[run.status] += 1
            if row.workflow == WORKFLOW:
                plane.questions.extend(_question(row.run_id, past, plane, executions))
            if run.status in OPEN or run.status == "lost":
                plane.open.append(RunThen(run.run_id, run.status, run.workflow, run.updated_at, run.message))
    plane.runs = {status: counted[status] for status in STATUSES if counted[status]}
    plane.sick |= dict(index.sick())
    return plane


def runs(time: str, past: Past, index: Index, wanted: Selection) -> RunsThen:
    """List the runs that are wanted and were there at a time, the newest first; `status` is the one that they had."""
    plane = Plane(time)
    rows: list[RunRow] = []
    for row in index.list(wanted._replace(status=None, limit=None)):
        found = _row(row, past, plane)
        if found is not None and wanted.status in (None, found.status):
            rows.append(found)
        if len(rows) == wanted.limit:
            break
    return RunsThen(tuple(rows), plane.doubtful, plane.sick)


def _row(row: RunRow, past: Past, plane: Plane) -> RunRow | None:
    """Give the row of a run as it was then; None where it was not there, or nobody can tell."""
    if row.updated_at <= plane.time or row.created_at > plane.time:
        return row if row.created_at <= plane.time else None
    stand = _stand(past, run_stream(row.run_id), plane)
    record = stand.state.record if stand else None
    if stand is None or record is None:
        return None
    document = run_json(record)
    was = {name: document[name] for name in ("status", "updated_at", "message", "submission_id", "exit_code")}
    return replace(row, **was, seq=stand.head.seq, h=stand.head.h)


def _keys(state: Resources | None) -> Iterator[Held]:
    for name, key in sorted(state.keys.items()) if state else ():
        lease = state.holder(name) if state else None
        waiting = tuple(claim.owner for claim in line_for(name, state)) if state else ()
        if lease or waiting or key.status != "ENABLED":
            yield Held(
                name,
                lease.lease_id if lease else None,
                lease.owner if lease else None,
                lease.created_at if lease else None,
                key.status,
                waiting,
            )


def _question(run_id: str, past: Past, plane: Plane, seen: set[str]) -> Iterator[Open]:
    """Yield what was open in the execution of a run; the one that several runs carried out is asked once."""
    stream = past.execution_of(run_id)
    if stream is None or stream in seen:
        return
    seen.add(stream)
    try:
        state = then.execution(past, stream, plane.time)
    except (Damaged, NotReadable, UnknownEvent) as error:
        plane.sick[stream] = str(error)
        return
    for request in state.requests.values():
        if request.status == "open" and not request.withdrawn:
            options = tuple(option.id for option in request.options)
            yield Open(run_id, request.id, request.question, options, request.created_at)


def _then(past: Past, stream: str, plane: Plane) -> Any:  # noqa: ANN401  each stream has its own kind of state
    stand = _stand(past, stream, plane)
    return stand and stand.state


def _stand(past: Past, stream: str, plane: Plane) -> Stand | None:
    """Give a stream at that time; None when nothing of it was, or nobody can tell."""
    try:
        seq, is_doubtful = last_by(plane.time, past.log.read(stream))
        if is_doubtful:
            plane.doubtful.append(stream)
        return past.at(stream, seq) if seq else None
    except (Damaged, NotReadable, UnknownEvent) as error:
        plane.sick[stream] = str(error)
        return None
