"""`merlin ray artifacts`: list, fetch, index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import (
    AtOption,
    Output,
    OutputOption,
    QuietOption,
    print_data,
    print_each,
    print_lines,
    printable,
    require_earnest,
    settings,
)
from merlin_es.cli.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merlin_es.cli.shapes import FetchedFile
    from projections.artifacts import Artifact

app = Verbs("The files that runs leave behind.")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")]


@app.command("list")
def list_(
    context: typer.Context,
    run: RunId,
    at: AtOption = None,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the artifacts of a run as they were when it ended, or were indexed last; or, with --at, by then."""
    from merlin_es import bootstrap

    if at is not None:
        from merlin_es import then
        from merlin_es.cli.chronicle import note

        found, was = then.artifacts(bootstrap.past(settings(context)), run, at)
        note(was.point)
        _show(found, output, quiet=quiet)
        return
    _show(bootstrap.build(settings(context)).artifacts(run), output, quiet=quiet)


@app.command()
def index(context: typer.Context, run: RunId, output: OutputOption = Output.TEXT) -> None:
    """Index the target directory again, as a new event."""
    from merlin_es import bootstrap

    require_earnest(context)
    _show(bootstrap.build(settings(context)).index_artifacts(run), output)


@app.command()
def fetch(
    context: typer.Context,
    run: RunId,
    name: Annotated[str, typer.Argument(help="The name, or the end of one that is unique.")],
    to: Annotated[Path | None, typer.Option(help="A file or a directory [default: here].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Copy an artifact here, verified against what was indexed."""
    from merlin_es import bootstrap

    require_earnest(context)
    fetched = bootstrap.build(settings(context)).fetch(run, name, to, force=force)
    note = "from the captured bytes: the file has changed since, or is gone" if fetched.from_blob else None
    if output.is_data:
        shown: FetchedFile = {
            "name": name,
            "path": str(fetched.path),
            "size_bytes": fetched.size_bytes,
            "message": note,
        }
        print_data(output, shown)
        return
    if quiet:
        print_each([fetched.path])
        return
    print_lines([("Artifact", name), ("Path", fetched.path), ("Size", fetched.size_bytes), ("Message", note)])


def _show(found: Sequence[Artifact], output: Output, *, quiet: bool = False) -> None:
    if output.is_data:
        from msgspec.structs import asdict

        print_data(output, [asdict(artifact) for artifact in found])
        return
    if quiet:
        print_each(artifact.name for artifact in found)
        return
    for artifact in found:
        typer.echo(printable(f"{artifact.name} {artifact.kind} {artifact.size_bytes}B"))
    if not found:
        typer.echo("No artifacts.")
