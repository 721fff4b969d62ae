"""What do the texts mean that Ray answers with? Measured against Ray 2.60.

A text that Ray would not write raises NotUnderstood. What Ray adds is ignored; what it leaves null is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeVar, cast, get_args

import msgspec

from merlin_es.ports import RayJob, RayNode, RayStatus, Session

_STATUSES = frozenset(get_args(RayStatus))
_T = TypeVar("_T")

Complaint = Literal["exists", "bad_labels", "no_agent", "no_file"]
_COMPLAINTS: tuple[tuple[Complaint, re.Pattern[str]], ...] = (
    ("exists", re.compile(r"ValueError: Job with submission_id .* already exists\.")),
    ("bad_labels", re.compile(r"ValueError: Invalid label (key|selector) ")),
    ("no_agent", re.compile(r"No available agent to submit job")),
    ("no_agent", re.compile(r"TimeoutError: Failed to get head node agent ")),
    ("no_agent", re.compile(r"aiohttp\.client_exceptions\.ClientConnectorError: Cannot connect to host ")),
    ("no_agent", re.compile(r"Agent for node id: .* doesn't exist\.")),
    ("no_file", re.compile(r"A file is not found at: ")),
)


class NotUnderstood(Exception):
    """A text is not what Ray says; the message is the part that makes no sense."""


class BadRecord(NotUnderstood):
    """One job in a list makes no sense; the list does."""


class _Version(msgspec.Struct):
    session_name: str
    ray_version: str


class _Accepted(msgspec.Struct):
    submission_id: str


class _Stopped(msgspec.Struct):
    stopped: bool


class _Logs(msgspec.Struct):
    logs: str


class _Record(msgspec.Struct):
    type: str
    status: str
    entrypoint: str
    submission_id: str | None = None
    message: str | None = None
    error_type: str | None = None
    driver_exit_code: int | None = None
    metadata: dict[str, str] | None = None
    runtime_env: msgspec.Raw = msgspec.Raw(b"null")
    driver_node_id: str | None = None
    start_time: int | None = None
    end_time: int | None = None


class _RuntimeEnv(msgspec.Struct):
    env_vars: dict[str, str] | None = None


class _Node(msgspec.Struct):
    node_id: str
    state: str
    is_head_node: bool
    resources_total: dict[str, float]
    labels: dict[str, str] | None = None


class _NodeList(msgspec.Struct):
    result: list[_Node]


class _NodeData(msgspec.Struct):
    result: _NodeList


class _Nodes(msgspec.Struct):
    data: _NodeData


def complaint(line: str) -> Complaint | None:
    """Tell what an error of Ray is about, from its last line: Ray says it no other way. Nothing else matches text."""
    return next((kind for kind, pattern in _COMPLAINTS if pattern.match(line)), None)


def session(body: bytes) -> Session:
    """Read the answer to `GET /api/version`."""
    version = _understood(body, _Version)
    return Session(version.session_name, version.ray_version)


def accepted(body: bytes) -> str:
    """Read the id of a submission that was taken."""
    return _understood(body, _Accepted).submission_id


def stopped(body: bytes) -> bool:
    """Read whether somebody was told to stop."""
    return _understood(body, _Stopped).stopped


def logs(body: bytes) -> bytes:
    """Read a driver's log as Ray puts it into JSON."""
    return _understood(body, _Logs).logs.encode()


def job(body: bytes) -> RayJob | None:
    """Read the record of a job; None for a driver that was not submitted."""
    record = _understood(body, _Record)
    if record.type != "SUBMISSION":
        return None
    if record.submission_id is None or record.status not in _STATUSES:
        raise NotUnderstood(f"job {record.submission_id!r} has the status {record.status!r}")
    return RayJob(
        submission_id=record.submission_id,
        status=cast("RayStatus", record.status),
        entrypoint=record.entrypoint,
        message=record.message or "",
        error_type=record.error_type,
        exit_code=record.driver_exit_code,
        metadata=record.metadata or {},
        env=_env(record.runtime_env),
        node_id=record.driver_node_id,
        accepted_ms=record.start_time,
        ended_ms=record.end_time,
    )


def jobs(body: bytes) -> list[RayJob]:
    """Read the submitted jobs from a list that holds drivers too; raises BadRecord."""
    entries = _understood(body, list[msgspec.Raw])
    try:
        found = [job(bytes(entry)) for entry in entries]
    except NotUnderstood as error:
        raise BadRecord(str(error)) from error
    return [each for each in found if each is not None]


def nodes(body: bytes) -> list[RayNode]:
    """Read the machines of a cluster."""
    return [
        RayNode(node.node_id, node.state == "ALIVE", node.is_head_node, node.resources_total, node.labels or {})
        for node in _understood(body, _Nodes).data.result.result
    ]


def _understood(body: bytes, kind: type[_T]) -> _T:
    try:
        return _decoded(body, kind)
    except msgspec.MsgspecError as error:
        raise NotUnderstood(str(error)) from error


def _env(runtime_env: msgspec.Raw) -> Mapping[str, str]:
    """Give the environment that a job was given; Ray keeps whatever was sent to it, even what it could not use."""
    try:
        known = msgspec.json.decode(runtime_env, type=_RuntimeEnv | None)
    except msgspec.MsgspecError:
        return {}
    return (known.env_vars if known else None) or {}


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(_mended(body), type=kind)


def _mended(body: bytes) -> bytes:
    """Give a JSON text without NaN and halves of characters: Ray gives back whatever anybody put into a job.

    Else one such job would spoil the list for everybody.
    """
    import json

    try:
        known = json.loads(body, parse_constant=lambda _: None)
        return json.dumps(known, ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        raise msgspec.DecodeError("it is no JSON") from None
