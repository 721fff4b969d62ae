"""What does a projected file say, if it is still all that there is to say?

Reading a fresh file needs neither the vocabulary of events nor the folds, so this module imports neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from eventlog.errors import Damaged, Invalid, NotReadable
from eventlog.names import Head
from eventlog.tip import surely_ends_at
from projections.layout import (
    CLUSTER,
    EXECUTION_STATE,
    LOG_NAME,
    OPERATOR_REQUESTS,
    RESOURCES,
    StateLayout,
    artifacts_path,
    bootstrap_path,
    catalog_path,
    run_id_of,
    run_record_path,
    run_stream,
)
from projections.statuses import STATUSES

if TYPE_CHECKING:
    from eventlog import EventLog

RUN_FOLD: Final = 1
"""The version of the fold of a run and of its files: what another one wrote is folded again from the first event."""
CLUSTER_FOLD: Final = 1
"""The same of the cluster."""
EXECUTION_FOLD: Final = 1
"""The same of an execution."""
LEASE_FOLD: Final = 1
"""The same of the resources, whose checkpoints are of that version too."""

RECORD_FIELDS: Final = (
    *("run_id", "target", "workflow", "source", "status", "created_at", "updated_at", "message", "submission_id"),
    *("exit_code", "idempotency_key", "artifacts"),
)
"""The fields of `run_record.json` that readers who do not fold rely on."""

Document: TypeAlias = Mapping[str, Any]
"""A projected file as JSON has it."""


class Stamp(NamedTuple):
    """What a file was folded from: up to which head, by which version of the fold."""

    seq: int
    h: str
    fold: int

    @property
    def head(self) -> Head:
        """The head of the stream when the file was written."""
        return Head(self.seq, self.h)


def read_record(root: Path, run_id: str, log: EventLog | None = None) -> Document | None:
    """Give `run_record.json` when it is up to date; None when it has to be folded. Raises Invalid for no run id."""
    document = _fresh(run_record_path(root, run_id), run_stream(run_id), RUN_FOLD, root, log)
    return document if document and _is_record(document, run_id) else None


def read_cluster(root: Path, log: EventLog | None = None) -> Document | None:
    """Give `bootstrap.json` when it is up to date; None when it has to be folded."""
    return _fresh(bootstrap_path(root), CLUSTER, CLUSTER_FOLD, root, log)


def read_artifacts(root: Path, run_id: str, log: EventLog | None = None) -> list[Document] | None:
    """Give `artifacts.json` when it is up to date, which its neighbour says; None when it has to be folded."""
    record = read_record(root, run_id, log)
    if record is None:
        return None
    if record["artifacts"] is None:
        return []
    artifacts = _json(artifacts_path(root, run_id))
    return artifacts if isinstance(artifacts, list) and len(artifacts) == record["artifacts"] else None


class Execution(NamedTuple):
    """What the files of an execution say: `execution_state.json`, and all requests sorted by their ids."""

    state: Document
    requests: Sequence[Document]


def read_execution(target_dir: Path) -> Execution | None:
    """Give the files of an execution when they are up to date; None when they have to be folded."""
    state = read_document(target_dir / EXECUTION_STATE)
    stamp = stamp_of(state) if state else None
    if state is None or stamp is None or stamp.fold != EXECUTION_FOLD:
        return None
    found = [_json(path) for path in sorted((target_dir / OPERATOR_REQUESTS).glob("*.json"))]
    requests = [request for request in found if isinstance(request, dict) and "as_of" in request]
    # Looked at last: what was published meanwhile has moved the log.
    if len(requests) != state.get("requests_count") or not surely_ends_at(target_dir / LOG_NAME, stamp.head):
        return None
    requests.sort(key=lambda request: str(request["id"]))
    return Execution(state, [{name: request[name] for name in request if name != "as_of"} for request in requests])


def stamps(root: Path) -> Callable[[str], Head | None]:
    """Give the heads that the projected files vouch for: nothing is published before it is durable."""

    def head(stream: str) -> Head | None:
        path = _stamped(root, stream)
        document = read_document(path) if path else None
        stamp = stamp_of(document) if document else None
        return stamp.head if stamp else None

    return head


def vanished(root: Path, logged: Collection[str]) -> Iterator[str]:
    """Yield the streams that a projected file vouches for although they are not among those with a log."""
    told = stamps(root)
    return (stream for stream in StateLayout(root).names() if stream not in logged and told(stream))


def read_document(path: Path) -> Document | None:
    """Give the object in the file at `path`; None when there is none, be it absent, empty or half a file."""
    document = _json(path)
    return document if isinstance(document, dict) else None


def stamp_of(document: Document) -> Stamp | None:
    """Give what the file says that it was folded from; None when it says nothing sensible."""
    match document.get("as_of"):
        case {"seq": int(seq), "h": str(h), "fold": int(fold)}:
            with suppress(Invalid):
                return Stamp(*Head.parse(f"{seq}:{h}"), fold)
    return None


def _fresh(path: Path, stream: str, fold: int, root: Path, log: EventLog | None) -> Document | None:
    document = read_document(path)
    stamp = stamp_of(document) if document else None
    if stamp is None or stamp.fold != fold:
        return None
    if log is None:
        layout = StateLayout(root)
        if surely_ends_at(layout.path(stream), stamp.head):
            return document
        from eventlog import FileLog

        log = FileLog(layout)
    with suppress(Damaged, NotReadable):
        if log.head(stream) == stamp.head:
            return document
    return None


def _is_record(document: Document, run_id: str) -> bool:
    """Tell whether a file with a good stamp has what lists are made of, too: hands may have been there."""
    if document.get("run_id") != run_id or document.get("status") not in STATUSES:
        return False
    return all(name in document and _is_plain(document[name]) for name in RECORD_FIELDS)


def _is_plain(value: object) -> bool:
    """Tell whether a value can be printed and kept in a database."""
    if isinstance(value, str):
        return value.isascii() or value.encode(errors="replace").decode() == value
    return value is None or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _stamped(root: Path, stream: str) -> Path | None:
    if stream == CLUSTER:
        return bootstrap_path(root)
    if stream == RESOURCES:
        return catalog_path(root)
    run_id = run_id_of(stream)
    return run_record_path(root, run_id) if run_id else None


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content
