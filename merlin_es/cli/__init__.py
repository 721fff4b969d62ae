"""What does a person type? `merlin VERB`; each verb turns its words into one call and prints what came of it."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError

from merlin_es.cli.verbs import Verbs

INTERRUPTED = 128 + signal.SIGINT
WIDTH_MAX = 120

app = Verbs("Merlin ES: an event-sourced control plane for hardware bring-up.")
app.group_in("merlin_es.cli.ray")
app.group_in("merlin_es.cli.targetgen")
app.function_in("merlin_es.cli.settings")


@app.callback()
def merlin() -> None:
    """Merlin ES: an event-sourced control plane for hardware bring-up."""


@app.command()
def demo(
    directory: Annotated[
        str | None, typer.Option("--dir", metavar="DIR", help="Play there; it is new or empty [default: a new one].")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the files at the end.")] = False,
) -> None:
    """Do the main job on a real Ray in a minute, step by step: plan, run, gate, lease, fork, crash, rebuild, stop.

    Exit code: 0 done, 1 a step did not do what it says, 2 something is missing, 130 interrupted.
    """
    from pathlib import Path

    from merlin_es import demo as story
    from merlin_es.cli.printing import as_path

    raise typer.Exit(story.play(None if directory is None else Path(as_path(directory, "--dir")), remove=remove))


def main() -> None:
    """Run the command line; an error that was raised on purpose becomes one line and its exit code."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _run() -> int:
    from eventlog.errors import Archived, Damaged, EventLogError
    from merlin_es.errors import MerlinError, Refused, Sick, Usage

    _prepare()
    try:
        return _invoke(sys.argv[1:])
    except MerlinError as error:
        return _complain(str(error), error.exit_code)
    except Damaged as error:
        return _complain(str(error), Sick.exit_code)
    except Archived as error:
        return _complain(str(error), Refused.exit_code)
    except EventLogError as error:
        return _complain(str(error), MerlinError.exit_code)
    except NoArgsIsHelpError as error:
        typer.echo(error.format_message(), err=True)  # Help that nobody asked for is no result.
        return Usage.exit_code
    except ClickException as error:
        return _complain(_usage(error), Usage.exit_code)
    except BrokenPipeError:
        return 0  # Who reads has had enough.
    except OSError as error:
        return _complain(_what_is_wrong(error), MerlinError.exit_code)


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


def _usage(error: ClickException) -> str:
    context = getattr(error, "ctx", None)
    verb = context.command_path if context else "merlin ray VERB"
    return f"{error.format_message().rstrip('.')}: see `{verb} --help`"


def _what_is_wrong(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}: make room and give access there, then repeat the call"


def _complain(text: str, code: int) -> int:
    from merlin_es.cli.printing import printable

    first, *more = text.splitlines() or [""]
    try:
        typer.echo(f"merlin: {printable(first)}", err=True)
        for line in more:
            typer.echo(printable(line), err=True)
    except OSError:
        pass  # Nobody can be told; the exit code still says it.
    return code
