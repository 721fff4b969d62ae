"""What is a projection: which events does it fold, to what state, and which files become of that?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from eventlog import Event, EventLog, Head, Invalid
from eventlog.frame import origin
from projections import artifacts, cluster, leases, run_record
from projections.artifacts import ArtifactIndex
from projections.cluster import NOT_STARTED, ClusterRecord
from projections.events.base import Codec, DomainEvent, Recorded
from projections.events.cluster import CLUSTER_EVENTS, ClusterEvent
from projections.events.lease import LEASE_EVENTS, LeaseEvent
from projections.events.run import RUN_EVENTS, RunEvent
from projections.fresh import CLUSTER_FOLD, LEASE_FOLD, RUN_FOLD
from projections.layout import (
    ARTIFACTS,
    BOOTSTRAP,
    CATALOG,
    CLUSTER,
    RESOURCES,
    RUN_RECORD,
    RUN_REQUEST,
    lease_name,
    run_id_of,
)
from projections.lease_state import NOTHING, Lease, Resources
from projections.run_record import RunRecord

S = TypeVar("S")
E = TypeVar("E", bound=DomainEvent)
Files: TypeAlias = Mapping[str, bytes]
"""What is in each file, by its path under the state root, in the order in which they are to be written."""
Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, object] | None"

ENGINE: Final = "ray"
_REQUEST: Final = (
    "run_id",
    "target",
    "workflow",
    "source",
    "command",
    "workdir",
    "target_dir",
    "metadata",
    "created_at",
)
"""What readers have always found in `run_request.json`, in that order; whatever is new comes after it."""
_ELSEWHERE: Final = frozenset({"request", "seq"})
"""Fields of a record that are not written under their names: one is spread out, the other stands in the stamp."""
_RARE: Final = frozenset({"forked_from", "imported", "redacted", "sealed_at", "tenancy"})
"""Fields that are written where they say something: files from before there were such look the same."""


@dataclass(frozen=True, slots=True)
class Projection(Generic[S, E]):
    """The fold of one kind of stream from `origin` on, and the `files` that are its state written out.

    `version` changes with the fold and with the look of its files. The file that carries the stamp is written last.
    """

    version: int
    codec: Codec[Any]
    origin: S
    evolve: Callable[[S, Recorded[E]], S]
    files: Callable[[str, S, Head], Files]

    def states(self, events: Iterable[Event], state: S) -> Iterator[tuple[S, Head]]:
        """Fold `events` on top of `state`; yield what it is after each of them."""
        heads: list[Head] = []

        def noted() -> Iterator[Event]:
            for event in events:
                heads[:] = [event.head]
                yield event

        for recorded in self.codec.decode(noted()):
            state = self.evolve(state, recorded)
            yield state, heads[0]

    def fold(self, events: Iterable[Event], state: S, head: Head) -> tuple[S, Head]:
        """Fold `events` on top of `state` at `head`; give what it is then, and the head."""
        for state, head in self.states(events, state):  # noqa: B007, B020  the last pair is the answer
            pass
        return state, head

    def fold_own(self, events: Iterable[Event], said: Sequence[E], state: S) -> Iterator[tuple[S, Head]]:
        """Fold `events` of which the last ones are what this process has `said` and just appended, like `states`.

        What was validated when it was said is not decoded again: what would be read back is the same.
        """
        events = list(events)
        others = len(events) - len(said)
        for state, head in self.states(events[:others], state):  # noqa: B020  the last state goes on
            yield state, head
        for event, own in zip(events[others:], said, strict=True):
            state = self.evolve(state, Recorded(event.seq, event.time, event.actor, event.door, own))
            yield state, event.head

    def fold_all(self, stream: str, log: EventLog) -> tuple[S, Head]:
        """Fold all that there is of `stream`."""
        return self.fold(log.read(stream), self.origin, origin(stream).head)


@dataclass(frozen=True, slots=True)
class RunState:
    """All that the files of a run are written from; `record` is None before the run begins."""

    record: RunRecord | None = None
    artifacts: ArtifactIndex = field(default_factory=ArtifactIndex)


def projection_of(stream: str) -> Projection[Any, Any]:
    """Give the projection of `stream`; raises Invalid when it has none."""
    if stream == CLUSTER:
        return CLUSTER_PROJECTION
    if stream == RESOURCES:
        return LEASE_PROJECTION
    if run_id_of(stream):
        return RUN_PROJECTION
    raise Invalid(f"nothing is folded from {stream!r}")


def has_projection(stream: str) -> bool:
    """Tell whether files are folded from `stream`."""
    return stream in (CLUSTER, RESOURCES) or run_id_of(stream) is not None


def event_types() -> tuple[str, ...]:
    """Give the types of all events that states are folded from."""
    return tuple(dict.fromkeys(kind for each in PROJECTIONS for kind in each.codec.types))


def file_names(stream: str) -> tuple[str, ...]:
    """Give every file that may be folded from `stream`, by its path under the state root; the last has the stamp.

    The files of leases are not among them: there is one for each lease, with a stamp of its own.
    """
    if stream == CLUSTER:
        return (f"cluster/{BOOTSTRAP}",)
    if stream == RESOURCES:
        return (f"{RESOURCES}/{CATALOG}",)
    directory = f"runs/{run_id_of(stream)}"
    return tuple(f"{directory}/{name}" for name in (RUN_REQUEST, ARTIFACTS, RUN_RECORD))


@dataclass(frozen=True, slots=True)
class Folds:
    """What is folded under one directory, be it a state root or that of one execution.

    `main` names the file of a stream that says where it stands; `owns` tells whether a file is one of a stream's.
    `glance` gives, for a state, a file and one of its fields, what that is written from: while it is equal, so is what
    is written; None where nobody can tell without writing it out.
    """

    has: Callable[[str], bool]
    projection_of: Callable[[str], Projection[Any, Any]]
    all_files: Callable[[str, Any, Head], Files]
    main: Callable[[str], str]
    owns: Callable[[str, str], bool]
    glance: Callable[[Any, str, str], object | None] = lambda _state, _name, _key: None


def glance(state: object, name: str, key: str) -> object | None:
    """Give what a field of a file of a run is written from, which is much less than all of it."""
    if not isinstance(state, RunState) or state.record is None:
        return None
    if name.endswith(f"/{ARTIFACTS}"):
        return state.artifacts
    if name.endswith(f"/{RUN_REQUEST}"):
        return state.record.request
    for part in (state.record, state.record.request, state.record.attempt):
        if hasattr(part, key):
            return (part is None, getattr(part, key))
    return None


def main_file(stream: str) -> str:
    """Give the file that says where a stream stands."""
    return file_names(stream)[-1]


def may_be_folded(stream: str, name: str) -> bool:
    """Tell whether a file, by its path under the state root, is one that is folded from `stream`."""
    return name in file_names(stream) or (
        stream == RESOURCES and name.startswith(lease_name("lease").rpartition("/")[0])
    )


def all_files(stream: str, state: Any, head: Head) -> Files:  # noqa: ANN401  each stream has its own kind of state
    """Give all files that a state tells of, not only those that the last event may have changed."""
    files = projection_of(stream).files(stream, state, head)
    if stream != RESOURCES:
        return files
    held = {lease_name(lease.lease_id): lease_file(lease, head) for lease in state.leases.values()}
    return {**held, **files}


def run_document(record: RunRecord, head: Head) -> dict[str, object]:
    """Give `run_record.json`: the fields that it has always had, in that order, then the new ones."""
    request, attempt = record.request, record.attempt
    document = _some(request, _REQUEST) | {
        "engine": ENGINE,
        "status": record.status,
        "cluster_address": attempt.cluster_address if attempt else None,
        "submission_id": attempt.submission_id if attempt else None,
        "message": record.message,
        "updated_at": record.updated_at,
    }
    for part in (request, record):
        new = [each.name for each in fields(part) if each.name not in document and not _is_unsaid(part, each.name)]
        document |= _some(part, [name for name in new if name not in _ELSEWHERE])
    return document | {"as_of": _stamp(head, RUN_FOLD)}


def _is_unsaid(part: object, name: str) -> bool:
    """Tell whether a field says nothing, and is one that files have only where it does."""
    return name in _RARE and getattr(part, name) is None


def run_json(record: RunRecord) -> dict[str, object]:
    """Give a run as `run_record.json` has it, without the stamp."""
    document = run_document(record, Head(record.seq, ""))
    del document["as_of"]
    return document


def cluster_json(record: ClusterRecord) -> dict[str, object]:
    """Give the cluster as `bootstrap.json` has it, without the stamp."""
    return _all(record)


def lease_json(lease: Lease) -> dict[str, object]:
    """Give a lease as its file has it, without the stamp."""
    return _all(lease)


def lease_file(lease: Lease, head: Head) -> bytes:
    """Give the file of a lease; `head` is that of the last event which was about it."""
    return _bytes(lease_json(lease) | {"as_of": _stamp(head, LEASE_FOLD)})


def catalog_json(state: Resources) -> dict[str, object]:
    """Give `catalog.json`, which is all that goes on, without the stamp."""
    document = _all(state)
    del document["touched"]
    return document


def _lease_files(stream: str, state: Resources, head: Head) -> Files:
    """Write out what an event has changed: the lease that it was about, and the catalog."""
    catalog = _bytes(catalog_json(state) | {"as_of": _stamp(head, LEASE_FOLD)})
    files = {file_names(stream)[-1]: catalog}
    if state.touched is not None:
        return {lease_name(state.touched.lease_id): lease_file(state.touched, head)} | files
    return files


def _evolve_run(state: RunState, recorded: Recorded[RunEvent]) -> RunState:
    record = run_record.evolve(state.record, recorded)
    return RunState(record, artifacts.evolve(state.artifacts, recorded))


def _run_files(stream: str, state: RunState, head: Head) -> Files:
    """Write a run out. Its directory is that of its stream, whatever its events say."""
    record, index = state.record, state.artifacts
    if record is None:
        return {}
    request_path, artifacts_path, record_path = file_names(stream)
    asked = [each.name for each in fields(record.request) if not _is_unsaid(record.request, each.name)]
    files = {request_path: _bytes(_some(record.request, dict.fromkeys((*_REQUEST, *asked))))}
    if index.files is not None:
        files[artifacts_path] = _bytes(index.files)
    return files | {record_path: _bytes(run_document(record, head))}


def _cluster_files(stream: str, record: ClusterRecord, head: Head) -> Files:
    document = _all(record) | {"as_of": _stamp(head, CLUSTER_FOLD)}
    return {file_names(stream)[-1]: _bytes(document)}


def _stamp(head: Head, version: int) -> object:
    return {"seq": head.seq, "h": head.h, "fold": version}


def _bytes(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _some(part: object, names: Iterable[str]) -> dict[str, object]:
    return {name: msgspec.to_builtins(getattr(part, name)) for name in names}


def _all(part: Any) -> dict[str, object]:  # noqa: ANN401  no type says "a dataclass or a struct"
    return _some(part, [each.name for each in fields(part)] if is_dataclass(part) else part.__struct_fields__)


RUN_PROJECTION: Final[Projection[RunState, RunEvent]] = Projection(
    RUN_FOLD, RUN_EVENTS, RunState(), _evolve_run, _run_files
)
CLUSTER_PROJECTION: Final[Projection[ClusterRecord, ClusterEvent]] = Projection(
    CLUSTER_FOLD, CLUSTER_EVENTS, NOT_STARTED, cluster.evolve, _cluster_files
)
LEASE_PROJECTION: Final[Projection[Resources, LeaseEvent]] = Projection(
    LEASE_FOLD, LEASE_EVENTS, NOTHING, leases.evolve, _lease_files
)
PROJECTIONS: Final[tuple[Projection[Any, Any], ...]] = (RUN_PROJECTION, CLUSTER_PROJECTION, LEASE_PROJECTION)
STATE_ROOT: Final = Folds(has_projection, projection_of, all_files, main_file, may_be_folded, glance)
"""What is folded in a state root."""
