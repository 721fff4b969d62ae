"""`merlin ray import`: what was recorded elsewhere, taken in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, as_path, is_dry_run, print_json, printable, settings

INCOMPLETE = 4


def import_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="OLD_STATE_ROOT", help="The state root of the tool before this.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Take in all that the tool which this one replaces has recorded, once; it is only read.

    Exit code 4 says that something was skipped, and what; the rest is in. Repeated, it takes in what is new.
    """
    from dataclasses import asdict

    from merlin_es import bootstrap
    from merlin_es.errors import Usage

    path = Path(as_path(source, "OLD_STATE_ROOT"))
    if path.is_file():
        raise Usage(f"{path} is a file: name the directory that the old tool kept its state in")
    items = []
    for item in bootstrap.old_root(settings(context)).take_in(path, dry_run=is_dry_run(context)):
        items.append(item)
        if output == Output.TEXT and item.state != "known":
            typer.echo(printable(f"{item.state}  {item.name}  {item.detail}"))
    if output == Output.JSON:
        print_json([asdict(item) for item in items])
    else:
        counted = Counter(item.state for item in items)
        said = ", ".join(f"{number} {state}" for state, number in sorted(counted.items())) or "Nothing to import"
        typer.echo(f"{said}; nothing was recorded, as this was a dry run." if is_dry_run(context) else f"{said}.")
    if any(item.state == "skipped" for item in items):
        raise typer.Exit(INCOMPLETE)
