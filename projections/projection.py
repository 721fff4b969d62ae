"""What is a projection: which events does it fold, to what state, and which files become of that?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from msgspec import Struct, field

from eventlog import Head, Invalid
from projections import artifacts, cluster, run_record
from projections.artifacts import ArtifactIndex
from projections.cluster import NOT_STARTED, ClusterRecord
from projections.events.cluster import CLUSTER_EVENTS, ClusterEvent
from projections.events.recorded import Recorded
from projections.events.run import RUN_EVENTS, RunEvent
from projections.folding import Files as Files
from projections.folding import Projection as Projection
from projections.folding import all_of, as_bytes, some_of, stamp
from projections.fresh import CLUSTER_FOLD, RUN_FOLD
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
from projections.run_record import RunRecord

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
ELSEWHERE: Final = frozenset({"request", "seq"})
"""Fields of a record that are not written under their names: one is spread out, the other stands in the stamp."""
RARE: Final = frozenset({"forked_from", "imported", "redacted", "sealed_at", "tenancy"})
"""Fields that are written where they say something: files from before there were such look the same."""


class RunState(Struct, frozen=True):
    """All that the files of a run are written from; `record` is None before the run begins."""

    record: RunRecord | None = None
    artifacts: ArtifactIndex = field(default_factory=ArtifactIndex)


def projection_of(stream: str) -> Projection[Any, Any]:
    """Give the projection of `stream`; raises Invalid when it has none."""
    if stream == CLUSTER:
        return CLUSTER_PROJECTION
    if run_id_of(stream):
        return RUN_PROJECTION
    if stream == RESOURCES:
        from projections.lease_projection import LEASE_PROJECTION  # Whoever looks at a run does not wait for it.

        return LEASE_PROJECTION
    raise Invalid(f"nothing is folded from {stream!r}")


def has_projection(stream: str) -> bool:
    """Tell whether files are folded from `stream`."""
    return stream in (CLUSTER, RESOURCES) or run_id_of(stream) is not None


def event_types() -> tuple[str, ...]:
    """Give the types of all events that states are folded from."""
    projections = (RUN_PROJECTION, CLUSTER_PROJECTION, projection_of(RESOURCES))
    return tuple(dict.fromkeys(kind for each in projections for kind in each.codec.types))


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


class Folds(Struct, frozen=True):
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
    from projections.lease_projection import lease_file

    held = {lease_name(lease.lease_id): lease_file(lease, head) for lease in state.leases.values()}
    return {**held, **files}


def run_document(record: RunRecord, head: Head) -> dict[str, object]:
    """Give `run_record.json`: the fields that it has always had, in that order, then the new ones."""
    request, attempt = record.request, record.attempt
    document = some_of(request, _REQUEST) | {
        "engine": ENGINE,
        "status": record.status,
        "cluster_address": attempt.cluster_address if attempt else None,
        "submission_id": attempt.submission_id if attempt else None,
        "message": record.message,
        "updated_at": record.updated_at,
    }
    for part in (request, record):
        new = [name for name in part.__struct_fields__ if name not in document and not _is_unsaid(part, name)]
        document |= some_of(part, [name for name in new if name not in ELSEWHERE])
    return document | {"as_of": stamp(head, RUN_FOLD)}


def _is_unsaid(part: object, name: str) -> bool:
    """Tell whether a field says nothing, and is one that files have only where it does."""
    return name in RARE and getattr(part, name) is None


def run_json(record: RunRecord) -> dict[str, object]:
    """Give a run as `run_record.json` has it, without the stamp."""
    document = run_document(record, Head(record.seq, ""))
    del document["as_of"]
    return document


def cluster_json(record: ClusterRecord) -> dict[str, object]:
    """Give the cluster as `bootstrap.json` has it, without the stamp."""
    return all_of(record)


def _evolve_run(state: RunState, recorded: Recorded[RunEvent]) -> RunState:
    record = run_record.evolve(state.record, recorded)
    return RunState(record, artifacts.evolve(state.artifacts, recorded))


def _run_files(stream: str, state: RunState, head: Head) -> Files:
    """Write a run out. Its directory is that of its stream, whatever its events say."""
    record, index = state.record, state.artifacts
    if record is None:
        return {}
    request_path, artifacts_path, record_path = file_names(stream)
    asked = [name for name in record.request.__struct_fields__ if not _is_unsaid(record.request, name)]
    files = {request_path: as_bytes(some_of(record.request, dict.fromkeys((*_REQUEST, *asked))))}
    if index.files is not None:
        files[artifacts_path] = as_bytes(index.files)
    return files | {record_path: as_bytes(run_document(record, head))}


def _cluster_files(stream: str, record: ClusterRecord, head: Head) -> Files:
    document = all_of(record) | {"as_of": stamp(head, CLUSTER_FOLD)}
    return {file_names(stream)[-1]: as_bytes(document)}


RUN_PROJECTION: Final[Projection[RunState, RunEvent]] = Projection(
    RUN_FOLD, RUN_EVENTS, RunState(), _evolve_run, _run_files
)
CLUSTER_PROJECTION: Final[Projection[ClusterRecord, ClusterEvent]] = Projection(
    CLUSTER_FOLD, CLUSTER_EVENTS, NOT_STARTED, cluster.evolve, _cluster_files
)
STATE_ROOT: Final = Folds(has_projection, projection_of, all_files, main_file, may_be_folded, glance)
"""What is folded in a state root."""
