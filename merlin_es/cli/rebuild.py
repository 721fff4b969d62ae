"""`merlin ray rebuild`: the state files, from the logs."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, cast

import typer

from merlin_es.cli.printing import Output, OutputOption, QuietOption, is_dry_run, print_data, printable, settings
from merlin_es.cli.progress import watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merlin_es.cli.shapes import FileVerdict, PatchStep
    from projections.patch import Operation
    from projections.verdict import Verdict

MENDED = frozenset({"missing", "stale", "edited", "other_fold"})
PATCH_LINES_MAX = 20
"""For people; programs get all."""


def rebuild(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Only say what differs; exit code 4 if any does.")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write every state file anew from the logs.

    They are never truth, and can be deleted at any time. How a file differs is shown as a JSON Patch. A fold
    that comes to something else than the checkpoints in a log say is `diverged`, with the first event and place.
    """
    import sqlite3

    from merlin_es import bootstrap
    from merlin_es.errors import MerlinError
    from projections.rebuilding import rebuild as rebuilt

    check = check or is_dry_run(context)
    where = settings(context)
    ledger = bootstrap.ledger(where)
    compared = rebuilt(ledger.log, where.state_root, check=check, disk=ledger.publisher.disk)
    verdicts = list(watched("rebuilding", compared, quiet=quiet))
    if not check:
        try:
            ledger.index.rebuild()
        except sqlite3.Error as error:
            raise MerlinError(
                f"the index in {where.state_root} cannot be written ({error}): make room and give access there, "
                "then repeat the call"
            ) from None
    print_verdicts(verdicts, output, check=check, quiet=quiet)


def print_verdicts(verdicts: Sequence[Verdict], output: Output, *, check: bool, quiet: bool = False) -> None:
    """Print what was found or done, and end with the exit code that says so."""
    different = [verdict for verdict in verdicts if verdict.state not in ("same", "written")]
    if output.is_data:
        print_data(output, [_as_json(verdict) for verdict in verdicts])
    else:
        for verdict in different:
            typer.echo(printable(f"{verdict.state}  {verdict.path}  {verdict.why}".rstrip()))
            for operation in (verdict.patch or ())[:PATCH_LINES_MAX]:
                typer.echo(printable(f"    {operation.op}  {operation.path}  {_shown(operation)}".rstrip()))
            if (more := len(verdict.patch or ()) - PATCH_LINES_MAX) > 0:
                typer.echo(f"    and {more} more: -o json has them")
        counted = Counter(verdict.state for verdict in verdicts)
        if not quiet:
            typer.echo(", ".join(f"{number} {state}" for state, number in sorted(counted.items())) or "No state files.")
    if check and any(verdict.state in MENDED for verdict in different):
        typer.echo("merlin: without --check these files are written anew, as their logs say", err=True)
    sick = any(verdict.state == "sick" for verdict in verdicts)
    if sick or (check and different):
        raise typer.Exit(7 if sick else 4)


def _as_json(verdict: Verdict) -> FileVerdict:
    steps = None if verdict.patch is None else [operation.as_json() for operation in verdict.patch]
    patch = cast("list[PatchStep] | None", steps)  # As RFC 6902 has them.
    return {"path": verdict.path, "state": verdict.state, "why": verdict.why, "patch": patch}


def _shown(operation: Operation) -> str:
    return "" if operation.op == "remove" else json.dumps(operation.value, ensure_ascii=False)
