"""`merlin settings`: each value, and where it comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import (
    Output,
    OutputOption,
    current_directory,
    print_data,
    print_table,
    require_path,
)

if TYPE_CHECKING:
    from merlin_es.cli.shapes import AllSettings, SettingRow


def settings(
    state_root: Annotated[
        str | None, typer.Option(metavar="PATH", help="As `merlin ray --state-root` takes it.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show each setting, its value and its source: an option, the environment, [tool.merlin] or the default."""
    from merlin_es.settings import explain, load, unknown

    if state_root is not None:
        require_path(state_root, "--state-root")
    given, cwd = None if state_root is None else Path(state_root), current_directory()
    found = explain(given, os.environ, cwd)
    root = load(given, os.environ, cwd, careful=False).state_root
    rows: list[SettingRow] = [
        {
            "name": setting.name,
            "value": str(root) if setting.name == "state_root" else each.value,
            "source": each.source,
            "where": each.where,
            "variable": setting.variable,
            "in_file": setting.in_file,
            "what": setting.what,
        }
        for setting, each in found.items()
    ]
    meaningless = unknown(cwd)
    if output.is_data:
        shown: AllSettings = {"settings": rows, "unknown": list(meaningless)}
        print_data(output, shown)
        return
    print_table(
        ["SETTING", "VALUE", "FROM"],
        [[str(row["name"]), str(row["value"] or "-"), str(row["where"] or row["source"])] for row in rows],
    )
    for name in meaningless:
        typer.echo(f"merlin: [tool.merlin] {name} means nothing: see `merlin settings -o json`", err=True)
