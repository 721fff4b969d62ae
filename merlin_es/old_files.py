"""What lies in a state root of the tool that this one replaces, as far as it can be believed?

Nothing there is trusted: a file may be half written, of any size and depth, a link that leads out, a FIFO, and a name
in it may be a path. What is wrong with one file is said of that file, and nothing is ever written there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from eventlog.errors import Invalid
from merlin_es.commands import OldClusterStatus, OldStatus
from merlin_es.errors import Usage
from merlin_es.tree import Tree, Unfit, shown
from projections.layout import ARTIFACTS, BOOTSTRAP, RUN_RECORD, RUN_REQUEST, is_run_id
from projections.lease_state import check_key, is_lease_id

FILE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of one old file: a record may hold the whole output of a job that failed."""
_LOG: Final = "events.jsonl"
_RUN_TIME: Final = re.compile(r"-(\d{14})-[0-9a-f]{8}$")

T = TypeVar("T")
R = TypeVar("R", bound="Request")


class Broken(Exception):
    """A file of the old root cannot be taken in; the text says why, for a line about that file."""


class Unreadable(Broken):
    """Its bytes cannot even be kept."""


class Request(msgspec.Struct, kw_only=True):
    """`run_request.json`; `stop_grace_s`, and `as_of` in others, are there only in what this release has written."""

    run_id: str
    target: str
    workflow: str
    command: tuple[str, ...]
    target_dir: str
    source: str = "manual_cli"
    workdir: str = ""
    metadata: dict[str, object] | None = None
    created_at: str | None = None
    stop_grace_s: object = None


class Record(Request, kw_only=True):
    """`run_record.json`."""

    status: OldStatus
    cluster_address: str | None = None
    submission_id: str | None = None
    message: str | None = None
    updated_at: str | None = None


class Artifact(msgspec.Struct, kw_only=True):
    """One entry of `artifacts.json`."""

    name: str
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    path: str = ""
    kind: str = "file"
    created_at: str | None = None


class Lease(msgspec.Struct, kw_only=True):
    """`resources/leases/<lease_id>.json`; a `fence` is there only in what this release has written."""

    lease_id: str
    resource_type: str
    owner: str
    status: Literal["active", "released"]
    metadata: dict[str, object] | None = None
    created_at: str | None = None
    fence: object = None


class Bootstrap(msgspec.Struct, kw_only=True):
    """`bootstrap.json`."""

    status: OldClusterStatus
    address: str | None = None
    dashboard_url: str | None = None
    namespace: str | None = None
    message: str | None = None
    started_at: str | None = None
    as_of: object = None


