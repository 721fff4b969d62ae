"""What is a run called? `<target>-<UTC yyyymmddHHMMSS>-<8 hex>`, and the same again for the same idempotency key."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

import eventlog
from merlin_es.errors import Refused, Usage
from projections.events.ledger import LedgerCreated, SubmissionKeyed
from projections.layout import LEDGER, SUBMISSIONS

if TYPE_CHECKING:
    from merlin_es.commands import SubmitRun

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,90}")
"""With time, random part and attempt a run id still is one of at most 128 characters."""


def new_run_id(target: str, now: str) -> str:
    """Give a new id for a run of `target`; `now` is ISO 8601, UTC."""
    return _run_id(target, now, os.urandom(4).hex())


def check_target(target: str) -> str:
    """Return `target` when it can be part of a path; raises Usage otherwise."""
    if not _NAME.fullmatch(target) or ".." in target:
        raise Usage(
            f"{target!r} cannot name a target: use 1 to 91 letters, digits, `.`, `_` and `-`, starting with a letter "
            "or digit and without `..`"
        )
    return target


def keyed(log: eventlog.FileLog, command: SubmitRun, key: str, actor: str, door: str) -> SubmitRun:
    """Give the command with the id of the run that is recorded under `key`; raises Refused for other content."""
    import json

    content = replace(command, run_id="", idempotency_key=key, traceparent=None)
    said = msgspec.to_builtins(content)
    if content.leases is None:
        del said["leases"]  # As it was before there were any.
    spec = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    event = SubmissionKeyed(idempotency_key=key, target=command.target, spec=spec).recorded_by(actor, door)
    digest = hashlib.sha256(key.encode()).hexdigest()
    try:
        appended = log.append(SUBMISSIONS, [event], key=f"submission:{digest}")
    except eventlog.KeyReused:
        raise Refused(
            f"the idempotency key {key!r} was used for another submission: give the same target, command and options "
            "as then, or a new key"
        ) from None
    first = appended.events[0]
    return replace(command, run_id=_run_id(command.target, first.time, first.id[-8:]), idempotency_key=key)


def ledger_id(log: eventlog.FileLog) -> str:
    """Give the id of this state root, made when it is first asked for."""
    first = next(iter(log.read(LEDGER)), None)
    if first is None:
        appended = log.append(LEDGER, [LedgerCreated().recorded_by("merlin", "ledger")], key="created")
        first = appended.events[0]
    return first.id


def _run_id(target: str, time: str, suffix: str) -> str:
    return f"{target}-{datetime.fromisoformat(time):%Y%m%d%H%M%S}-{suffix}"
