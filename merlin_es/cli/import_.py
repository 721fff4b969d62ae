"""`merlin ray import`: what was recorded elsewhere, taken in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import (
    Output,
    OutputOption,
    QuietOption,
    as_path,
    is_dry_run,
    print_data,
    print_each,
    print_lines,
    printable,
    require_earnest,
    settings,
)
from merlin_es.cli.progress import watched, working

if TYPE_CHECKING:
    from merlin_es.cli.shapes import TakenRun

INCOMPLETE = 4


def import_(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The state root of the tool before this, or a tar that `merlin ray export` has written.",
        ),
    ],
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take in what was recorded elsewhere: all of an old state root, which is only read, or a run that was exported.

    Of a state root of the tool that this one replaces, exit code 4 says that something was skipped, and what; the rest
    is in. Repeated, it takes in what is new. An exported run must have ended, and is taken in once its chain is proved;
    what is here already under its id stays as it is.
    """
    from merlin_es.errors import NotFound

    path = Path(as_path(source, "SOURCE"))
    if path.is_dir():
        _take_in_old_root(context, path, output, quiet=quiet)
    elif path.is_file():
        _take_in_run(context, path, output, quiet=quiet)
    else:
        raise NotFound(
            f"there is no file and no directory {source}: give a tar that `merlin ray export` has written, or name the "
            "old state root, which has `runs` in it"
        )


def _take_in_old_root(context: typer.Context, path: Path, output: Output, *, quiet: bool) -> None:
    from dataclasses import asdict

    from merlin_es import bootstrap

    items = []
    taken = bootstrap.old_root(settings(context)).take_in(path, dry_run=is_dry_run(context))
    for item in watched("importing", taken, quiet=quiet):
        items.append(item)
        if output == Output.TEXT and (item.state == "skipped" or (item.state == "imported" and not quiet)):
            typer.echo(printable(f"{item.state}  {item.name}  {item.detail}"))
    if output.is_data:
        print_data(output, [asdict(item) for item in items])
    elif not quiet:
        counted = Counter(item.state for item in items)
        said = ", ".join(f"{number} {state}" for state, number in sorted(counted.items())) or "Nothing to import"
        typer.echo(f"{said}; nothing was recorded, as this was a dry run." if is_dry_run(context) else f"{said}.")
    if any(item.state == "skipped" for item in items):
        raise typer.Exit(INCOMPLETE)


def _take_in_run(context: typer.Context, path: Path, output: Output, *, quiet: bool) -> None:
    from merlin_es import bootstrap

    require_earnest(context)
    with path.open("rb") as source, working(f"importing {path.name}", quiet=quiet):
        taken = bootstrap.intake(settings(context)).take_in(source)
    for name in taken.other_files:
        _warn(f"{name} was folded by another version there; here it is as this one folds it")
    for digest in taken.missing:
        _warn(f"blob {digest} was not in the store that it was exported from")
    record = taken.record
    if output.is_data:
        shown: TakenRun = {
            "run_id": record.run_id,
            "status": record.status,
            "head": str(taken.head),
            "blobs": taken.blobs,
            "was_here": taken.was_here,
            "missing_blobs": list(taken.missing),
        }
        print_data(output, shown)
        return
    if quiet:
        print_each([record.run_id])
        return
    note = "it was here already, and nothing has changed" if taken.was_here else None
    print_lines([("Run ID", record.run_id), ("Status", record.status), ("Head", taken.head), ("Message", note)])


def _warn(text: str) -> None:
    typer.echo(f"merlin: {printable(text)}", err=True)
