"""`merlin ray verify`: whether what was recorded is there, as it was recorded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, OutputOption, QuietOption, print_data, settings
from merlin_es.cli.progress import watched
from merlin_es.cli.terminal import Screen, screen
from merlin_es.counts import counted

if TYPE_CHECKING:
    from eventlog.names import Head
    from merlin_es.cli.shapes import StreamProof
    from merlin_es.custody import Proof

DIVERGED, DAMAGED = 4, 7


def verify(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[RUN|STREAM]", help="What to prove [default: all].")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every stream, and that no run is missing.")] = False,
    expect: Annotated[
        str | None, typer.Option(metavar="SEQ:H", help="A head noted earlier, which must be in it.")
    ] = None,
    fold: Annotated[bool, typer.Option("--fold", help="Also replay, and compare with the checkpoints.")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Prove that logs are what was written, line by line, and that no run is gone that the registry has.

    Exit code 7 when something is not as it was recorded, 4 when only a replay comes to something else.
    """
    from merlin_es import bootstrap
    from merlin_es.custody import DAMAGED as BAD
    from merlin_es.errors import Usage

    if name is not None and all_:
        raise Usage("name one run or stream, or give --all: not both")
    if expect is not None and name is None:
        raise Usage("--expect is the head of one stream: name the run or the stream that it was noted of")
    custody = bootstrap.custody(settings(context))
    if name is None:
        proofs = list(watched("verifying", custody.verify_all(fold=fold), quiet=quiet))
    else:
        proofs = [custody.verify(name, expect=_head(expect), fold=fold)]
    if output.is_data:
        print_data(output, [_as_json(proof) for proof in proofs])
    else:
        shown = screen()
        for proof in proofs:
            if not quiet or proof.state != "whole":
                _print(shown, proof)
        counted = Counter(proof.state for proof in proofs)
        if not quiet:
            typer.echo(", ".join(f"{number} {state}" for state, number in sorted(counted.items())) or "No streams.")
    if any(proof.state in BAD for proof in proofs):
        raise typer.Exit(DAMAGED)
    if any(proof.state == "diverged" for proof in proofs):
        raise typer.Exit(DIVERGED)


def _head(text: str | None) -> Head | None:
    from eventlog.errors import Invalid
    from eventlog.names import Head
    from merlin_es.errors import Usage

    try:
        return None if text is None else Head.parse(text)
    except Invalid:
        raise Usage(f"{text!r} is not a head: give it as SEQ:H, as `merlin ray head RUN` prints it") from None


def _print(shown: Screen, proof: Proof) -> None:
    parts = [f"{proof.state:<9} {proof.stream}"]
    if proof.head:
        parts += [counted(proof.head.seq, "event"), counted(proof.size, "byte"), f"head {proof.head}"]
    if proof.noted:
        parts.append(f"noted at {proof.noted.seq}")
    if proof.checkpoints is not None:
        parts.append(counted(proof.checkpoints, "checkpoint"))
    shown.show(*parts)
    if proof.why:
        shown.show(proof.why, indent=10)


def _as_json(proof: Proof) -> StreamProof:
    return {
        "stream": proof.stream,
        "state": proof.state,
        "head": str(proof.head) if proof.head else None,
        "size_bytes": proof.size,
        "noted": str(proof.noted) if proof.noted else None,
        "checkpoints": proof.checkpoints,
        "why": proof.why,
    }
