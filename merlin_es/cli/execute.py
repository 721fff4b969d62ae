"""`merlin targetgen execute`: a plan is carried out, here or on Ray, as far as it goes without anybody's word."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.execution import OUTCOMES, planned
from merlin_es.cli.lease_options import lease_wish
from merlin_es.cli.plan_options import (
    OUT_DIR,
    Agent,
    Backend,
    Example,
    FromDir,
    OutDir,
    Overlay,
    PromptsDir,
    Wait,
    below,
    say,
)
from merlin_es.cli.printing import (
    Output,
    OutputOption,
    QuietOption,
    is_dry_run,
    print_data,
    print_each,
    print_lines,
    require_path,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merlin_es.redaction import Rules
    from merlin_es.settings import Settings
    from merlin_es.targetgen.blueprint import Blueprint
    from merlin_es.targetgen.bundle import ExecutionBundle
    from merlin_es.targetgen.executor import Executor
    from merlin_es.targetgen.target_dir import TargetDirectory
    from projections.execution_state import ExecutionState
    from projections.lease_wish import LeaseWish

WAITING = ("awaiting_operator", "awaiting_response")
LIMIT_S = 3600.0


def execute(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CAPABILITY] [TASK]", help="A capability spec; after --retry, the task to retry."),
    ] = None,
    example: Example = None,
    overlay: Overlay = None,
    from_dir: FromDir = None,
    out_dir: OutDir = OUT_DIR,
    prompt_backend: Backend = None,
    agent: Agent = None,
    agent_command: Annotated[
        str | None,
        typer.Option(metavar="CMD", help="With the backend provider: a command with {prompt_file} {response_file}."),
    ] = None,
    prompts_dir: PromptsDir = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is there, and begin nothing.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Take up again what is blocked or has failed: TASK, or all of it.")
    ] = False,
    reconsider: Annotated[
        bool, typer.Option("--reconsider", help="With --retry: ask again what is to be done with a proposal.")
    ] = False,
    lease: Annotated[
        str | None, typer.Option(metavar="KEY", help="The resource whose lease, held by this run, is the device.")
    ] = None,
    lease_any: Annotated[
        str | None, typer.Option(metavar="LABEL=VALUE", help="With the engine ray: any resource with that label.")
    ] = None,
    wait: Wait = False,
    validate: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=CMD", help="What proves the work of a task, in place of the plan's commands."),
    ] = None,
    validation_limit: Annotated[float, typer.Option(min=1, help="Seconds for each validation command.")] = LIMIT_S,
    agent_limit: Annotated[float, typer.Option(min=1, help="Seconds for each packet that an agent answers.")] = LIMIT_S,
    engine: Annotated[str, typer.Option(metavar="NAME", help="Where: local, or ray for a run of its own.")] = "local",
    ray_state_root: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where Merlin keeps its runs [default: as `merlin ray` has it].")
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="In place of `conda run -n merlin-dev uv run` [env: MERLIN_LAUNCHER]."),
    ] = None,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Carry a plan out, as far as it goes without anybody's word.

    Exit codes: 0 completed, 5 blocked, 17 a question waits for an answer, 18 a prompt waits for a response. With
    `--engine ray`: 0 submitted, 5 blocked, 11 refused by Ray for good.
    """
    from merlin_es import bootstrap
    from merlin_es.settings import launcher as configured_launcher
    from merlin_es.targetgen import answers
    from merlin_es.targetgen.executor import Limits

    where = _settings(context, engine, ray_state_root, lease_any)
    chosen = _validations(validate or [])
    _require_no_secrets(chosen, bootstrap.secret_rules(where))
    capability, task_id = _meant(words or [], retry=retry)
    given = None if from_dir is None else below(context, from_dir, "--from-dir")
    directory, plan = given, None
    if capability is not None or example is not None or given is None:
        directory, plan = planned(
            context, capability, example, overlay, given, out_dir, prompt_backend, agent, prompts_dir
        )
    assert directory is not None  # noqa: S101  one of the two gave it
    place = bootstrap.target_directory(where, directory)
    limits = Limits(validation_limit, agent_limit)
    words_before = configured_launcher(launcher, os.environ, where.workspace)
    executor = bootstrap.executor(
        where, place, os.environ, limits=limits, agent_command=agent_command, launcher=words_before
    )
    if resume or plan is None:
        place.prepared()
    dry_run = is_dry_run(context)
    if dry_run and engine == "local":
        _preview(place, executor, plan, lease, output)
        return
    if not dry_run:
        with place.executing(wait=wait):
            _take_over(
                place,
                plan,
                prompt_backend,
                None if prompts_dir is None else below(context, prompts_dir, "--prompts-dir"),
            )
            for task, commands in chosen.items():
                place.change(partial(answers.choose_validation, task, commands))
            if retry:
                place.change(lambda state: answers.retry(task_id, state, reconsider=reconsider))
            state = executor.execute(lease) if engine == "local" else executor.deliver()
    if engine == "ray":
        bundle = plan.bundle if plan else place.bundle(place.prepared())
        options = _given(
            {
                "--lease": lease,
                "--agent-command": agent_command,
                "--launcher": launcher,
                "--validation-limit": None if validation_limit == LIMIT_S else f"{validation_limit:g}",
                "--agent-limit": None if agent_limit == LIMIT_S else f"{agent_limit:g}",
            }
        )
        leases = lease_wish((lease,) if lease else (), lease_any, where.actor)
        _submit(where, directory, bundle, words_before, options, leases, output, dry_run=dry_run, quiet=quiet)
        return
    _print_execution(state, directory, output, quiet=quiet)
    raise typer.Exit(0 if where.stops_in_order and state.outcome in WAITING else OUTCOMES[state.outcome])


