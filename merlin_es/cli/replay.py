"""`merlin ray replay`: a run event by event, with what each one changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.chronicle import (
    NameArgument,
    change_json,
    change_parts,
    event_json,
    head_of,
    is_worth_showing,
    note,
    place_of,
)
from merlin_es.cli.printing import MOMENT, AtOption, Items, Output, OutputOption, settings
from merlin_es.cli.terminal import Part, Screen, Style, screen

if TYPE_CHECKING:
    from eventlog import Event
    from merlin_es.past import Reason
    from projections.history import Step


def replay(
    context: typer.Context,
    run: NameArgument,
    at: AtOption = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="MOMENT", help=f"The first event: {MOMENT}.")] = None,
    step: Annotated[bool, typer.Option("--step", help="Step through it in the terminal.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show each event of a run with what it changed, who wanted it, through which door, and why.

    --at is the last event that is shown; with --step, the one to begin with.
    """
    from merlin_es import bootstrap
    from merlin_es.errors import Usage

    past, name = bootstrap.past_of(settings(context), run)
    stream = past.folded(name)
    first = past.begin(stream, from_) if from_ is not None else None
    last = past.point(stream, at) if at is not None else None
    for point in (first, last):
        if point:
            note(point)
    if step:
        from merlin_es.cli.stepping import play

        begin = last or first
        play(past, stream, begin.seq if begin else 1)
        return
    if first and last and first.seq > last.seq:
        raise Usage(f"--from {from_} is event #{first.seq}, which comes after #{last.seq} (--at {at}): swap them")
    shown, items = screen(), Items(output)
    for found, reason in past.retell(stream, first.seq if first else 1, last.seq if last else None):
        if output.is_data:
            items.print(
                {
                    "event": event_json(found.event),
                    "because": reason
                    and {"of": f"{reason.event.stream}#{reason.event.seq}", "recorded": reason.recorded},
                    "changes": [change_json(change) for change in found.changes],
                }
            )
        else:
            _show(shown, found, reason, past.folds.main(stream))
    items.end()


def _show(shown: Screen, step: Step, reason: Reason | None, main: str) -> None:
    event = step.event
    because = f"because of {_named(reason.event, event.stream)}" if reason else ""
    shown.show(*head_of(event, stream=False), Part(because, Style.DIM))
    for change in step.changes:
        if is_worth_showing(change):
            shown.show(*change_parts(change, place_of(change, main)), indent=4)


def _named(event: Event, stream: str) -> str:
    return f"{'' if event.stream == stream else event.stream}#{event.seq} {event.type}"
