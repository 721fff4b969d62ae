"""How does a line fit a terminal: where does it break, and what is in colour?

In a pipe nothing breaks and nothing is in colour, but where FORCE_COLOR is set; nor is it on a terminal where NO_COLOR
is set, which goes before all else, or which is a dumb one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TextIO

import typer

from merlin_es.cli.printing import cut, printable, width_of

HANG: Final = 4
"""By how many columns a line that goes on below is moved in, beyond where it began."""
NARROW: Final = 24
LAST_MIN: Final = 8
"""How much of the last column of a table is worth a place on the line of the others."""


class Style(StrEnum):
    """What a part of a line is; the values are those of ANSI."""

    PLAIN = ""
    DIM = "2"
    STRONG = "1"
    NAME = "36"
    GOOD = "32"
    BAD = "31"
    CHANGED = "33"


_TELLING: Final = ("STATUS", "STATE")
"""The columns whose words say how things are."""
_STATUS_STYLES: Final = {
    **dict.fromkeys(("completed", "active", "whole", "same", "written"), Style.GOOD),
    **dict.fromkeys(("failed", "lost", "error", "blocked", "corrupt"), Style.BAD),
    **dict.fromkeys(("cancelled", "dry_run", "released"), Style.DIM),
    **dict.fromkeys(("requested", "waiting", "submitted", "running"), Style.CHANGED),
}


class Part(NamedTuple):
    """A part of a line, which stays together where there is room; `gap` spaces lie before it."""

    text: str
    style: Style = Style.PLAIN
    gap: int = 2


class Screen(NamedTuple):
    """Where lines go: `columns` is 0 where they need not end."""

    columns: int = 0
    colours: bool = False

    def show(self, *parts: Part | str, indent: int = 0) -> None:
        """Print one line, over as many as it takes."""
        for line in self.lines(*parts, indent=indent):
            self._echo(line)

    def show_table(self, table: Sequence[Sequence[str]]) -> None:
        """Print columns, the first row being their names; what tells how things are has colour.

        The last column is cut where the terminal ends. Where not even the others have room, a row takes several lines,
        and nothing of it is cut.
        """
        widths = [max(map(width_of, column)) for column in zip(*table, strict=True)]
        room = self.columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
        if self.columns and room < LAST_MIN:
            widths[-1] = 0
        elif self.columns:
            widths[-1] = min(widths[-1], room)
        for number, row in enumerate(table):
            cells = [cut(cell, width) if width else cell for cell, width in zip(row, widths, strict=True)]
            parts = [
                Part(cell + " " * (width - width_of(cell)), _style_in(name, cell) if number else Style.STRONG)
                for name, cell, width in zip(table[0], cells, [*widths[:-1], 0], strict=True)
            ]
            self.show(*parts)

    def lines(self, *parts: Part | str, indent: int = 0) -> Iterator[str]:
        """Yield the lines that parts become: a line breaks between them first."""
        line, room, begun = " " * indent, self._room(indent), False
        for part in parts:
            text, style, gap = part if isinstance(part, Part) else Part(part)
            text = printable(text)
            if not text:
                continue
            if begun and room is not None and width_of(text) + gap > room:
                yield line
                line, room, begun = " " * (indent + HANG), self._room(indent + HANG), False
            *above, text = _broken(text, room, self._room(indent + HANG))
            for piece in above:
                yield line + self._styled(piece, style)
                line, room, begun = " " * (indent + HANG), self._room(indent + HANG), False
            line += (" " * gap if begun else "") + self._styled(text, style)
            room = None if room is None else room - width_of(text) - (gap if begun else 0)
            begun = True
        yield line

    def _echo(self, line: str) -> None:
        typer.echo(line, color=self.colours or None)  # Else it takes colours out for who is no terminal.

    def _room(self, indent: int) -> int | None:
        return max(NARROW, self.columns - indent) if self.columns else None

    def _styled(self, text: str, style: Style) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours and style else text


def _style_in(column: str, cell: str) -> Style:
    return _STATUS_STYLES.get(cell, Style.PLAIN) if column in _TELLING else Style.PLAIN


def screen() -> Screen:
    """Give the screen that standard output is."""
    if sys.stdout is None or not sys.stdout.isatty():
        return Screen(0, has_colours(sys.stdout))
    # What is told of a terminal by the environment goes before what it says itself, as for every program.
    named = os.environ.get("COLUMNS", "")
    columns = int(named) if named.isascii() and named.isdecimal() else os.get_terminal_size(sys.stdout.fileno()).columns
    return Screen(columns, has_colours(sys.stdout))


def has_colours(stream: TextIO | None) -> bool:
    """Tell whether what is printed there may be in colour."""
    if os.environ.get("NO_COLOR") or stream is None:
        return False
    forced = os.environ.get("FORCE_COLOR", "") not in ("", "0")
    return forced or (stream.isatty() and os.environ.get("TERM") != "dumb")


def _broken(text: str, room: int | None, later: int | None) -> Iterator[str]:
    """Break a text that is wider than the room: at spaces, or where there are none, anywhere."""
    while room is not None and later is not None and width_of(text) > room:
        fits = _fitting(text, room)
        at = text.rfind(" ", room // 2, fits + 1)
        at = fits if at < 0 else at
        yield text[:at].rstrip()
        text, room = text[at:].lstrip(), later
    yield text


def _fitting(text: str, room: int) -> int:
    """Count how many characters of a text fit."""
    if text.isascii():
        return room
    for count in range(1, len(text) + 1):
        if width_of(text[:count]) > room:
            return max(1, count - 1)
    return len(text)
