"""`merlin ray doctor`: what is wrong, and what mends it."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, QuietOption, is_dry_run, print_data, printable, settings

if TYPE_CHECKING:
    from merlin_es.doctor.finding import Finding

WIDTH = 80
EXIT_CODES = {"warning": 4, "error": 7}
"""That of the worst finding which was not mended; 0 where there is none of these."""


def doctor(
    context: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what is safe: state files that are behind, the index.")
    ] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Look at everything, say what is wrong and which command mends it; nothing is changed without --fix.

    Exit code 0: all is well. 4: something should be mended. 7: something does not work, or is not as it was recorded.
    """
    from dataclasses import asdict

    from merlin_es import bootstrap

    found = []
    for finding in bootstrap.doctor(settings(context, careful=False)).examine(fix=fix and not is_dry_run(context)):
        found.append(finding)
        if output == Output.TEXT and not (quiet and (finding.severity in ("fine", "note") or finding.fixed)):
            for line in _lines(finding):
                typer.echo(line)
    counted = Counter("fixed" if finding.fixed else finding.severity for finding in found)
    if output.is_data:
        print_data(output, [asdict(finding) for finding in found])
    elif not quiet:
        names = [name for name in ("error", "warning", "note", "fixed", "fine") if counted[name]]
        typer.echo(", ".join(f"{counted[name]} {name}{_plural(name, counted[name])}" for name in names))
    worst = max((code for name, code in EXIT_CODES.items() if counted[name]), default=0)
    if worst:
        raise typer.Exit(worst)


def _plural(severity: str, number: int) -> str:
    return "" if number == 1 or severity in ("fixed", "fine") else "s"


def _lines(finding: Finding) -> list[str]:
    """Give a finding in lines of at most 80 columns; a command that is longer stays whole, to be copied."""
    head = f"{'fixed' if finding.fixed else finding.severity:<8} {finding.check:<12} "
    indent = " " * len(head)
    text = textwrap.wrap(printable(finding.what), WIDTH - len(head), break_on_hyphens=False) or [""]
    lines = [head + text[0], *(indent + more for more in text[1:])]
    if finding.mend and not finding.fixed:
        lines.append(f"{indent}→ {printable(finding.mend)}")
    return lines
