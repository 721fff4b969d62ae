"""`merlin ray state`: everything, or one run, as it was at some moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from merlin_es.cli.chronicle import head_of, note, note_gone, style_of, value_parts
from merlin_es.cli.printing import CLOCK_WENT_BACK, AtOption, Output, OutputOption, print_data, settings
from merlin_es.cli.terminal import Part, Screen, Style, screen

if TYPE_CHECKING:
    from merlin_es.plane import Plane

_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


def state(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN|STREAM]", help="Of one run or stream [default: everything].")
    ] = None,
    at: AtOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show everything as it was at a time: runs by status, the cluster, and what was open. Of one run: its record.

    Without --at: as it is now. Everything together needs a time, for numbers count in one stream.
    """
    if name is None:
        _everything(context, at, output)
    else:
        _one(context, name, at, output)


def _one(context: typer.Context, name: str, at: str | None, output: Output) -> None:
    from merlin_es import bootstrap
    from projections.history import documents
    from projections.timeline import Place

    past, name = bootstrap.past_of(settings(context), name)
    stream = past.folded(name)
    point = past.point(stream, at)
    note(point)
    found = documents(stream, past.at(stream, point.seq), past.folds)
    if output.is_data:
        print_data(output, found)
        return
    shown = screen()
    event = past.event(Place(stream, point.seq))
    if event:
        shown.show("as of", *head_of(event, stream=False))
    main = past.folds.main(stream)
    for file, document in reversed(found.items()):
        if file != main and isinstance(document, dict) and file.endswith("run_request.json"):
            continue  # The record says it all again.
        shown.show(Part(file, Style.STRONG))
        _fields(shown, document)


def _fields(shown: Screen, document: object) -> None:
    named: Any = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    for name, value in named:
        if value in _EMPTY or name == "as_of":
            continue
        if isinstance(value, list) and isinstance(value[0], dict):
            for place, each in enumerate(value):
                shown.show(Part(f"{name}/{place}", Style.NAME), *value_parts(each), indent=2)
        else:
            shown.show(Part(str(name), Style.NAME), *value_parts(value), indent=2)


def _everything(context: typer.Context, at: str | None, output: Output) -> None:
    from dataclasses import asdict

    from merlin_es import bootstrap, plane
    from merlin_es.moments import the_time

    where = settings(context)
    past = bootstrap.past(where)
    time = the_time(at if at is not None else "0s", past.now())
    found = plane.at(time, past, bootstrap.ledger(where).index)
    if output.is_data:
        print_data(output, asdict(found))
    else:
        _show(screen(), found)
    note_gone(past)
    if found.sick:
        from merlin_es.cli.complaints import complain_of_logs
        from merlin_es.errors import Sick

        complain_of_logs(found.sick)
        raise typer.Exit(Sick.exit_code)


def _show(shown: Screen, found: Plane) -> None:
    shown.show(Part("as of", Style.DIM), Part(found.time, Style.STRONG))
    cluster = found.cluster
    since = cluster["unreachable_since"]
    shown.show(
        Part("cluster", Style.NAME),
        str(cluster["status"]),
        str(cluster["dashboard_url"] or ""),
        f"session {cluster['session_name']}" if cluster["session_name"] else "",
        Part(f"no answer since {since}" if since else "", Style.BAD),
    )
    runs = [f"{count} {status}" for status, count in found.runs.items()]
    shown.show(Part("runs", Style.NAME), *(runs or ["none"]))
    for run in found.open:
        style = style_of(f"run.{run.status}")
        shown.show(
            Part(run.status, style),
            run.run_id,
            run.workflow,
            Part(f"since {run.updated_at}", Style.DIM),
            run.message or "",
            indent=2,
        )
    if found.keys:
        shown.show(Part("keys", Style.NAME))
    for key in found.keys:
        holder = f"held by {key.owner} with {key.lease_id}" if key.lease_id else "held by nobody"
        shown.show(
            Part(key.key, Style.STRONG),
            holder,
            Part(f"since {key.since}" if key.since else "", Style.DIM),
            Part("" if key.status == "ENABLED" else key.status, Style.BAD),
            Part(f"waiting: {', '.join(key.waiting)}" if key.waiting else "", Style.CHANGED),
            indent=2,
        )
    if found.questions:
        shown.show(Part("questions", Style.NAME))
    for question in found.questions:
        shown.show(
            Part(question.question_id, Style.CHANGED),
            question.question,
            f"options: {', '.join(question.options)}",
            Part(f"since {question.since}", Style.DIM),
            Part(question.run_id, Style.DIM),
            indent=2,
        )
    for stream in found.doubtful:
        shown.show(Part(CLOCK_WENT_BACK.format(stream), Style.BAD))
