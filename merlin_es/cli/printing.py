"""How is a state shown? In the lines of old, or as the JSON of its file."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from merlin_es.settings import Settings


class Output(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"

    @property
    def is_data(self) -> bool:
        """Whether a program reads it."""
        return self is not Output.TEXT


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""What breaks a line, moves a cursor, or turns the order of what is read."""

CLOCK_WENT_BACK = "the clock went back in {}: it may have stood elsewhere"
MOMENT = "42, 2026-11-23T07:13Z, '2h ago', the id of an event, or run.started#2"
AtOption = Annotated[str | None, typer.Option("--at", metavar="MOMENT", help=f"A moment of the past: {MOMENT}.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Only what matters: ids, or what is not well.")]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="For people, or for programs: `merlin schema`.")]


def settings(context: typer.Context, *, careful: bool = True) -> Settings:
    """Give the settings of this call; unless `careful`, also those with a state root that others can write to."""
    from merlin_es.settings import load

    return load(context.obj[1], os.environ, current_directory(), careful=careful)


def current_directory() -> Path:
    """Give the current directory; raises Usage where there is none any more."""
    from merlin_es.errors import Usage

    try:
        return Path.cwd()
    except OSError as error:
        raise Usage(f"the current directory cannot be entered ({error.strerror}): change to another one") from None


def is_dry_run(context: typer.Context) -> bool:
    """Whether nothing is to be done."""
    return bool(context.obj[0])


def require_earnest(context: typer.Context) -> None:
    """Refuse --dry-run before a verb that cannot say what it would do; raises Usage."""
    from merlin_es.errors import Usage

    if is_dry_run(context):
        raise Usage(f"`{context.command_path}` has no dry run, and nothing was done: leave out --dry-run")


def printable(text: str) -> str:
    """Give a text that stays on its line and does nothing to a terminal: without escape sequences and controls."""
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text))


def print_each(texts: Iterable[object]) -> None:
    """Print each on a line of its own, for who asked to be told only that."""
    for text in texts:
        typer.echo(printable(str(text)))


def print_lines(lines: Iterable[tuple[str, object]]) -> None:
    """Print `Name: value` for each that has a value; a value stays on its line."""
    for name, value in lines:
        if value not in (None, ""):
            typer.echo(f"{name}: {printable(str(value))}")


def print_json(value: object) -> None:
    """Print JSON as Merlin's files have it; in ASCII where what is printed is not UTF-8."""
    typer.echo(_as_json(value, indent=2))


def print_json_line(value: object) -> None:
    """Print JSON on one line, at once."""
    typer.echo(_as_json(value, separators=(",", ":")))


def _as_json(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    import json  # Whoever reads lines does not wait for it.

    is_utf8 = sys.stdout is not None and sys.stdout.encoding.lower().replace("-", "") == "utf8"
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=not is_utf8)


def print_data(output: Output, value: object) -> None:
    """Print what a program reads: one document, or each of several on a line of its own."""
    if output is Output.JSON:
        print_json(value)
        return
    for each in value if isinstance(value, list | tuple) else (value,):
        print_json_line(each)


class Items:
    """Prints one thing after the other, each when it is there: on a line of its own, or as a part of one list."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._begun = False

    def print(self, value: object) -> None:
        """Print one of them."""
        if self._output is Output.JSONL:
            print_json_line(value)
            return
        typer.echo(",\n" if self._begun else "[\n", nl=False)
        typer.echo(textwrap.indent(_as_json(value, indent=2), "  "), nl=False)
        self._begun = True

    def end(self) -> None:
        """Say that there are no more."""
        if self._output is Output.JSON:
            typer.echo("\n]" if self._begun else "[]")


def print_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need to be; on a terminal they fit into it, and statuses are in colour."""
    table = [[" ".join(printable(cell).split()) for cell in row] for row in (names, *rows)]
    if (sys.stdout and sys.stdout.isatty()) or os.environ.get("FORCE_COLOR"):
        from merlin_es.cli.terminal import screen

        screen().show_table(table)
        return
    widths = [max(width_of(row[at]) for row in table) for at in range(len(names))]
    for row in table:
        cells = (cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def as_pairs(texts: Sequence[str], option: str) -> Mapping[str, str]:
    """Read `K=V` options; a bare word is `"true"`."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key:
            raise typer.BadParameter(f"{text!r} is not K=V", param_hint=option)
        pairs[key] = value if equals else "true"
    return pairs


def as_path(text: str, option: str) -> str:
    """Read a path, taken from here."""
    require_path(text, option)
    return str(Path(text).absolute())


def require_path(text: str, option: str) -> None:
    """Refuse a path that is empty, as an unset variable is: it would be the current directory."""
    if not text:
        raise typer.BadParameter("it is empty; give a path, or `.` for the current directory", param_hint=option)


def as_amounts(texts: Sequence[str], option: str) -> Mapping[str, float]:
    """Read `NAME=AMOUNT` options; a bare name is one of it."""
    amounts = {}
    for key, value in as_pairs(texts, option).items():
        try:
            amounts[key] = 1.0 if value == "true" else float(value)
        except ValueError:
            raise typer.BadParameter(f"{key}={value} is not NAME=AMOUNT", param_hint=option) from None
        if not 0 < amounts[key] < 1e9:
            raise typer.BadParameter(f"{key}={value}: an amount is more than 0", param_hint=option)
    return amounts


def width_of(text: str) -> int:
    """Count the columns that a terminal gives to a text."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def cut(text: str, room: int) -> str:
    """Cut a text to the columns of a terminal; 0 is room enough."""
    if not room or width_of(text) <= room:
        return text
    left, kept = room - 1, []
    for each in text:
        left -= width_of(each)
        if left < 0:
            break
        kept.append(each)
    return "".join(kept) + "…"
