"""Where does everything lie under a state root?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from eventlog.errors import Invalid
from eventlog.names import is_stream

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
CATALOG: Final = "catalog.json"

_RUN: Final = "run/"
_LOG: Final = "events.jsonl"


class StateLayout:
    """The state root as a log sees it: a directory for each run, one for the cluster and one for the resources."""

    def __init__(self, root: Path) -> None:
        self.top = root
        self._runs = str(runs_path(root))

    def path(self, stream: str) -> Path:
        """Give the log file of `stream`; raises Invalid when a state root has no such stream."""
        if stream == CLUSTER:
            return self.top / "cluster" / _LOG
        if stream in (LEDGER, RESOURCES, SUBMISSIONS):
            return self.top / stream / _LOG
        if run_id := run_id_of(stream):
            return run_path(self.top, run_id) / _LOG
        others = ", ".join(_WITHOUT_RUNS)
        raise Invalid(f"a state root has no stream {stream!r}: it has {others} and {_RUN}<run id>")

    def streams(self) -> Iterator[str]:
        """Yield the streams that have a log, sorted by their parts."""
        yield from self._logged(stream for stream in _WITHOUT_RUNS if stream < _RUN)
        yield from self._logged(run_stream(run_id) for run_id in sorted(self.run_ids()))
        yield from self._logged(stream for stream in _WITHOUT_RUNS if stream > _RUN)

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
        return f"{self._runs}/{run_id}/{_LOG}"

    def _logged(self, streams: Iterable[str]) -> Iterator[str]:
        for stream in streams:
            # A first append that was interrupted may leave an empty file.
            if _has_bytes(self.path(stream)):
                yield stream


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


def index_lock_path(root: Path) -> Path:
    """Give the empty file whose lock says who uses the index; it is never removed."""
    return root / "index.lock"


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
