"""`merlin ray wait`: until an event of a run is there."""

from __future__ import annotations

from typing import Annotated

import typer

from merlin_es.cli.chronicle import content_of, event_json, head_of
from merlin_es.cli.printing import Output, OutputOption, as_pairs, print_data, require_earnest, settings
from merlin_es.cli.terminal import screen


def wait(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")],
    what: Annotated[str, typer.Argument(metavar="EVENT|STATUS", help="Like run.started, or running.")],
    match: Annotated[
        list[str] | None, typer.Option("-m", "--match", metavar="KEY=VALUE", help="A field that the event must have.")
    ] = None,
    count: Annotated[int, typer.Option("-c", "--count", min=1, help="When it happens for the Nth time.")] = 1,
    timeout: Annotated[str | None, typer.Option("-t", "--timeout", metavar="TIME", help="Like 30s or 5m.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Wait until an event of a run is there, or the run has had a status; one that is there already counts.

    Exit code: 0 it is there, 12 the time is over, 20 it can no longer come.
    """
    from merlin_es import bootstrap
    from merlin_es.arrival import wait_for
    from merlin_es.deciders.expectation import expect
    from merlin_es.errors import TimedOut
    from merlin_es.moments import span_s
    from projections.projection import event_types

    require_earnest(context)
    where = settings(context)
    wanted = expect(what, as_pairs(match or [], "--match"), count, event_types())
    limit_s = None if timeout is None else span_s(timeout)
    merlin = bootstrap.build(where)
    found = wait_for(bootstrap.past(where), run, wanted, lambda: merlin.status(run), merlin.host.monotonic, limit_s)
    if found.event is None:
        raise TimedOut(
            f"{wanted} was not there within {timeout} ({run} is {found.status}): wait longer with --timeout, or see "
            f"`merlin ray events {run}`"
        )
    if output.is_data:
        print_data(output, event_json(found.event))
    else:
        screen().show(*head_of(found.event, stream=found.event.stream != f"run/{run}"), *content_of(found.event))
