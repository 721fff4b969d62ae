"""`merlin ray jobs`: submit, status, list, logs, cancel, wait, retry."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.lease_options import lease_wish
from merlin_es.cli.printing import (
    CLOCK_WENT_BACK,
    AtOption,
    Output,
    OutputOption,
    QuietOption,
    as_amounts,
    as_pairs,
    as_path,
    is_dry_run,
    print_data,
    print_each,
    print_lines,
    print_table,
    require_earnest,
    settings,
)
from merlin_es.cli.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merlin_es.app import Merlin
    from merlin_es.settings import Settings
    from projections.run_record import RunRecord

app = Verbs("Runs: commands that Ray executes and Merlin records.")

OUTCOMES = {"completed": 0, "dry_run": 0, "failed": 8, "cancelled": 9, "lost": 10, "error": 11, "blocked": 5}
"""The exit codes of `wait` and `submit --wait`; 12 when the time is over."""
TIME_OVER = 12

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")]


@app.command()
def submit(
    context: typer.Context,
    argv: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD…]", help="The command, word by word.")] = None,
    target: Annotated[str, typer.Option(help="The target that the run belongs to.")] = ...,  # type: ignore[assignment]  # required
    workflow: Annotated[str, typer.Option(help="What kind of work it is.")] = ...,  # type: ignore[assignment]  # required
    target_dir: Annotated[str, typer.Option(metavar="PATH", help="Where the command leaves its artifacts.")] = ...,  # type: ignore[assignment]  # required
    command: Annotated[str | None, typer.Option(help="The command as one text, split as a shell would.")] = None,
    source: Annotated[str, typer.Option(help="Who or what asks.")] = "manual_cli",
    workdir: Annotated[str | None, typer.Option(metavar="PATH", help="Where the command runs [default: here].")] = None,
    env: Annotated[list[str] | None, typer.Option(help="K=V for the command; no secret is recorded.")] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="CPUs that Ray sets aside.")] = 1.0,
    gpus: Annotated[float | None, typer.Option(min=0, help="GPUs that Ray sets aside.")] = None,
    resource: Annotated[list[str] | None, typer.Option(help="NAME=AMOUNT of a custom resource.")] = None,
    label_selector: Annotated[list[str] | None, typer.Option(help="K=V that a machine must have.")] = None,
    working_dir: Annotated[
        str | None, typer.Option(metavar="PATH", help="Upload this directory and run in the copy.")
    ] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="K=V to record with the run.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again gives the same run.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Seconds that the command may run.")] = None,
    stop_grace: Annotated[float, typer.Option(min=0, help="Seconds from SIGTERM to SIGKILL.")] = 3.0,
    retries: Annotated[int, typer.Option(min=0, max=99, help="More attempts, where repeating is safe.")] = 0,
    retry_on_failure: Annotated[bool, typer.Option("--retry-on-failure", help="Also when the command fails.")] = False,
    capture: Annotated[list[str] | None, typer.Option(help="GLOB of artifacts whose bytes are kept.")] = None,
    lease: Annotated[list[str] | None, typer.Option(help="KEY that the run holds while it goes on.")] = None,
    lease_any: Annotated[str | None, typer.Option(metavar="LABEL=VALUE", help="Any key with that label.")] = None,
    lease_count: Annotated[int, typer.Option(min=1, max=1000, help="How many of them.")] = 1,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Its place in line for these keys.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run, and end with its outcome.")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Have Ray run a command, and record it; returns as soon as Ray has taken it."""
    from merlin_es import bootstrap, run_ids
    from merlin_es.commands import SubmitRun

    where = settings(context)
    words = command_of(command, argv)
    wish = SubmitRun(
        run_id=run_ids.new_run_id(run_ids.check_target(target), bootstrap.now()),
        target=target,
        workflow=workflow,
        source=source,
        command=words,
        workdir=as_path("." if workdir is None else workdir, "--workdir"),
        target_dir=as_path(target_dir, "--target-dir"),
        metadata=as_pairs(metadata or [], "--metadata"),
        env=as_pairs(env or [], "--env"),
        cpus=cpus,
        gpus=gpus,
        resources=as_amounts(resource or [], "--resource"),
        label_selector=as_pairs(label_selector or [], "--label-selector"),
        working_dir=None if working_dir is None else as_path(working_dir, "--working-dir"),
        timeout_s=timeout,
        stop_grace_s=stop_grace,
        retries_max=retries,
        retry_on_failure=retry_on_failure,
        captures=tuple(capture or ()),
        idempotency_key=idempotency_key,
        traceparent=where.traceparent,
        leases=lease_wish(tuple(lease or ()), lease_any, where.actor, count=lease_count, priority=priority),
    )
    merlin = bootstrap.build(where)
    finish(merlin, merlin.submit(wish, dry_run=is_dry_run(context)), wait=wait, quiet=quiet, output=output)


