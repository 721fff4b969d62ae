"""What does a person type? `merlin VERB`; each verb turns its words into one call and prints what came of it."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from merlin_es.cli.verbs import Verbs

INTERRUPTED = 128 + signal.SIGINT
WIDTH_MAX = 120

app = Verbs("Merlin ES: an event-sourced control plane for hardware bring-up.")
app.group_in("merlin_es.cli.ray")
app.group_in("merlin_es.cli.targetgen")
app.function_in("merlin_es.cli.settings")
app.function_in("merlin_es.cli.schema")
app.function_in("merlin_es.cli.completion")


@app.callback()
def merlin() -> None:
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


def main() -> None:
    """Run the command line; whatever goes wrong becomes three lines and an exit code."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _run() -> int:
    _prepare()
    words = sys.argv[1:]
    if shell := os.environ.get("_MERLIN_COMPLETE"):  # A shell asks what may come next.
        from merlin_es.cli.completing import answer

        return answer(app.group("merlin"), shell, words)
    try:
        return _invoke(words)
    except BrokenPipeError:
        return 0  # Who reads has had enough.
    except Exception as error:  # noqa: BLE001  nothing goes on: somebody is told, and this process ends
        from merlin_es.cli.complaints import complain

        return complain(error, words)


def _prepare() -> None:
    """Have every text printable, every warning on one line, and SIGTERM and SIGHUP end this process in order."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # As it is when whoever started us closed it.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # they are text files here
    warnings.formatwarning = lambda message, *_more, **_also: f"merlin: {message}\n"
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # Whatever is half done is undone on the way, as after Ctrl-C.


def _invoke(words: Sequence[str]) -> int:
    """Do what the words say, as typer's own main does, which would answer for Ctrl-C and a broken pipe in its way."""
    try:
        with app.group("merlin").make_context("merlin", list(words), max_content_width=WIDTH_MAX) as context:
            context.command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0
