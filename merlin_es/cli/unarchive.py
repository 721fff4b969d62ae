"""`merlin ray unarchive`: a log is brought back as it was."""

from __future__ import annotations

from typing import Annotated

import typer

from merlin_es.cli.archive import show
from merlin_es.cli.printing import Output, OutputOption, require_earnest, settings
from merlin_es.cli.progress import working


def unarchive(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring the log of an archived run back as it was, byte by byte."""
    from merlin_es import bootstrap

    require_earnest(context)
    with working(f"unarchiving {run}"):
        packed = bootstrap.custody(settings(context)).unarchive(run)
    show(packed, output)
