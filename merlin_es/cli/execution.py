"""`merlin targetgen`: orchestrate, answer, status, rebuild; `execute` is a module of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.plan_options import (
    OUT_DIR,
    Agent,
    Backend,
    Capability,
    Example,
    OutDir,
    Overlay,
    PromptsDir,
    TargetDir,
    Wait,
    below,
    read_inputs,
)
from merlin_es.cli.printing import (
    Output,
    OutputOption,
    QuietOption,
    is_dry_run,
    print_data,
    print_each,
    print_lines,
    printable,
    settings,
)

if TYPE_CHECKING:
    from merlin_es.cli.shapes import PreparedExecution
    from merlin_es.settings import Settings
    from merlin_es.targetgen.blueprint import Blueprint
    from merlin_es.targetgen.executor import Executor
    from merlin_es.targetgen.target_dir import TargetDirectory

OUTCOMES = {"completed": 0, "blocked": 5, "awaiting_operator": 17, "awaiting_response": 18}
"""The exit codes of `execute`."""


def orchestrate(
    context: typer.Context,
    capability: Capability = None,
    example: Example = None,
    overlay: Overlay = None,
    out_dir: OutDir = OUT_DIR,
    prompt_backend: Backend = None,
    agent: Agent = None,
    prompts_dir: PromptsDir = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Begin anew where there is progress; what happened stays in the log.")
    ] = False,
    wait: Wait = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Prepare the execution of a plan: bundle, briefs and prompts."""
    from merlin_es import bootstrap
    from merlin_es.targetgen import answers
    from merlin_es.targetgen.blueprint import outline, store

    where = settings(context)
    directory, plan = planned(context, capability, example, overlay, None, out_dir, prompt_backend, agent, prompts_dir)
    place = bootstrap.target_directory(where, directory)
    answers.prepare(outline(plan, directory), place.state(), reset=reset)  # What is refused leaves nothing behind.
    if not is_dry_run(context):
        with place.executing(wait=wait):
            event = store(plan, place.blobs, directory)
            place.change(lambda state: answers.prepare(event, state, reset=reset))
            _executor(where, place).deliver()
    bundle, state_file = plan.bundle, directory / "execution_state.json"
    packet_lines: list[tuple[str, object]] = [
        ("Prompt packet count", len(plan.packets)),
        ("Prompts directory", bundle.prompts_dir),
    ]
    if output.is_data:
        shown: PreparedExecution = {
            "target": bundle.target,
            "workflow": bundle.workflow,
            "prompt_backend": bundle.prompt_backend,
            "brief_count": len(plan.briefs),
            "execution_state_file": str(state_file),
            "prompt_packet_count": len(plan.packets),
            "prompts_directory": bundle.prompts_dir,
            "output_directory": str(directory),
        }
        print_data(output, shown)
        return
    if quiet:
        print_each([directory])
        return
    print_lines(
        [
            ("Prepared execution bundle for", bundle.target),
            ("Workflow", bundle.workflow),
            ("Prompt backend", bundle.prompt_backend),
            ("Brief count", len(plan.briefs)),
            ("Execution state file", state_file),
            *([] if bundle.prompt_backend == "none" else packet_lines),
            ("Output directory", directory),
        ]
    )


def answer(
    context: typer.Context,
    target_dir: TargetDir = ...,  # type: ignore[assignment]  # required
    question_id: Annotated[str, typer.Option(metavar="ID", help="The question, as `status` lists it.")] = ...,  # type: ignore[assignment]  # required
    choice: Annotated[str, typer.Option(metavar="OPTION", help="One of its options.")] = ...,  # type: ignore[assignment]  # required
    output: OutputOption = Output.TEXT,
) -> None:
    """Answer a question of an execution, also while somebody executes; the next step applies it."""
    from merlin_es import bootstrap
    from merlin_es.targetgen import answers

    directory = below(context, target_dir, "--target-dir")
    place = bootstrap.target_directory(settings(context), directory)
    state, command = place.prepared(), answers.AnswerRequest(question_id, choice)
    if is_dry_run(context):
        answers.answer(command, state)
    else:
        state = place.change(lambda now: answers.answer(command, now))
    if output.is_data:
        from projections.execution_files import request_json

        print_data(
            output, {**request_json(state.requests[question_id], state.target), "target_directory": str(directory)}
        )
        return
    print_lines([("Answered request", question_id), ("Selected option", choice), ("Target directory", directory)])


def status(
    context: typer.Context,
    target_dir: TargetDir = ...,  # type: ignore[assignment]  # required
    output: OutputOption = Output.TEXT,
) -> None:
    """Say where an execution stands, and which questions are open."""
    from merlin_es.cli import standing
    from projections import fresh

    directory = below(context, target_dir, "--target-dir")
    found = fresh.read_execution(directory)
    if found is None:
        from merlin_es import bootstrap

        place = bootstrap.target_directory(settings(context), directory)
        state = place.prepared()
        found = standing.documents(state, place.bundle_document(state.bundle_sha256))
    if output.is_data:
        print_data(output, {**standing.summary(found.state, directory), "requests": found.requests})
        return
    for line in standing.status_lines(*found):
        typer.echo(printable(line) if line else "")


def rebuild(
    context: typer.Context,
    target_dir: TargetDir = ...,  # type: ignore[assignment]  # required
    check: Annotated[bool, typer.Option("--check", help="Only say what differs; exit code 4 if any does.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write every state file of an execution anew from its log."""
    from merlin_es import bootstrap
    from merlin_es.cli.rebuild import print_verdicts

    place = bootstrap.target_directory(settings(context), below(context, target_dir, "--target-dir"))
    place.prepared()
    check = check or is_dry_run(context)
    print_verdicts(place.rebuild(check=check), output, check=check)


def planned(
    context: typer.Context,
    capability: str | None,
    example: str | None,
    overlay: str | None,
    directory: Path | None,
    out_dir: str,
    backend: str | None,
    agent: str | None,
    prompts_dir: str | None,
) -> tuple[Path, Blueprint]:
    """Plan what was asked for, and say in which directory it is executed: always that of the target's name."""
    from merlin_es import bootstrap
    from merlin_es.targetgen import orchestration

    where = settings(context)
    inputs = read_inputs(capability, example, overlay)
    directory = directory or below(context, out_dir, "--out-dir") / inputs.capability.identity.name
    prompts = None if prompts_dir is None else below(context, prompts_dir, "--prompts-dir")
    known = bootstrap.target_directory(where, directory).state()
    if prompts is None and known.prompts_dir is not None:
        prompts = Path(known.prompts_dir)
    backend = backend or known.prompt_backend or "manualllm"
    return directory, orchestration.blueprint(inputs, backend, agent, prompts, directory, where.workspace)


def _executor(where: Settings, place: TargetDirectory) -> Executor:
    from merlin_es import bootstrap
    from merlin_es.targetgen.executor import Limits

    return bootstrap.executor(where, place, os.environ, limits=Limits())
