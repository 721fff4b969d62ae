"""What does a unified diff change, and is it whole?

A diff is read line by line and written anew from what was understood, so that git is given nothing else than what was
checked: each file begins with its header, every hunk has as many lines as it says, and nothing is left over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from merlin_es.targetgen.scopes import normalised

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|([abtnvfr\"\\]))")
_ESCAPED = dict(zip("abtnvfr", "\a\b\t\n\v\f\r", strict=True))
_NOWHERE = "/dev/null"
_MODES = ("100644", "100755")
_REFUSED = {
    "rename from ": "a diff cannot rename: give the new file whole, and remove the old one by a diff",
    "rename to ": "",
    "copy from ": "a diff cannot copy: give the new file whole",
    "copy to ": "",
    "GIT binary patch": "a diff cannot hold binary content: leave it out, and say in prose what has to be added",
    "Binary files ": "a diff cannot hold binary content: leave it out, and say in prose what has to be added",
}
_PASSED_OVER = ("index ", "similarity index ", "dissimilarity index ")
_MODE_LINES = ("new file mode ", "deleted file mode ", "old mode ", "new mode ")


@dataclass(slots=True)
class FileDiff:
    """What is done to one file; `line` is where its header begins in the response."""

    line: int
    path: str = ""
    creates: bool = False
    removes: bool = False
    modes: dict[str, str] = field(default_factory=dict)
    hunks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Give the diff as git has it."""
        name = f"{self.path}\t" if " " in self.path else self.path
        lines = [f"diff --git a/{self.path} b/{self.path}"]
        if self.creates:
            lines.append(f"new file mode {self.modes.get('new file mode ', _MODES[0])}")
        elif self.removes:
            lines.append(f"deleted file mode {self.modes.get('deleted file mode ', _MODES[0])}")
        else:
            lines += [f"{key}{self.modes[key]}" for key in ("old mode ", "new mode ") if key in self.modes]
        if self.hunks:
            lines.append(f"--- {_NOWHERE if self.creates else f'a/{name}'}")
            lines.append(f"+++ {_NOWHERE if self.removes else f'b/{name}'}")
        return "\n".join([*lines, *self.hunks]) + "\n"


