"""What does a person type? `merlin VERB`; each verb turns its words into one call and prints what came of it."""

from __future__ import annotations

from typing import Annotated

import typer

from merlin_es.cli.verbs import Verbs

app = Verbs("Merlin ES: an event-sourced control plane for hardware bring-up.")
app.group_in("merlin_es.cli.ray")
app.group_in("merlin_es.cli.targetgen")
app.function_in("merlin_es.cli.settings")
app.function_in("merlin_es.cli.schema")
app.function_in("merlin_es.cli.completion")


def _say_version(wanted: bool) -> None:
    if wanted:
        from merlin_es.version import VERSION

        typer.echo(f"merlin {VERSION}")
        raise typer.Exit


@app.callback()
def merlin(
    version: Annotated[
        bool, typer.Option("--version", help="Say which release this is.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Merlin ES: an event-sourced control plane for hardware bring-up."""


@app.command()
def demo(
    directory: Annotated[
        str | None,
        typer.Option("--dir", metavar="DIR", help="Play there: new, empty, or of a demo [default: a new one]."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the files at the end.")] = False,
) -> None:
    """Do the main job on a real Ray in a minute, step by step: plan, run, gate, lease, fork, crash, rebuild, stop.

    Exit code: 0 done, 1 a step did not do what it says, 2 something is missing, 130 or 143 interrupted.
    """
    from pathlib import Path

    from merlin_es import demo as story
    from merlin_es.cli.printing import as_path

    raise typer.Exit(story.play(None if directory is None else Path(as_path(directory, "--dir")), remove=remove))
