"""How does what somebody has typed begin, and how does it end? In `merlin` are the verbs."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType

from merlin_es.cli.sparing import spare

INTERRUPTED = 128 + signal.SIGINT
WIDTH_MAX = 120
GARBAGE_MIN = 100_000
"""How many objects come to be before any are looked at for being garbage. Most verbs end before that, and would
otherwise take a tenth of their time to find, again and again, that all they import is still wanted."""


def main() -> None:
    """Run the command line; whatever goes wrong becomes three lines and an exit code."""
    gc.set_threshold(GARBAGE_MIN)
    spare()
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
        from merlin_es.cli.merlin import app

        return answer(app.group("merlin"), shell, words)
    try:
        code = _invoke(words)
    except BrokenPipeError:
        return 0  # Who reads has had enough.
    except Exception as error:  # noqa: BLE001  nothing goes on: somebody is told, and this process ends
        from merlin_es.cli.complaints import complain

        return complain(error, words)
    atexit.register(gc.freeze)  # The end looks for garbage too, and all that is of use is given back already.
    return code


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
    import typer

    from merlin_es.cli.merlin import app

    try:
        with app.group("merlin").make_context("merlin", list(words), max_content_width=WIDTH_MAX) as context:
            context.command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0
