"""Where in a Markdown text are the fenced blocks, and what is in them?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_OPENING = re.compile(r"( {0,3})(`{3,}(?=[^`]*\Z)|~{3,})(.*)", re.DOTALL)
_CLOSING = re.compile(r" {0,3}(`{3,}|~{3,})[ \t\r]*")
_OF_A_CHANGE = re.compile(r"(?:`{3,8}|~{3,8})[ \t]{0,8}(?:diff|patch|\S{0,64}[ \t]{0,8}path=)")


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block: the number of its first line (from 1), what stands behind the fence, and the lines in it."""

    line: int
    info: str
    lines: tuple[str, ...]


def find(lines: Sequence[str]) -> tuple[list[Fence], list[str]]:
    """Give the fenced blocks of a text, as CommonMark sees them, and what is wrong with the fences of it."""
    found: list[Fence] = []
    errors: list[str] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.fullmatch(lines[at])
        if opening is None:
            if _OF_A_CHANGE.match(lines[at].lstrip(" \t")):
                errors.append(f"line {at + 1}: the fence is indented too far: put it at the beginning of the line")
            at += 1
            continue
        end = _end(lines, at + 1, opening[2])
        if end == len(lines):
            what = opening[2]
            errors.append(f"line {at + 1}: the fence is never closed, the response may be cut off: end it with {what}")
        indent = len(opening[1])
        content = tuple(_unindented(line, indent) for line in lines[at + 1 : end])
        found.append(Fence(at + 1, opening[3].strip(), content))
        at = end + 1
    return found, errors


def _end(lines: Sequence[str], at: int, fence: str) -> int:
    while at < len(lines):
        closing = _CLOSING.fullmatch(lines[at])
        if closing and closing[1][0] == fence[0] and len(closing[1]) >= len(fence):
            return at
        at += 1
    return at


def _unindented(line: str, indent: int) -> str:
    blanks = len(line) - len(line.lstrip(" "))
    return line[min(indent, blanks) :]