def _settings(context: typer.Context, engine: str, state_root: str | None, lease_any: str | None) -> Settings:
    """Give the settings of a call that may submit a run."""
    from merlin_es.errors import Usage

    if engine not in ("local", "ray"):
        raise Usage(f"there is no engine {engine!r}: give local or ray")
    if lease_any is not None and engine == "local":
        raise Usage("--lease-any is for the engine ray: here, `merlin ray resources hold --any … -- COMMAND` holds one")
    if state_root is not None:
        require_path(state_root, "--ray-state-root")
        context.obj = (context.obj[0], Path(state_root))
    return settings(context)


def _validations(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read `TASK=CMD` options; those of one task are run in the order in which they were given."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        task, equals, command = text.partition("=")
        if not equals or not task.strip() or not command.strip():
            raise typer.BadParameter(f"{text!r} is not TASK=CMD", param_hint="--validate")
        found[task.strip()] = (*found.get(task.strip(), ()), command.strip())
    return found


def _require_no_secrets(chosen: Mapping[str, Sequence[str]], rules: Rules) -> None:
    """Refuse a command that cannot be recorded as it is and be run later."""
    from merlin_es.errors import Usage

    for task, commands in chosen.items():
        if any(rules.clean(command) != command for command in commands):
            raise Usage(
                f"--validate {task} has a secret in it, and what validates is recorded: have the command read it from "
                "a file"
            )


def _given(options: dict[str, str | None]) -> list[str]:
    """Give the words of those options that were given."""
    return [word for name, value in options.items() if value is not None for word in (name, value)]


def _submit(
    where: Settings,
    directory: Path,
    bundle: ExecutionBundle,
    launcher: str | None,
    options: Sequence[str],
    leases: LeaseWish | None,
    output: Output,
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Have Ray execute what lies in a target directory, and print what came of it."""
    from merlin_es import bootstrap, run_ids
    from merlin_es.cli.jobs import OUTCOMES as RUNS
    from merlin_es.targetgen import on_ray

    wish = on_ray.wish(
        run_ids.new_run_id(run_ids.check_target(bundle.target), bootstrap.now()),
        directory,
        target=bundle.target,
        prompt_backend=bundle.prompt_backend,
        workflow=bundle.workflow,
        settings=where,
        variables=os.environ,
        launcher=launcher,
        options=options,
        leases=leases,
    )
    record = bootstrap.build(where).submit(wish, dry_run=dry_run)
    if output.is_data:
        from projections.projection import run_json

        print_data(output, {**run_json(record), "engine": "ray", "ray_state_root": str(where.state_root)})
    elif quiet:
        print_each([record.run_id])
    else:
        print_lines(
            [
                ("Submitted target", bundle.target),
                ("Engine", "ray"),
                ("Run ID", record.run_id),
                ("Run status", record.status),
                ("Submission ID", record.attempt.submission_id if record.attempt else None),
                ("Message", record.message),
                ("Target directory", directory),
                ("Ray state root", where.state_root),
            ]
        )
    raise typer.Exit(RUNS[record.status] if record.status in ("blocked", "error") else 0)


def _meant(words: Sequence[str], *, retry: bool) -> tuple[str | None, str | None]:
    """Tell the spec from the task that is to be retried: a task is no file."""
    from merlin_es.errors import Usage

    tasks = [word for word in words if retry and not Path(word).exists()]
    specs = [word for word in words if word not in tasks]
    if len(tasks) > 1 or len(specs) > 1:
        raise Usage("there are too many words: give one CAPABILITY and, with --retry, one TASK")
    return (specs[0] if specs else None), (tasks[0] if tasks else None)


def _take_over(place: TargetDirectory, plan: Blueprint | None, backend: str | None, prompts_dir: Path | None) -> None:
    """Record the plan as it is now; without one, who answers the prompts and where they lie may change all the same."""
    from merlin_es.targetgen import answers
    from merlin_es.targetgen.blueprint import relocated, store

    if plan is not None:
        event = store(plan, place.blobs, place.path)
        place.change(lambda state: answers.resume(event, state))
        return
    if prompts_dir is not None:
        place.change(lambda state: answers.resume(relocated(state, place, prompts_dir), state))
    if backend is not None:
        place.change(lambda state: answers.switch(backend, state))


def _preview(
    place: TargetDirectory, executor: Executor, plan: Blueprint | None, lease: str | None, output: Output
) -> None:
    """Say what `execute` would do first."""
    from merlin_es.cli import standing
    from merlin_es.targetgen import answers
    from merlin_es.targetgen.blueprint import outline
    from projections.events.recorded import Recorded
    from projections.execution import evolve

    state = place.state()
    bundle = place.bundle(state) if plan is None else plan.bundle
    for event in () if plan is None else answers.resume(outline(plan, place.path), state):
        state = evolve(state, Recorded(state.seq + 1, "", "", "", event))
    act = executor.preview(state, bundle, lease)
    document = standing.documents(state, {"tasks": []}).state
    if output.is_data:
        found = {"step": act.step, "task": act.task_id} if act else None
        print_data(output, {**standing.summary(document, place.path), "next_step": found})
        return
    print_lines(standing.lines(document, place.path))
    print_lines([("Next step", f"{act.step} {act.task_id}" if act else "none, it waits")])


def _print_execution(state: ExecutionState, directory: Path, output: Output, *, quiet: bool) -> None:
    from merlin_es.cli import standing

    found = standing.documents(state, {"tasks": []})
    if output.is_data:
        print_data(output, standing.summary(found.state, directory))
        return
    if quiet:
        print_each([found.state["outcome"]])
        return
    print_lines(standing.lines(found.state, directory))
    say(tuple(standing.advice(*found, directory)))
