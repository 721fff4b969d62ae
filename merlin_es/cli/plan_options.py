"""What do the verbs of `merlin targetgen` take alike: which spec, into which directory, for whom?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import printable, require_path, settings

if TYPE_CHECKING:
    from merlin_es.targetgen.inputs import Inputs

OUT_DIR = "build/generated/targetgen"

Capability = Annotated[str | None, typer.Argument(metavar="[CAPABILITY]", help="A capability spec, a YAML file.")]
Example = Annotated[str | None, typer.Option(metavar="NAME", help="A spec that comes with Merlin, instead of a path.")]
Overlay = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="A deployment overlay; with --example also the name of one of its own."),
]
OutDir = Annotated[str, typer.Option(metavar="PATH", help="Where target directories lie, from the workspace.")]
FromDir = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="A target directory, whose own inputs are used when no spec is given."),
]
Backend = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who is prompted: none, manualllm or provider [default: manualllm].")
]
Agent = Annotated[str | None, typer.Option(metavar="NAME", help="Which agent the prompts are for.")]
PromptsDir = Annotated[str | None, typer.Option(metavar="PATH", help="Where prompts lie, from the workspace.")]
TargetDir = Annotated[str, typer.Option(metavar="PATH", help="The directory of the execution, from the workspace.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while somebody else executes there.")]


def read_inputs(
    capability: str | None, example: str | None, overlay: str | None, from_dir: Path | None = None
) -> Inputs:
    """Read the spec and the overlay that were asked for, by path, as an example, or as a target directory has them."""
    from merlin_es.errors import Usage
    from merlin_es.targetgen import inputs

    if capability is not None and example is not None:
        raise Usage("there are a path and --example: give one of them")
    cwd = here()
    if example is not None:
        own = inputs.example_overlay(example, overlay) if overlay else None
        return inputs.read(
            inputs.example(example), own or (inputs.typed(overlay, cwd) if overlay is not None else None)
        )
    if capability is not None:
        return inputs.read(inputs.typed(capability, cwd), None if overlay is None else inputs.typed(overlay, cwd))
    if from_dir is None:
        names = ", ".join(inputs.example_names())
        raise Usage(f"there is no capability spec: give the path of one, or --example with one of {names}")
    return inputs.snapshot(from_dir, None if overlay is None else inputs.typed(overlay, cwd))


def here() -> Path:
    """Return the current directory; raises Usage where there is none any more."""
    from merlin_es.errors import Usage

    try:
        return Path.cwd()
    except OSError as error:
        raise Usage(f"the current directory cannot be entered ({error.strerror}): change to another one") from None


def below(context: typer.Context, path: str, option: str) -> Path:
    """Return a directory that is taken from the workspace."""
    from merlin_es.targetgen.inputs import typed

    require_path(path, option)
    return typed(path, settings(context).workspace).path


def say(notes: list[str] | tuple[str, ...]) -> None:
    """Tell people what is no error and should be looked at."""
    for note in notes:
        typer.echo(printable(f"note: {note}"), err=True)
