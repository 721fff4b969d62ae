"""`merlin ray import`: a run of another state root is taken in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merlin_es.cli.printing import (
    Output,
    OutputOption,
    print_json,
    print_lines,
    printable,
    require_earnest,
    require_path,
    settings,
)


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A tar that `merlin ray export` has written.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Take in a run that was exported elsewhere, once its chain is proved.

    What is here already under its id stays as it is. Only runs that have ended are taken in.
    """
    from merlin_es import bootstrap
    from merlin_es.errors import NotFound

    require_earnest(context)
    require_path(file, "FILE")
    path = Path(file)
    if not path.is_file():
        raise NotFound(f"there is no file {file}: give a tar that `merlin ray export` has written")
    with path.open("rb") as source:
        taken = bootstrap.intake(settings(context)).take_in(source)
    for name in taken.other_files:
        _warn(f"{name} was folded by another version there; here it is as this one folds it")
    for digest in taken.missing:
        _warn(f"blob {digest} was not in the store that it was exported from")
    record = taken.record
    if output == Output.JSON:
        print_json(
            {
                "run_id": record.run_id,
                "status": record.status,
                "head": str(taken.head),
                "blobs": taken.blobs,
                "was_here": taken.was_here,
                "missing_blobs": taken.missing,
            }
        )
        return
    note = "it was here already, and nothing has changed" if taken.was_here else None
    print_lines([("Run ID", record.run_id), ("Status", record.status), ("Head", taken.head), ("Message", note)])


def _warn(text: str) -> None:
    typer.echo(f"merlin: {printable(text)}", err=True)
