"""Where does everything lie under a state root?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eventlog.errors import Invalid
from eventlog.names import is_stream
from eventlog.present import has_log

CLUSTER: Final = "cluster/merlin-local"
"""The stream of the cluster that runs go to; there is one."""
RESOURCES: Final = "resources"
LEDGER: Final = "ledger"
"""The stream that says which ledger this state root is."""
SUBMISSIONS: Final = "submissions"
"""The stream that says which run belongs to an idempotency key."""

_WITHOUT_RUNS: Final = (CLUSTER, LEDGER, RESOURCES, SUBMISSIONS)

RUN_REQUEST: Final = "run_request.json"
RUN_RECORD: Final = "run_record.json"
ARTIFACTS: Final = "artifacts.json"
BOOTSTRAP: Final = "bootstrap.json"
EXECUTION_STATE: Final = "execution_state.json"
EXECUTION_BUNDLE: Final = "execution_bundle.json"
TASK_STATES: Final = "task_states"
OPERATOR_REQUESTS: Final = "operator_requests"
EXECUTION_DIRECTORIES: Final = (TASK_STATES, OPERATOR_REQUESTS)
CATALOG: Final = "catalog.json"

_RUN: Final = "run/"
_EXECUTION: Final = "execution/"
LOG_NAME: Final = "events.jsonl"


class StateLayout:
    """The state root as a log sees it: a directory for each run, one for the cluster and one for the resources."""

    def __init__(self, root: Path) -> None:
        self.top = root
        self._runs = str(runs_path(root))

    def path(self, stream: str) -> Path:
        """Give the log file of `stream`; raises Invalid when a state root has no such stream."""
        if stream == CLUSTER:
            return self.top / "cluster" / LOG_NAME
        if stream in (LEDGER, RESOURCES, SUBMISSIONS):
            return self.top / stream / LOG_NAME
        if run_id := run_id_of(stream):
            return run_path(self.top, run_id) / LOG_NAME
        others = ", ".join(_WITHOUT_RUNS)
        raise Invalid(f"a state root has no stream {stream!r}: it has {others} and {_RUN}<run id>")

    def streams(self) -> Iterator[str]:
        """Yield the streams that have a log, sorted by their parts."""
        return (stream for stream in self.names() if has_log(self.path(stream)))

    def names(self) -> Iterator[str]:
        """Yield the streams that can have a log, sorted by their parts; for a run there is a directory at least."""
        yield from (stream for stream in _WITHOUT_RUNS if stream < _RUN)
        yield from map(run_stream, sorted(self.run_ids()))
        yield from (stream for stream in _WITHOUT_RUNS if stream > _RUN)

    def run_ids(self) -> Iterator[str]:
        """Yield the names in the directory of runs that can be ids, in any order, whether there is a log or not."""
        try:
            entries = os.scandir(self._runs)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield entry.name

    def log_text(self, run_id: str) -> str:
        """Give the log file of a run as text: paths of many runs are wanted at once."""
        return f"{self._runs}/{run_id}/{LOG_NAME}"


class TargetLayout:
    """A target directory as a log sees it: the log of one execution, whose first line says which."""

    def __init__(self, target_dir: Path) -> None:
        self.top = target_dir

    def path(self, stream: str) -> Path:
        """Give the log file; raises Invalid for a stream of another kind."""
        if not stream.startswith(_EXECUTION):
            raise Invalid(f"a target directory has no stream {stream!r}: it has one {_EXECUTION}<id>")
        return self.top / LOG_NAME

    def streams(self) -> Iterator[str]:
        """Yield the one stream, if there is one."""
        stream = self.stream()
        if stream is not None:
            yield stream

    def stream(self) -> str | None:
        """Give the stream that the log's first line names; None when nothing was recorded, or hardly begun.

        Raises Invalid when the file is something else.
        """
        from eventlog.layout import stream_of  # Lists of runs need none of this.

        path = self.top / LOG_NAME
        if not has_log(path):
            return None
        try:
            return stream_of(path)
        except Invalid:
            if b"\n" in path.read_bytes():
                raise
            return None  # A first append that was interrupted.


def execution_stream(execution_id: str) -> str:
    """Give the stream of an execution; raises Invalid for what cannot be an id."""
    if not is_run_id(execution_id):
        raise Invalid(f"{execution_id!r} cannot be the id of an execution")
    return _EXECUTION + execution_id


def execution_id_of(stream: str) -> str | None:
    """Give the execution whose stream this is, None when it is not an execution's."""
    execution_id = stream.removeprefix(_EXECUTION)
    return execution_id if execution_id != stream and is_run_id(execution_id) else None


def is_run_id(name: str) -> bool:
    """Tell whether `name` is safe as an id, and so as a path."""
    return "/" not in name and is_stream(name)


def run_stream(run_id: str) -> str:
    """Give the stream of a run; raises Invalid for what cannot be an id."""
    if not is_run_id(run_id):
        raise Invalid(
            f"{run_id!r} cannot be the id of a run: use 1 to 128 letters, digits, `.`, `_` and `-`, "
            "starting with a letter or digit and without `..`"
        )
    return _RUN + run_id


def run_id_of(stream: str) -> str | None:
    """Give the run whose stream this is, None when it is not a run's."""
    run_id = stream.removeprefix(_RUN)
    return run_id if run_id != stream and is_run_id(run_id) else None


def runs_path(root: Path) -> Path:
    """Give the directory that holds a directory for each run."""
    return root / "runs"


def run_path(root: Path, run_id: str) -> Path:
    """Give the directory of a run; raises Invalid for what cannot be an id."""
    run_stream(run_id)
    return root / "runs" / run_id


def run_record_path(root: Path, run_id: str) -> Path:
    """Give the file that says where a run stands."""
    return run_path(root, run_id) / RUN_RECORD


def artifacts_path(root: Path, run_id: str) -> Path:
    """Give the file that lists what a run has made."""
    return run_path(root, run_id) / ARTIFACTS


def bootstrap_path(root: Path) -> Path:
    """Give the file that describes the cluster."""
    return root / "cluster" / BOOTSTRAP


def resources_path(root: Path) -> Path:
    """Give the directory of all that is said of resources."""
    return root / RESOURCES


def catalog_path(root: Path) -> Path:
    """Give the file that lists the keys, who holds them and who waits."""
    return root / RESOURCES / CATALOG


def leases_path(root: Path) -> Path:
    """Give the directory that holds a file for every lease there ever was."""
    return root / RESOURCES / "leases"


def lease_name(lease_id: str) -> str:
    """Give the path of a lease's file under the state root; raises Invalid for what cannot be an id."""
    if not is_run_id(lease_id):
        raise Invalid(f"{lease_id!r} cannot be the id of a lease: it is `lease-` and 10 hexadecimal digits")
    return f"{RESOURCES}/leases/{lease_id}.json"


def index_path(root: Path) -> Path:
    """Give the file that lists and searches are read from."""
    return root / "index.sqlite"


def snapshots_path(root: Path) -> Path:
    """Give the directory of states that were kept to look back quickly; all of it can be deleted."""
    return root / "snapshots"


def index_lock_path(root: Path) -> Path:
    """Give the empty file whose lock says who uses the index; it is never removed."""
    return root / "index.lock"
