"""What does `merlin targetgen` take? A capability spec, and what is to be made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merlin_es.cli.plan_options import OUT_DIR, Capability, Example, FromDir, OutDir, Overlay, below, read_inputs, say
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
from merlin_es.cli.verbs import Verbs

if TYPE_CHECKING:
    from merlin_es.cli.shapes import PlannedTarget, ValidSpec
    from merlin_es.targetgen.inputs import Inputs

app = Verbs("Plan a new hardware target, and carry the plan out.")


@app.callback()
def targetgen(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")] = False,
) -> None:
    """Plan a new hardware target, and carry the plan out."""
    context.obj = (dry_run, None)


@app.command()
def validate(
    context: typer.Context,
    capability: Capability = None,
    example: Example = None,
    overlay: Overlay = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say all that is wrong with a spec at once."""
    from merlin_es.targetgen import planning
    from merlin_es.targetgen.inputs import missing, named_paths

    inputs = read_inputs(capability, example, overlay)
    plan = planning.plan(inputs.capability, inputs.overlay)
    absent = missing(named_paths(plan), settings(context).workspace)
    name = inputs.overlay.name if inputs.overlay else None
    if output.is_data:
        shown: ValidSpec = {"target": plan.target, "overlay": name, "notes": list(plan.notes), "missing_paths": absent}
        print_data(output, shown)
        return
    print_lines([("Validated capability spec", plan.target), ("Validated deployment overlay", name)])
    say([*plan.notes, *([f"not in this workspace: {', '.join(absent)}"] if absent else [])])


@app.command()
def plan(
    context: typer.Context,
    capability: Capability = None,
    example: Example = None,
    overlay: Overlay = None,
    out_dir: OutDir = OUT_DIR,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Derive the plan of a target, and its tasks."""
    from merlin_es.targetgen import outputs, planning

    inputs = read_inputs(capability, example, overlay)
    made = planning.plan(inputs.capability, inputs.overlay)
    directory = below(context, out_dir, "--out-dir") / made.target
    files = made.files()
    if not is_dry_run(context):
        outputs.write(directory, files)
        outputs.remove_optional(directory, planning.OPTIONAL, files)
    if output.is_data:
        shown: PlannedTarget = {
            "target": made.target,
            "primary_integration": made.classification.primary,
            "task_count": len(made.tasks),
            "output_directory": str(directory),
            "files": sorted(files),
            "notes": list(made.notes),
        }
        print_data(output, shown)
        return
    if quiet:
        print_each([directory])
        return
    print_lines(
        [
            ("Planned target", made.target),
            ("Primary integration", made.classification.primary),
            ("Task count", len(made.tasks)),
            ("Output directory", directory),
        ]
    )
    say(made.notes)


@app.command()
def generate(
    context: typer.Context,
    capability: Capability = None,
    example: Example = None,
    overlay: Overlay = None,
    out_dir: OutDir = OUT_DIR,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Lay out the files that a target begins with.

    Each lies in the tree where it would lie in the repository.
    """
    from merlin_es.targetgen import generation

    inputs = read_inputs(capability, example, overlay)
    directory = below(context, out_dir, "--out-dir") / inputs.capability.identity.name
    made = _generated(context, inputs, directory, is_staged=False)
    written: list[tuple[str, object]] = [
        ("Generated scaffold files", made["scaffold_files"]),
        ("Generated root", directory / generation.TREE),
        ("Generation summary", directory / "generation_summary.md"),
    ]
    if output.is_data:
        print_data(output, {**made, "output_directory": str(directory)})
        return
    if quiet:
        print_each([directory])
        return
    print_lines(
        [
            ("Generated target scaffold", made["target"]),
            ("Primary integration", made["primary_integration"]),
            *([] if is_dry_run(context) else written),
            ("Output directory", directory),
        ]
    )
    say(made["notes"])


@app.command("stage-mutation")
def stage_mutation(
    context: typer.Context,
    capability: Capability = None,
    example: Example = None,
    overlay: Overlay = None,
    from_dir: FromDir = None,
    out_dir: OutDir = OUT_DIR,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Lay out what would be proposed as a change.

    Nothing of the repository is changed.
    """
    from merlin_es.targetgen import generation

    given = None if from_dir is None else below(context, from_dir, "--from-dir")
    inputs = read_inputs(capability, example, overlay, given)
    directory = given or below(context, out_dir, "--out-dir") / inputs.capability.identity.name
    made = _generated(context, inputs, directory, is_staged=True)
    written: list[tuple[str, object]] = [
        ("Mutation candidates", made["mutation_candidates"]),
        ("Proposed branch", made["branch_name"]),
        ("Proposed tree", directory / generation.PROPOSED),
        ("Proposal brief", directory / "mutation" / "proposal_brief.md"),
    ]
    if output.is_data:
        print_data(output, {**made, "target_directory": str(directory)})
        return
    if quiet:
        print_each([directory])
        return
    print_lines(
        [
            ("Staged mutation bundle for", made["target"]),
            ("Mode", "non-live"),
            *([] if is_dry_run(context) else written),
            ("Target directory", directory),
        ]
    )
    say(made["notes"])


@app.command()
def explain(
    capability: Capability = None,
    example: Example = None,
    overlay: Overlay = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say on a page what is planned for a target."""
    from merlin_es.targetgen import planning
    from merlin_es.targetgen.explanation import explanation

    inputs = read_inputs(capability, example, overlay)
    made = planning.plan(inputs.capability, inputs.overlay)
    if output.is_data:
        documents = made.as_json()
        print_data(
            output, {**documents["support_plan.json"], "tasks": documents["task_graph.json"], "notes": list(made.notes)}
        )
        return
    for line in explanation(made):
        typer.echo(printable(line))
    say(made.notes)


app.functions_in("merlin_es.cli.execution", "orchestrate")
app.function_in("merlin_es.cli.execute")
app.functions_in("merlin_es.cli.execution", "answer", "status", "rebuild")


def _generated(context: typer.Context, inputs: Inputs, directory: Path, *, is_staged: bool) -> dict[str, Any]:
    """Write a scaffold, and a proposal when it is to be staged, and return what was written."""
    from merlin_es.targetgen import generation, outputs, planning, scaffold
    from merlin_es.targetgen.inputs import existing

    made = planning.plan(inputs.capability, inputs.overlay)
    kept = existing(scaffold.views_in_the_repository(made), settings(context).workspace)
    files = scaffold.scaffold(made, kept)
    proposed = generation.proposed_files(made, files, str(directory)) if is_staged else {}
    all_files = {**generation.generated_files(made, files, inputs.snapshot, str(directory)), **proposed}
    edited: list[str] = []
    if not is_dry_run(context):
        edited = outputs.write_generation(directory, all_files)
        outputs.remove_optional(directory, generation.OPTIONAL, all_files)
    return {
        "target": made.target,
        "primary_integration": made.classification.primary,
        "scaffold_files": len(files),
        **(
            {"mutation_candidates": len(generation.candidates(made, files)), "branch_name": generation.branch(made)}
            if is_staged
            else {}
        ),
        "files": sorted(all_files),
        "notes": [
            *made.notes,
            *(f"{name} is of an earlier spec and was edited: it stays; remove it by hand" for name in edited),
        ],
    }
