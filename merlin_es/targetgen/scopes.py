"""May a response write there? A path as somebody wrote it, held against the write scope of a task."""

from __future__ import annotations

import re
from collections.abc import Sequence

from merlin_es.targetgen.names import lower, title

PATH_MAX = 1024
PART_MAX = 255
"""Of a path and of one part of it, in bytes: what file systems take, with room for the directory of a worktree."""
_REMARK = re.compile(r"\s+\(.*\)\s*\Z", re.DOTALL)
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_GITS = frozenset({".git", "git~1"})


def filled(write_scope: Sequence[str], target: str) -> tuple[str, ...]:
    """Give a write scope with the names of a target in place of `<target>` and `<Target>`, and without remarks.

    Where a dash in the name becomes an underline in the name of a directory, both are in scope.
    """
    names = dict.fromkeys((target, lower(target)))
    plain = [_REMARK.sub("", entry).strip() for entry in write_scope]
    return tuple(
        dict.fromkeys(
            entry.replace("<target>", name).replace("<Target>", title(target)) for entry in plain for name in names
        )
    )


def normalised(path: str) -> str:
    """Give a path without `./` before it, which means nothing."""
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def is_within(path: str, scope: Sequence[str]) -> bool:
    """Tell whether a normalised path is in scope: below a directory of it (which ends in `/`), or named as it is."""
    plain = [_REMARK.sub("", entry).strip() for entry in scope]
    return any(path.startswith(entry) if entry.endswith("/") else path == entry for entry in plain if entry)


def fault(path: str) -> str | None:
    """Say what is wrong with a normalised path that is to lie in a repository, and what to do; None when nothing is."""
    parts = path.split("/")
    if not path:
        return "the path is empty: write it relative to the root of the repository"
    if _UNSEEN.search(path):
        return "the path holds characters that nobody sees: write it without them"
    if '"' in path or "\\" in path:
        return "the path holds a quote or a backslash: use a name without them, and `/` between directories"
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path):
        return "the path is absolute: write it relative to the root of the repository"
    if ".." in parts:
        return "the path leads upwards: write it without `..`, relative to the root of the repository"
    if "" in parts or "." in parts or any(part != part.strip() for part in parts):
        return "the path has an empty part, a `.`, or blanks around a part: write it without"
    if any(part.lower() in _GITS for part in parts):
        return "the path leads into git's own files: leave those alone"
    if len(path.encode()) > PATH_MAX or any(len(part.encode()) > PART_MAX for part in parts):
        return f"the path is too long: {PART_MAX} bytes a part and {PATH_MAX} in all are the limit"
    return None