class OldFiles:
    """The files of an old state root, which is never left and never written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._tree = Tree(root)
        except OSError as error:
            raise Usage(f"{root} cannot be entered ({error.strerror}): name the old state root") from None

    def __enter__(self) -> OldFiles:
        return self

    def __exit__(self, *_ended: object) -> None:
        self._tree.__exit__(None, None, None)

    def is_old_root(self) -> bool:
        """Tell whether there is anything in it that an old state root has."""
        return any((self.root / name).is_dir() for name in ("runs", "cluster", "resources"))

    def run_names(self) -> Iterator[str]:
        """Yield the names of all directories of runs, sorted, be they possible as ids or not."""
        yield from self._names("runs", directories=True)

    def lease_names(self) -> Iterator[str]:
        """Yield the names of all files of leases, sorted, without `.json`."""
        for name in self._names("resources/leases", directories=False):
            if name.endswith(".json"):
                yield name.removesuffix(".json")

    def has_log(self, directory: str) -> bool:
        """Tell whether this release has recorded something there."""
        try:
            return (self.root / directory / _LOG).stat().st_size > 0
        except OSError:
            return False

    def read(self, name: str) -> bytes | None:
        """Give the bytes of a file, None where there is none; raises Unreadable."""
        try:
            with self._tree.open(name) as fd:
                content = b""
                while chunk := os.read(fd, FILE_BYTES_MAX + 1 - len(content)):
                    content += chunk
        except FileNotFoundError:
            return None
        except Unfit as unfit:
            raise Unreadable(str(unfit)) from None
        except OSError as error:
            raise Unreadable(f"it cannot be read ({error.strerror})") from None
        if len(content) > FILE_BYTES_MAX:
            raise Unreadable(f"it is larger than the {FILE_BYTES_MAX // 1024**2} MiB that a file of that tool can be")
        return content

    def _names(self, directory: str, *, directories: bool) -> Iterator[str]:
        try:
            with os.scandir(self.root / directory) as entries:
                found = [
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) == directories and not entry.name.startswith(".")
                ]
        except OSError:
            return
        yield from sorted(found)


def request_of(content: bytes, run_id: str) -> Request:
    """Read `run_request.json` of the directory `run_id`; raises Broken."""
    return _checked(decode(content, Request), run_id)


def record_of(content: bytes, run_id: str) -> Record:
    """Read `run_record.json` of the directory `run_id`; raises Broken."""
    record = _checked(decode(content, Record), run_id)
    if record.submission_id and not is_run_id(record.submission_id):
        raise Broken(f"its submission id {shown(record.submission_id)} can be none")
    return record


def artifacts_of(content: bytes) -> tuple[Artifact, ...]:
    """Read `artifacts.json`; raises Broken."""
    listed = decode(content, tuple[Artifact, ...])
    for each in listed:
        moment(each.created_at)
    return listed


def lease_of(content: bytes, lease_id: str) -> Lease:
    """Read the file of a lease; raises Broken."""
    lease = decode(content, Lease)
    if lease.fence is not None:
        raise Broken(f"this release has written it, and resources/{_LOG} is gone: bring that back from a copy")
    if lease.lease_id != lease_id or not is_lease_id(lease_id):
        raise Broken(f"it says that it is the lease {shown(lease.lease_id)}, which is not its name or can be none")
    try:
        check_key(lease.resource_type)
    except Invalid as error:
        raise Broken(str(error)) from None
    return lease


def bootstrap_of(content: bytes) -> Bootstrap:
    """Read `bootstrap.json`; raises Broken."""
    bootstrap = decode(content, Bootstrap)
    if bootstrap.as_of is not None:
        raise Broken(f"this release has written it, and {_LOG} beside it is gone: bring that back from a copy")
    return bootstrap


def decode(content: bytes, kind: type[T]) -> T:
    """Read JSON of a certain shape; raises Broken for anything else, of whatever size and depth."""
    if not content:
        raise Broken("it is empty, as a write that was interrupted leaves it")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise Broken(f"it is not what that tool writes ({error})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken(f"it is not JSON, or only half of it ({error})") from None
    except RecursionError:
        raise Broken("it is nested deeper than anything that tool writes") from None


def texts(metadata: Mapping[str, object] | None) -> dict[str, str]:
    """Give metadata as texts: what is none is written as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in (metadata or {}).items()
    }


def moment(text: str | None) -> str | None:
    """Give a time as events have it, ISO 8601, UTC, fixed width; raises Broken for what is no time."""
    if text is None:
        return None
    try:
        then = datetime.fromisoformat(text)
        then = then.replace(tzinfo=then.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Broken(f"{shown(text)} is no time") from None
    return then.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def asked_at(request: Request) -> str:
    """Give when a run was asked for: its id tells, where it does not say; raises Broken."""
    if found := moment(request.created_at):
        return found
    match = _RUN_TIME.search(request.run_id)
    if match is None:
        raise Broken("it does not say when the run was asked for")
    digits = match[1]
    found = moment(f"{digits[:8]}T{digits[8:]}")
    assert found  # noqa: S101  a text gives a time
    return found


def _checked(request: R, run_id: str) -> R:
    """Refuse what this release has written itself, and what says that it is of another run."""
    if request.stop_grace_s is not None:
        raise Broken(f"this release has written it, and {_LOG} beside it is gone: bring that back from a copy")
    if request.run_id != run_id:
        raise Broken(f"it says that it is of the run {shown(request.run_id)}")
    return request


RUN_FILES: Final = (RUN_REQUEST, RUN_RECORD, ARTIFACTS)
"""The files of a run, in the order in which that tool wrote them."""
BOOTSTRAP_NAME: Final = f"cluster/{BOOTSTRAP}"
