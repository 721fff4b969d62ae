"""`merlin ray events`: the log itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.chronicle import content_of, event_json, head_of, note_gone
from merlin_es.cli.printing import MOMENT, Items, Output, OutputOption, settings
from merlin_es.cli.terminal import screen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventlog import Event


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
    output: OutputOption = Output.TEXT,
) -> None:
    """Print what was recorded, what led to an event always before it.

    Of a run: also what its execution and its leases went through.
    """
    from fnmatch import fnmatchcase

    from merlin_es import bootstrap
    from merlin_es.errors import Usage

    for each in type_ or ():
        if not any(mark in each for mark in "*?["):
            _hint(each)

    if follow and output is Output.JSON:
        raise Usage("what is followed has no end, and a list of JSON has one: give -o jsonl")
    where = settings(context)
    if name is None:
        past = bootstrap.chronicle(where)
    else:
        past, name = bootstrap.chronicle_of(where, name)
    timeline = past.timeline(name, since)
    shown = screen()
    own = None if name is None else timeline.streams()[0]
    items = Items(output)

    def show(found: Iterator[Event]) -> None:
        for event in found:
            if type_ and not any(fnmatchcase(event.type, each) for each in type_):
                continue
            if actor and not any(fnmatchcase(event.actor, each) for each in actor):
                continue
            if output.is_data:
                items.print(event_json(event))
            else:
                shown.show(*head_of(event, stream=event.stream != own), *content_of(event))

    show(timeline.news())
    if follow:
        show(past.follow(timeline, name, since))
    items.end()
    note_gone(past)
    if timeline.sick:
        from merlin_es.cli.complaints import complain_of_logs
        from merlin_es.errors import Sick

        complain_of_logs(timeline.sick)
        raise typer.Exit(Sick.exit_code)


def _hint(event_type: str) -> None:
    from merlin_es.cli.completing import event_types
    from merlin_es.cli.suggestions import hint

    hint("type of event", event_type, event_types())
