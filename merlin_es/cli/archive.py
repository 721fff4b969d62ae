"""`merlin ray archive`: a log takes less space, and is read as before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, print_data, print_lines, require_earnest, settings
from merlin_es.cli.progress import working

if TYPE_CHECKING:
    from merlin_es.cli.shapes import StoredLog
    from merlin_es.custody import Packed


def archive(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Compress the log of a run that has ended, in place.

    Every verb reads and verifies it as before. Nothing more is recorded of the run until `merlin ray unarchive`.
    """
    from merlin_es import bootstrap

    require_earnest(context)
    with working(f"archiving {run}"):
        packed = bootstrap.custody(settings(context)).archive(run)
    show(packed, output)


def show(packed: Packed, output: Output) -> None:
    """Print where a log lies, and how much of the disk it takes."""
    if output.is_data:
        shown: StoredLog = {
            "run_id": packed.run_id,
            "head": str(packed.head),
            "path": str(packed.path),
            "size_bytes": packed.size_bytes,
            "stored_bytes": packed.stored_bytes,
        }
        print_data(output, shown)
        return
    stored = "" if packed.stored_bytes == packed.size_bytes else f" in {packed.stored_bytes}B"
    size = f"{packed.size_bytes}B{stored}"
    print_lines([("Run ID", packed.run_id), ("Log", packed.path), ("Size", size), ("Head", packed.head)])