def finish(merlin: Merlin, record: RunRecord, *, wait: bool, quiet: bool, output: Output) -> None:
    """Say what came of a submission, after the run has ended where that is waited for; raises Exit.

    Who is `quiet` is told the id, and gets the rest by the exit code.
    """
    quiet = quiet and not output.is_data
    if quiet:
        print_each([record.run_id])
    if wait and record.is_active:
        try:
            record = _follow(merlin, record) if output == Output.TEXT and not quiet else merlin.wait(record.run_id)
        except KeyboardInterrupt:
            typer.echo(f"merlin: {record.run_id} goes on: `merlin ray jobs cancel {record.run_id}` ends it", err=True)
            raise
    elif output == Output.TEXT and not quiet:
        _lines_of_submit(record)
    if output.is_data:
        _print(record, output)
    _exit(record, waited=wait)


@app.command()
def status(
    context: typer.Context,
    run: RunId,
    cached: Annotated[bool, typer.Option("--cached", help="Say what is recorded, and ask nobody.")] = False,
    at: AtOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say where a run stands, after one look at Ray when it has not ended; or where it stood, with --at."""
    from merlin_es import view

    if at is not None:
        _show_status_then(settings(context), run, at, output)
        return
    known = view.status(settings(context), run, cached=cached or is_dry_run(context))
    if output.is_data:
        print_data(output, known)
        return
    print_lines(_status_lines(known))


@app.command("list")
def list_(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only runs of this status.")] = None,
    target: Annotated[str | None, typer.Option(help="Only runs of this target.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of this workflow.")] = None,
    source: Annotated[str | None, typer.Option(help="Only runs from this source.")] = None,
    since: Annotated[str | None, typer.Option(help="Only runs since: 2026-11-23, or 90m, 24h, 7d ago.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="As it was then: a time, or '2h ago'.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List runs, the newest first, from the index."""
    from merlin_es.view import runs

    listed = runs(
        settings(context),
        status=status,
        target=target,
        workflow=workflow,
        source=source,
        since=since,
        limit=limit,
        at=at,
    )
    _print_runs(listed.rows, output, quiet=quiet)
    for stream in listed.doubtful:
        typer.echo(f"merlin: {CLOCK_WENT_BACK.format(stream)}", err=True)
    if listed.sick:
        from merlin_es.cli.complaints import complain_of_logs
        from merlin_es.errors import Sick

        complain_of_logs(listed.sick)
        raise typer.Exit(Sick.exit_code)


def _print_runs(rows: Sequence[Mapping[str, object]], output: Output, *, quiet: bool) -> None:
    if output.is_data:
        print_data(output, rows)
        return
    if quiet:
        print_each(row["run_id"] for row in rows)
        return
    if not rows:
        typer.echo("No runs.")
        return
    columns = ("run_id", "status", "workflow", "created_at", "message")
    table = [[" ".join(str(row[column] or "").split()) for column in columns] for row in rows]
    for cells in table:
        cells[3] = cells[3][:19] + "Z"
    print_table(["RUN", "STATUS", "WORKFLOW", "CREATED", "MESSAGE"], table)


@app.command()
def logs(
    context: typer.Context,
    run: RunId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last N lines.")] = None,
) -> None:
    """Print the output of a run, also when the cluster that ran it is gone."""
    from merlin_es import bootstrap

    if follow:
        require_earnest(context)
    merlin = bootstrap.build(settings(context))
    _pour(merlin.follow(run, tail=tail) if follow else merlin.output(run, tail=tail))


@app.command()
def cancel(context: typer.Context, run: RunId, output: OutputOption = Output.TEXT) -> None:
    """Have a run end.

    It is recorded and kept from starting at once; `merlin ray jobs wait` says when it has ended.
    """
    from merlin_es import bootstrap

    require_earnest(context)
    _print_change(bootstrap.build(settings(context)).cancel(run), output)


@app.command()
def retry(context: typer.Context, run: RunId, output: OutputOption = Output.TEXT) -> None:
    """Submit a run that is blocked or lost after all."""
    from merlin_es import bootstrap

    require_earnest(context)
    record = bootstrap.build(settings(context)).retry(run)
    _print_change(record, output)
    _exit(record, waited=False)


@app.command()
def wait(
    context: typer.Context,
    run: RunId,
    timeout: Annotated[float | None, typer.Option("-t", "--timeout", min=0, help="Seconds to wait.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Wait until a run has ended.

    Exit code: 0 completed, 5 blocked, 8 failed, 9 cancelled, 10 lost, 11 error, 12 time over.
    """
    from merlin_es import bootstrap

    require_earnest(context)
    if timeout is not None and math.isnan(timeout):
        raise typer.BadParameter("it is no number", param_hint="--timeout")
    record = bootstrap.build(settings(context)).wait(run, limit_s=timeout)
    _print_change(record, output)
    _exit(record, waited=True)


def command_of(text: str | None, argv: list[str] | None) -> tuple[str, ...]:
    """Give the words to run, which are given as one text or word by word; raises Usage."""
    import shlex

    from merlin_es.errors import Usage

    if (text is None) == (not argv):
        raise Usage("say what to run: either --command 'CMD …', or -- CMD … at the end")
    try:
        words = tuple(shlex.split(text)) if text is not None else tuple(argv or ())
    except ValueError as error:
        raise Usage(
            f"--command cannot be split into words ({error}): close its quotes, or give -- CMD … at the end"
        ) from None
    if not words:
        raise Usage("--command is empty: say what to run")
    return words


def _follow(merlin: Merlin, record: RunRecord) -> RunRecord:
    """Print what the run writes, between what is known of it at first and in the end."""
    from merlin_es.errors import NotFound

    _lines_of_submit(record)
    with suppress(NotFound):  # It rests, and never had any output.
        _pour(merlin.follow(record.run_id))
    record = merlin.status(record.run_id)
    print_lines([("Status", record.status), ("Exit code", record.exit_code), ("Message", record.message)])
    return record


def _pour(chunks: Iterable[bytes]) -> None:
    """Print bytes as they are, each as soon as it is there."""
    for chunk in chunks:
        if sys.stdout is not None:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _lines_of_submit(record: RunRecord) -> None:
    attempt = record.attempt
    print_lines(
        [
            ("Run ID", record.run_id),
            ("Status", record.status),
            ("Workflow", record.request.workflow),
            ("Submission ID", attempt.submission_id if attempt else None),
            ("Cluster address", attempt.cluster_address if attempt else None),
            ("Message", record.message),
        ]
    )


def _show_status_then(where: Settings, run: str, at: str, output: Output) -> None:
    """Print where a run stood."""
    from merlin_es import bootstrap, then
    from merlin_es.cli.chronicle import note
    from merlin_es.moments import said

    known, was = then.status(bootstrap.past(where), run, at)
    note(was.point)
    if output.is_data:
        print_data(output, known)
        return
    print_lines([*_status_lines(known), ("As of", said(was.event))])


def _status_lines(known: Mapping[str, object]) -> list[tuple[str, object]]:
    names = [
        ("Run ID", "run_id"),
        ("Status", "status"),
        ("Workflow", "workflow"),
        ("Target", "target"),
        ("Target dir", "target_dir"),
        ("Submission ID", "submission_id"),
        ("Message", "message"),
        ("Exit code", "exit_code"),
        ("Cancel requested", "cancel_requested_at"),
        ("Stale since", "stale_since"),
    ]
    execution: Mapping[str, object] = known.get("execution") or {}  # type: ignore[assignment]  # as view has it
    of_execution = [("Execution", "outcome"), ("Current task", "current_task"), ("Open question", "open_question_id")]
    return [
        *((name, known.get(key)) for name, key in names),
        *((name, execution.get(key)) for name, key in of_execution),
    ]


def _print_change(record: RunRecord, output: Output) -> None:
    if output.is_data:
        _print(record, output)
    else:
        print_lines([("Run ID", record.run_id), ("Status", record.status), ("Message", record.message)])


def _print(record: RunRecord, output: Output) -> None:
    from projections.projection import run_json

    print_data(output, run_json(record))


def _exit(record: RunRecord, *, waited: bool) -> None:
    code = (
        OUTCOMES.get(record.status, TIME_OVER) if waited else OUTCOMES["blocked"] if record.status == "blocked" else 0
    )
    if record.status == "error":
        code = OUTCOMES["error"]
    if code:
        raise typer.Exit(code)
