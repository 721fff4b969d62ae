"""`merlin ray head`: where a log ends, to note it elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, print_data, settings

if TYPE_CHECKING:
    from merlin_es.cli.shapes import StreamHead


def head(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="RUN|STREAM", help="A run, or a stream as `verify --all` lists it.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Print SEQ:H of the last event: noted elsewhere, it proves later that nothing before it was changed or cut."""
    from merlin_es import bootstrap

    custody = bootstrap.custody(settings(context))
    found = custody.head(name)
    if output.is_data:
        shown: StreamHead = {"stream": custody.stream(name), "seq": found.seq, "h": found.h}
        print_data(output, shown)
    else:
        typer.echo(str(found))
