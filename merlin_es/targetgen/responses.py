"""What does a response propose, and can it be used as it is?

A response is Markdown. A fence whose info string begins with `diff` or `patch` holds a unified diff as git writes it;
a fence with `LANGUAGE path=PATH` holds a whole file; all else is prose. Paths are relative to the root of the workspace
and lie in the write scope of the task. Everything that is wrong is said at once, each with its line and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from merlin_es.targetgen import scopes
from merlin_es.targetgen.diffs import DiffReader
from merlin_es.targetgen.fences import Fence, find
from merlin_es.targetgen.ports import Change, Reading

RESPONSE_MAX = 8 * 1024 * 1024
"""Of a response, in bytes: far more than anybody reads, and little enough to be kept in memory."""
CHANGES_MAX = 500
ERRORS_MAX = 50
SUMMARY_LINES = 4
SUMMARY_MAX = 240
EMPTY = "The response is empty."
_PATH = re.compile(r'(?:\A|\s)path=(?:"([^"]*)"|(\S*))')


class ResponseFiles:
    """Reads responses where humans and agents leave them."""

    def read(self, path: Path, write_scope: Sequence[str]) -> Reading:
        """Read and check a response; raises OSError when it cannot be read."""
        with path.open("rb") as file:
            return read(file.read(RESPONSE_MAX + 1), write_scope)


def read(content: bytes, write_scope: Sequence[str]) -> Reading:
    """Read and check the bytes of a response; the same bytes give the same reading."""
    if len(content) > RESPONSE_MAX:
        return Reading(
            summary="The response is too large.",
            errors=(f"line 1: the response has more than {RESPONSE_MAX} bytes: leave out what is no change",),
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Reading(
            summary=summary(content.decode("utf-8", "replace")),
            errors=(f"line {line}: the response is not UTF-8: save it as UTF-8, without binary content",),
        )
    if not text.strip():
        return Reading(summary=EMPTY, errors=("line 1: the response is empty: write what was done, and the changes",))
    changes, errors = _changes(_lines(text), write_scope)
    if len(errors) > ERRORS_MAX:
        errors = [*errors[:ERRORS_MAX], f"and {len(errors) - ERRORS_MAX} more: mend these first"]
    return Reading(summary(text), () if errors else tuple(changes), tuple(errors))


def summary(text: str) -> str:
    """Give the first four lines that are not blank as one, cut where it gets long."""
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    return " ".join(lines[:SUMMARY_LINES])[:SUMMARY_MAX] or EMPTY


def _lines(text: str) -> list[str]:
    """Split a text into lines; where all of them end as Windows has it, that is how the response was saved."""
    if text.count("\n") == text.count("\r\n"):
        text = text.replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def _changes(lines: list[str], write_scope: Sequence[str]) -> tuple[list[Change], list[str]]:
    fences, errors = find(lines)
    found: list[tuple[int, Change]] = []
    for fence in fences:
        changes, more = _read_fence(fence)
        found += changes
        errors += more
    errors += _faults(found, write_scope)
    if len(found) > CHANGES_MAX:
        errors.append(f"line 1: the response changes more than {CHANGES_MAX} files: split the work")
    return [change for _line, change in found], sorted(errors, key=_line_of)


def _line_of(error: str) -> int:
    return int(error.removeprefix("line ").partition(":")[0])


def _read_fence(fence: Fence) -> tuple[list[tuple[int, Change]], list[str]]:
    """Give the changes in a fence, each with its line, and what is wrong with them."""
    kind = fence.info.split(maxsplit=1)[0].lower() if fence.info else ""
    path = _PATH.search(fence.info)
    if kind in ("diff", "patch"):
        if path:
            return [], [
                f"line {fence.line}: a {kind} names its files itself: leave out path=, or name another language"
            ]
        reader = DiffReader(fence.lines, fence.line + 1)
        reader.read()
        if not reader.files and not reader.errors:
            return [], [f"line {fence.line}: the {kind} is empty: give it hunks, or leave the fence out"]
        changes = [(file.line, Change(file.path, "diff", file.text())) for file in reader.files]
        return changes, [*reader.errors, *_binary(fence)]
    if path is None:
        return [], []  # Prose.
    if rest := _PATH.sub("", fence.info, count=1).split()[1:]:
        return [], [f'line {fence.line}: {rest[0]!r} is not understood: write LANGUAGE path=PATH, or path="A PATH"']
    text = "".join(f"{line}\n" for line in fence.lines)
    return [(fence.line, Change(scopes.normalised(path[1] or path[2] or ""), "whole", text))], list(_binary(fence))


def _binary(fence: Fence) -> Iterator[str]:
    for number, line in enumerate(fence.lines, fence.line + 1):
        if "\0" in line:
            yield f"line {number}: this is binary content: leave it out, and say in prose what has to be added"
            return


def _faults(found: Sequence[tuple[int, Change]], write_scope: Sequence[str]) -> Iterator[str]:
    """Say what is wrong with the paths, and what is changed twice."""
    seen: dict[str, int] = {}
    for line, change in found:
        path = change.path
        if fault := scopes.fault(path):
            yield f"line {line}: {fault} ({path[:200]!r})"
        elif not scopes.is_within(path, write_scope):
            where = ", ".join(entry.split(" (")[0] for entry in write_scope) or "nothing"
            yield f"line {line}: {path[:200]!r} is not in the write scope of the task: change only {where}"
        elif path in seen:
            yield f"line {line}: {path!r} is changed in line {seen[path]} too: put all that changes it into one fence"
        seen.setdefault(path, line)
