"""What was a projected file found to be?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a projected file was found to be, or, once it was `written`, what it had been, in `why`.

    `path` is relative to the state root. `stale`: the fold of an earlier point of the log, or an empty file; `edited`:
    the fold of no point; `orphan`: there is no log that it could come from; `sick`: a log that cannot be folded, or a
    file that cannot be written.
    """

    path: str
    state: Literal["same", "missing", "stale", "edited", "written", "orphan", "sick"]
    why: str = ""


def verdict_of(
    name: str, found: bytes | None, content: bytes, then: bytes | None, *, is_of_other_fold: bool
) -> Verdict:
    """Judge what was `found` in a file that should have `content`; `then` is what it had to be at its stamp."""
    if found is None:
        return Verdict(name, "missing")
    if found == content:
        return Verdict(name, "same")
    if is_of_other_fold:
        return Verdict(name, "stale", "it was written by another version of the fold")
    if not found:
        return Verdict(name, "stale", "it is empty, as a power cut may leave it")
    if found == then:
        return Verdict(name, "stale", "it was folded from fewer events")
    return Verdict(name, "edited", "no point of the log says that")


def orphan(name: str) -> Verdict:
    """Judge a file that comes from nowhere."""
    return Verdict(name, "orphan", "no log says anything of it; remove it when it is not needed")
