"""Which names does a glob mean?"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from merlin_es.errors import Usage

_ANY_DIRECTORIES = None
_Part = re.Pattern[str] | None


class Globs:
    """Globs of names that are relative to one directory: `*.json`, `logs/**`, `**/report.?`, `[ab]/c`.

    `**` is any number of directories, and at the end everything below; all else stays within one part of a name.
    Raises Usage at one that leads out of the directory.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._globs = {pattern: _compiled(pattern) for pattern in patterns}
        self._unmatched = dict.fromkeys(patterns)

    def match(self, name: str) -> bool:
        """Tell whether one of them, or several, mean `name`."""
        parts = name.split("/")
        hits = [pattern for pattern, glob in self._globs.items() if _means(glob, parts)]
        for pattern in hits:
            self._unmatched.pop(pattern, None)
        return bool(hits)

    def unmatched(self) -> Sequence[str]:
        """Give those that meant no name so far."""
        return tuple(self._unmatched)


def _compiled(pattern: str) -> tuple[_Part, ...]:
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts or "\0" in pattern or not pattern.strip("/."):
        raise Usage(f"{pattern!r} is no glob of artifacts: give one relative to the target directory, without `..`")
    if parts[-1] == "":  # `logs/` means what is in it.
        parts[-1] = "**"
    if parts[-1] == "**":
        parts.append("*")
    return tuple(
        _ANY_DIRECTORIES if part == "**" else re.compile(fnmatch.translate(part))
        for part in parts
        if part not in {"", "."}
    )


def _means(glob: tuple[_Part, ...], parts: Sequence[str]) -> bool:
    """Walk all ways through the glob at once, so that no pattern takes more than its length times the name's."""
    reached = _with_skips(glob, {0})
    for part in parts:
        onward = set()
        for at in reached:
            if at < len(glob):
                step = glob[at]
                if step is _ANY_DIRECTORIES:
                    onward.add(at)
                elif step.match(part):
                    onward.add(at + 1)
        reached = _with_skips(glob, onward)
    return len(glob) in reached


def _with_skips(glob: tuple[_Part, ...], reached: set[int]) -> set[int]:
    """Add where one gets without a part: `**` may be no directory at all."""
    for at in range(len(glob)):
        if at in reached and glob[at] is _ANY_DIRECTORIES:
            reached.add(at + 1)
    return reached