class DiffReader:
    """Reads one fenced diff, whose first line has the number `first` in the response."""

    def __init__(self, lines: Sequence[str], first: int) -> None:
        self._lines = lines
        self._first = first
        self._at = 0
        self.files: list[FileDiff] = []
        self.errors: list[str] = []

    def read(self) -> None:
        """Read all of it into `files` and `errors`."""
        while self._at < len(self._lines):
            if self._starts_file():
                self._read_file()
            elif self._line().strip():
                self._fail(
                    self._at, "this belongs to no hunk: begin a file with `--- a/PATH` and `+++ b/PATH`, a hunk with @@"
                )
                self._at += 1
                self._skip()
            else:
                self._at += 1

    def _read_file(self) -> None:
        begun = len(self.errors)
        file = FileDiff(self._first + self._at)
        start = self._at
        old = new = None
        if self._line().startswith("diff --git "):
            old, new = _both(self._line()[len("diff --git ") :])
            self._at += 1
            self._read_extended(file)
        if self._names_follow():
            old, new = _name(self._line()[4:]), _name(self._lines[self._at + 1].rstrip("\r")[4:])
            self._at += 2
        if len(self.errors) == begun:
            self._name(file, start, old, new)
        while hunk := self._hunk_after_blanks():
            self._read_hunk(file, hunk)
        if len(self.errors) == begun:
            self._check(file, start)
        if file.path:
            self.files.append(file)  # Also when something is wrong with it: its path is to be looked at all the same.

    def _read_extended(self, file: FileDiff) -> None:
        while self._at < len(self._lines) and not self._names_follow():
            line = self._line()
            if kind := next((kind for kind in _REFUSED if line.startswith(kind)), None):
                if _REFUSED[kind]:
                    self._fail(self._at, _REFUSED[kind])
                if "inary" in kind:
                    self._at += 1
                    self._skip()
                    return
            elif key := next((key for key in _MODE_LINES if line.startswith(key)), None):
                file.modes[key] = line[len(key) :].strip()
                if file.modes[key] not in _MODES:
                    self._fail(self._at, f"only files of the modes {' and '.join(_MODES)} can be changed: leave it out")
            elif not line.startswith(_PASSED_OVER):
                return
            self._at += 1

    def _name(self, file: FileDiff, start: int, old: str | None, new: str | None) -> None:
        """Find out what file is meant, and what is done to it."""
        file.creates = old == _NOWHERE or "new file mode " in file.modes
        file.removes = new == _NOWHERE or "deleted file mode " in file.modes
        names = [name for name in (old, new) if name != _NOWHERE]
        prefixes = [prefix for prefix, name in (("a/", old), ("b/", new)) if name != _NOWHERE]
        if not names or any(
            name is None or not name.startswith(p) or len(name) < 3 for name, p in zip(names, prefixes, strict=True)
        ):
            self._fail(start, "the file has no name that is understood: write `--- a/PATH` and `+++ b/PATH`")
        elif len({name[2:] for name in names if name}) > 1:
            self._fail(start, f"the names differ ({names[0]}, {names[1]}): {_REFUSED['rename from ']}")
        elif file.creates and file.removes:
            self._fail(start, "the file is both made and removed: decide for one")
        else:
            file.path = normalised(str(names[0])[2:])

    def _check(self, file: FileDiff, start: int) -> None:
        marks = {line[:1] for line in file.hunks if not line.startswith("@@")}
        if file.creates and marks & {" ", "-", ""}:
            self._fail(start, "a file that is made has lines of before: leave out all lines but those with +")
        elif file.removes and marks & {" ", "+", ""}:
            self._fail(start, "a file that is removed has lines of after: give all of its lines with -")
        elif not file.hunks and not file.creates and not file.removes and "new mode " not in file.modes:
            self._fail(start, f"the diff of {file.path[:200]!r} has no hunk: give one that begins with @@ -L,N +L,N @@")

    def _hunk_after_blanks(self) -> re.Match[str] | None:
        while self._at < len(self._lines):
            if self._line().strip():
                return _HUNK.fullmatch(self._line())
            self._at += 1
        return None

    def _read_hunk(self, file: FileDiff, hunk: re.Match[str]) -> None:
        start = self._at
        wanted = (int(hunk[2] or 1), int(hunk[4] or 1))
        begins = tuple(int(hunk[group]) for group in (1, 3))
        lines, seen = [f"@@ -{begins[0]},{wanted[0]} +{begins[1]},{wanted[1]} @@{hunk[5]}"], (0, 0)
        changed = False
        self._at += 1
        while self._at < len(self._lines):
            line = self._lines[self._at]
            mark = line.rstrip("\r")[:1] or " "
            if mark == "\\" and len(lines) > 1:
                lines.append("\\ No newline at end of file")
            elif seen == wanted or mark not in "+- ":
                break
            else:
                seen = (seen[0] + (mark != "+"), seen[1] + (mark != "-"))
                changed = changed or mark != " "
                lines.append(line if line.strip("\r") else f" {line}")
            self._at += 1
        if seen != wanted or self._goes_on():
            says = f"{wanted[0]} lines of before and {wanted[1]} of after"
            has = "more" if seen == wanted else f"{seen[0]} and {seen[1]}"
            self._fail(start, f"the hunk says {says}, and has {has}: correct the numbers between @@ and @@")
            self._skip()
        elif not changed:
            self._fail(start, "the hunk changes nothing: leave it out")
        file.hunks += lines

    def _goes_on(self) -> bool:
        """Tell whether the next line looks as if it was of the hunk that has ended."""
        if self._at >= len(self._lines) or self._starts_file():
            return False
        return self._line()[:1] in ("+", "-", " ") and bool(self._line().strip())

    def _skip(self) -> None:
        """Go on at the next file or hunk."""
        while self._at < len(self._lines) and not self._starts_file() and not _HUNK.fullmatch(self._line()):
            self._at += 1

    def _starts_file(self) -> bool:
        return self._line().startswith("diff --git ") or self._names_follow()

    def _names_follow(self) -> bool:
        two = [line[:4] for line in self._lines[self._at : self._at + 2]]
        return two == ["--- ", "+++ "]

    def _line(self) -> str:
        return self._lines[self._at].rstrip("\r")

    def _fail(self, at: int, text: str) -> None:
        self.errors.append(f"line {self._first + at}: {text}")


def _both(text: str) -> tuple[str | None, str | None]:
    """Read `a/PATH b/PATH`; where the two differ, only the lines below can tell."""
    if text.startswith('"'):
        half = (len(text) - 1) // 2
        return (_name(text[:half]), _name(text[half + 1 :])) if text[half : half + 1] == " " else (None, None)
    path = text[2 : 2 + (len(text) - 5) // 2]
    return (f"a/{path}", f"b/{path}") if text == f"a/{path} b/{path}" else (None, None)


def _name(text: str) -> str | None:
    """Read a name as git writes it: quoted where it is not plain, and a tab behind it ends it."""
    if not text.startswith('"'):
        return text.partition("\t")[0].rstrip() or None
    text = text.rstrip()
    if len(text) < 2 or not text.endswith('"'):
        return None
    try:
        plain = _ESCAPE.sub(_unescaped, text[1:-1])
        return plain.encode("utf-8", "surrogateescape").decode()
    except ValueError:
        return None


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return bytes([int(match[1], 8) & 0xFF]).decode("utf-8", "surrogateescape")
    return _ESCAPED.get(match[2], match[2])
