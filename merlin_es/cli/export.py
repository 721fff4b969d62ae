"""`merlin ray export`: a run for other tools, for another state root, or as a page to read."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from merlin_es.cli.printing import (
    Output,
    OutputOption,
    QuietOption,
    print_data,
    print_each,
    print_lines,
    require_path,
    settings,
)
from merlin_es.cli.progress import working

if TYPE_CHECKING:
    from merlin_es.cli.shapes import ExportedRun
    from merlin_es.exports import Exported, Exports


class Format(StrEnum):
    """What to write."""

    CLOUDEVENTS = "cloudevents"
    HTML = "html"
    TAR = "tar"


_SUFFIXES = {Format.CLOUDEVENTS: "jsonl", Format.HTML: "html", Format.TAR: "tar"}
STDOUT = "-"


def export(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")],
    format_: Annotated[Format, typer.Option("--format", help="Events, a page, or a bundle for `import`.")] = Format.TAR,
    to: Annotated[
        str | None, typer.Option(metavar="PATH", help="A file, or - for stdout [default: RUN.tar …].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a run to one file.

    `cloudevents`: its events as CloudEvents 1.0, one a line. `tar`: its log, the files folded from it and the blobs
    that it names, for `merlin ray import`; the same run gives the same bytes. `html`: a page that needs nothing else,
    with a slider over the time, what each event changed, and the chain checked by whoever opens it.
    """
    from merlin_es import bootstrap

    if to is not None:
        require_path(to, "--to")
    where = settings(context)
    bootstrap.ledger(where).run(run)
    exports = bootstrap.exports(where)
    if to == STDOUT:
        exported = _write(exports, run, format_, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        _warn(exported)
        return
    path = Path(f"{run}.{_SUFFIXES[format_]}" if to is None else to).absolute()
    with working(f"exporting {run}", quiet=quiet):
        exported = _write_file(exports, run, format_, path, force=force)
    _warn(exported)
    size = path.stat().st_size
    if output.is_data:
        shown: ExportedRun = {
            "run_id": run,
            "path": str(path),
            "size_bytes": size,
            "head": str(exported.head),
            "events": exported.events,
            "blobs": exported.blobs,
            "missing_blobs": list(exported.missing),
        }
        print_data(output, shown)
        return
    if quiet:
        print_each([path])
        return
    print_lines([("Run ID", run), ("Path", path), ("Size", f"{size}B"), ("Head", exported.head)])
    print_lines([("Events", exported.events), ("Blobs", exported.blobs if format_ == Format.TAR else None)])


def _write(exports: Exports, run: str, format_: Format, out: BinaryIO) -> Exported:
    match format_:
        case Format.CLOUDEVENTS:
            return exports.cloudevents(run, out)
        case Format.HTML:
            return exports.html(run, out)
        case Format.TAR:
            return exports.tar(run, out)


def _write_file(exports: Exports, run: str, format_: Format, path: Path, *, force: bool) -> Exported:
    """Write beside the place and rename, so that half a file is never taken for one."""
    from merlin_es.errors import Refused

    if path.exists() and not force:
        raise Refused(f"{path} is there already: give another --to, or --force to replace it")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as out:
            exported = _write(exports, run, format_, out)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return exported


def _warn(exported: Exported) -> None:
    for digest in exported.missing:
        typer.echo(f"merlin: blob {digest} is not in the store as its name says, and so not in there", err=True)
