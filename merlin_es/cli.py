"""What does a person type? `merlin VERB`; each verb turns its words into one call and prints what came of it."""

from __future__ import annotations

from typing import Annotated

import typer

from merlin_es import demo as scenes

app = typer.Typer(
    help="Merlin ES: an event-sourced control plane for hardware bring-up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def merlin() -> None:
    """Merlin ES: an event-sourced control plane for hardware bring-up."""


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the files and say where they are.")] = False,
) -> None:
    """Show in a few seconds what the log does: write it, cut it, repair it, spoil it, verify it."""
    raise typer.Exit(scenes.play(keep=keep))


def main() -> None:
    """Run the command line."""
    app(prog_name="merlin")
