"""`merlin ray seal`: nothing more is recorded of a run that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, print_data, print_lines, require_earnest, settings

if TYPE_CHECKING:
    from merlin_es.cli.shapes import SealedRun


def seal(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run that has ended.")],
    reason: Annotated[str, typer.Option(help="Why, to record with it.")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Close the log of a run that has ended: whatever would be recorded of it is refused from here on.

    There is no way back. Twice is once.
    """
    from merlin_es import bootstrap

    require_earnest(context)
    custody = bootstrap.custody(settings(context))
    record = custody.seal(run, reason)
    head = custody.head(run)
    if output.is_data:
        shown: SealedRun = {"run_id": run, "sealed_at": record.sealed_at, "head": str(head)}
        print_data(output, shown)
    else:
        print_lines([("Run ID", run), ("Sealed", record.sealed_at), ("Head", head)])
