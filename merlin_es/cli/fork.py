"""`merlin ray fork`: a new run from the past of another one."""

from __future__ import annotations

from typing import Annotated

import typer

from merlin_es.cli.chronicle import note
from merlin_es.cli.jobs import command_of, finish
from merlin_es.cli.printing import (
    AtOption,
    Output,
    OutputOption,
    QuietOption,
    as_pairs,
    as_path,
    is_dry_run,
    print_lines,
    printable,
    settings,
)
from merlin_es.cli.progress import working


def fork(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of the run to go on from.")],
    argv: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CMD…]", help="Another command, word by word.")
    ] = None,
    at: AtOption = None,
    answer: Annotated[
        list[str] | None, typer.Option(metavar="QUESTION=CHOICE", help="Answer a question of its execution otherwise.")
    ] = None,
    command: Annotated[str | None, typer.Option(help="Another command as one text, split as a shell would.")] = None,
    workdir: Annotated[str | None, typer.Option(metavar="PATH", help="Run elsewhere [default: where it ran].")] = None,
    target_dir: Annotated[
        str | None, typer.Option(metavar="PATH", help="A new directory; what was made by then is put there.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run, and end with its outcome.")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Have Ray run again what a run was at some moment, with something changed; that one stays as it is.

    The new run names it and its head at that moment in its first event. Without --target-dir it works where that did.
    """
    from merlin_es import bootstrap
    from merlin_es.forks import Changes

    where = settings(context)
    forks = bootstrap.forks(where)
    point = forks.point(run, at)
    note(point)
    changes = Changes(
        command=None if command is None and not argv else command_of(command, argv),
        workdir=None if workdir is None else as_path(workdir, "--workdir"),
        target_dir=None if target_dir is None else as_path(target_dir, "--target-dir"),
        answers=as_pairs(answer or [], "--answer"),
        traceparent=where.traceparent,
    )
    with working(f"forking {run}", quiet=quiet):
        forked = forks.fork(run, point, changes, dry_run=is_dry_run(context))
    for name, why in forked.missing.items():
        typer.echo(f"merlin: {name} is not brought back: {printable(why)}", err=True)
    if output == Output.TEXT and not quiet:
        print_lines([("Forked from", forked.record.forked_from)])
    finish(forks.merlin, forked.record, wait=wait, quiet=quiet, output=output)
