"""`merlin ray reconcile`: the watch loop."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, print_data, printable, require_earnest, settings
from merlin_es.counts import counted

if TYPE_CHECKING:
    from merlin_es.cli.shapes import PassDone
    from merlin_es.reconciler import Pass


def reconcile(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    unblock: Annotated[bool, typer.Option("--unblock", help="Also submit what is blocked.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask Ray what became of the runs, and take the next steps.

    It goes on until SIGTERM or Ctrl-C. With --once, exit code 6 says that the cluster gave no answer, and 7 that a log
    is damaged.
    """
    from merlin_es import bootstrap
    from merlin_es.errors import Usage

    require_earnest(context)
    if output is Output.JSON and not once:
        raise Usage("a loop has no end, and a document of JSON has one: give -o jsonl, or --once")
    merlin = bootstrap.build(settings(context))
    if once:
        done = merlin.reconcile_once(unblock=unblock)
        if output.is_data:
            print_data(output, _as_json(done))
        else:
            Teller(output).report(done)
            typer.echo(f"Looked at {counted(done.looked_at, 'run')}, {len(done.changed)} changed.")
        raise typer.Exit(6 if done.unreachable else 7 if done.sick else 0)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())
    tell = Teller(output)
    merlin.reconcile(stop, tell.say, tell.report, unblock=unblock)


class Teller:
    """Tells people what changes, and what is wrong once, not at each pass."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Print one line for people."""
        typer.echo(f"merlin: {printable(text)}", err=True)

    def report(self, done: Pass) -> None:
        """Print what is new in a pass."""
        wrong: dict[str, str] = {"": done.unreachable} if done.unreachable else {}
        wrong |= done.sick
        for what, why in wrong.items():
            if self._said.get(what) != why:
                self.say(f"{what}: {why}" if what else str(why))
        if "" in self._said and "" not in wrong:
            self.say("the cluster answers again")
        self._said = {what: str(why) for what, why in wrong.items()}
        if self._output.is_data:
            if done.changed or wrong:
                print_data(self._output, _as_json(done))
            return
        for run_id in done.changed:
            typer.echo(f"{run_id} changed")


def _as_json(done: Pass) -> PassDone:
    return {
        "looked_at": done.looked_at,
        "changed": list(done.changed),
        "unreachable": done.unreachable,
        "sick": {stream: str(why) for stream, why in done.sick.items()},
    }
