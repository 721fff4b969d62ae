"""`merlin ray events`: the log itself."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.chronicle import content_of, event_json, head_of, note_gone, print_json_line
from merlin_es.cli.printing import MOMENT, settings
from merlin_es.cli.terminal import screen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventlog import Event


class Lines(StrEnum):
    """How to print what has no end."""

    TEXT = "text"
    JSONL = "jsonl"


LinesOption = Annotated[Lines, typer.Option("-o", "--output", help="Lines for people, or an object a line.")]


def events(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN|STREAM]", help="Whose events [default: those of all].")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="MOMENT", help=f"The first one: {MOMENT}.")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only of this type, like 'run.*'.")
    ] = None,
    actor: Annotated[list[str] | None, typer.Option(help="Only those that this one wanted, like 'ada@*'.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is recorded from now on.")] = False,
    output: LinesOption = Lines.TEXT,
) -> None:
    """Print what was recorded, what led to an event always before it.

    Of a run: also what its execution and its leases went through.
    """
    from fnmatch import fnmatchcase

    from merlin_es import bootstrap

    where = settings(context)
    if name is None:
        past = bootstrap.past(where)
    else:
        past, name = bootstrap.past_of(where, name)
    timeline = past.timeline(name, since)
    shown = screen()
    own = None if name is None else timeline.streams()[0]

    def show(found: Iterator[Event]) -> None:
        for event in found:
            if type_ and not any(fnmatchcase(event.type, each) for each in type_):
                continue
            if actor and not any(fnmatchcase(event.actor, each) for each in actor):
                continue
            if output == Lines.JSONL:
                print_json_line(event_json(event))
            else:
                shown.show(*head_of(event, stream=event.stream != own), *content_of(event))

    show(timeline.news())
    if follow:
        show(past.follow(timeline, name, since))
    note_gone(past)
    for stream, why in timeline.sick.items():
        typer.echo(f"merlin: {stream}: {why}", err=True)
    if timeline.sick:
        raise typer.Exit(7)
