"""What was a projected file found to be?"""

from __future__ import annotations

import json
from typing import Literal

from msgspec import Struct

from projections.patch import Operation, diff


class Verdict(Struct, frozen=True):
    """What a projected file was found to be, or, once it was `written`, what it had been, in `why`.

    `path` is relative to the state root. `stale`: the fold of an earlier point of the log, or an empty file;
    `other_fold`: written by another version of the fold; `edited`: the fold of no point; `orphan`: there is no log that
    it could come from; `sick`: a log that cannot be folded, or a file that cannot be written; `diverged`: a log whose
    checkpoints say that the fold has changed without a new version. `patch` leads from what the file says to what the
    log says; None where it says nothing, or no JSON.
    """

    path: str
    state: Literal["same", "missing", "stale", "other_fold", "edited", "written", "orphan", "sick", "diverged"]
    why: str = ""
    patch: tuple[Operation, ...] | None = None


def verdict_of(
    name: str, found: bytes | None, content: bytes, then: bytes | None, *, is_of_other_fold: bool
) -> Verdict:
    """Judge what was `found` in a file that should have `content`; `then` is what it had to be at its stamp."""
    if found is None:
        return Verdict(name, "missing")
    if found == content:
        return Verdict(name, "same")
    patch = _patch(found, content)
    if is_of_other_fold:
        return Verdict(name, "other_fold", "it was written by another version of the fold", patch)
    if not found:
        return Verdict(name, "stale", "it is empty, as a power cut may leave it")
    if found == then:
        return Verdict(name, "stale", "it was folded from fewer events", patch)
    return Verdict(name, "edited", "no point of the log says that", patch)


def orphan(name: str) -> Verdict:
    """Judge a file that comes from nowhere."""
    return Verdict(name, "orphan", "no log says anything of it; remove it when it is not needed")


def _patch(found: bytes, content: bytes) -> tuple[Operation, ...] | None:
    try:
        return diff(json.loads(found), json.loads(content))
    except (ValueError, RecursionError):
        return None
