"""Can what somebody wishes be recorded, and would Ray take it? Asked before anything is on disk."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from merlin_es import run_ids
from merlin_es.errors import Usage
from merlin_es.globs import Globs

if TYPE_CHECKING:
    from merlin_es.commands import SubmitRun

COMMAND_MAX = 96 * 1024
"""Of the command in bytes, quoted: with the wrapper before it, a shell gets it as one word, at most 128 KiB of it."""
WISH_MAX = 192 * 1024
"""Of the whole wish in bytes, as JSON: it is recorded on one line of a log, which is at most 256 KiB."""
_RAYS = frozenset({"job_submission_id", "job_name"})
_OURS = "merlin_"


def check(wish: SubmitRun) -> None:
    """Raise Usage for a wish that cannot be recorded, or that Ray would not take as it is meant."""
    run_ids.check_target(wish.target)
    Globs(wish.captures)  # Refused now, not when the run has ended.
    _require_texts(wish)
    for name in ("workflow", "source", "target_dir", "workdir"):
        if not getattr(wish, name).strip():
            raise Usage(f"{_option(name)} is empty: say what it is")
    if wish.idempotency_key == "":
        raise Usage("--idempotency-key is empty, as an unset variable is: give a key, or leave it out")
    for name in ("cpus", "gpus", "timeout_s", "stop_grace_s"):
        if not math.isfinite(getattr(wish, name) or 0.0):
            raise Usage(f"{_option(name)} is no number that can be counted to: give another one, or leave it out")
    for key in wish.metadata:
        if key in _RAYS or key.startswith(_OURS):
            raise Usage(f"--metadata {key} has a meaning for Ray or Merlin: use another word than {key}")
    if wish.working_dir and not Path(wish.working_dir).is_dir():
        raise Usage(f"--working-dir {wish.working_dir} is no directory: name one that is there, to be uploaded")


def _require_texts(wish: SubmitRun) -> None:
    """Refuse what is not UTF-8, as an event is, and what is too large for one."""
    fields = msgspec.to_builtins(wish)
    for name, text in _texts(fields):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Usage(f"{_option(name)} is not UTF-8 ({text[:80]!a}): write it in UTF-8") from None
    _require_size("the command", shlex.join(wish.command), COMMAND_MAX)
    _require_size("the command with its options", fields, WISH_MAX)


def _require_size(what: str, value: object, limit: int) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode())
    if size > limit:
        raise Usage(f"{what} takes {size} bytes, and {limit} can be: put what is large into a file, and name that")


def _texts(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        values = value if isinstance(value, (tuple, list)) else (value,)
        if isinstance(value, Mapping):
            values = (*value, *value.values())
        yield from ((name, each) for each in values if isinstance(each, str))


def _option(field: str) -> str:
    name = {"captures": "capture", "resources": "resource"}.get(field, field)
    return f"--{name.removesuffix('_s').replace('_', '-')}"
