"""`merlin ray cluster`: start, attach, look, stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import (
    AtOption,
    Output,
    OutputOption,
    as_path,
    is_dry_run,
    print_data,
    print_lines,
    settings,
)
from merlin_es.cli.verbs import Verbs

if TYPE_CHECKING:
    from merlin_es.clusters import ClusterView

app = Verbs("The cluster that runs go to.")


@app.command("start-local")
def start_local(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Where the dashboard listens.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the head [default: 6379, or a free one].")
    ] = None,
    dashboard_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the job server [default: 8265, or a free one].")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Recorded with the cluster.")] = "merlin",
    durable: Annotated[bool, typer.Option("--durable", help="Keep Ray's state over restarts (alpha in Ray).")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start a Ray head on this host, and wait until it takes jobs.

    When it runs already, nothing changes.
    """
    from merlin_es import bootstrap
    from merlin_es.commands import StartLocal

    clusters = bootstrap.clusters(settings(context))
    wish = StartLocal(host, port, dashboard_port, namespace, durable)
    _show(clusters.would_start(wish) if is_dry_run(context) else clusters.start_local(wish), output)


@app.command()
def attach(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="Of the dashboard, as http://host:8265.")],
    token_file: Annotated[str | None, typer.Option(metavar="PATH", help="A file with the cluster's token.")] = None,
    namespace: Annotated[str, typer.Option(help="Recorded with the cluster.")] = "merlin",
    output: OutputOption = Output.TEXT,
) -> None:
    """Have runs go to a cluster that others run."""
    from merlin_es import bootstrap

    token = None if token_file is None else Path(as_path(token_file, "--token-file"))
    clusters = bootstrap.clusters(settings(context))
    attach = clusters.would_attach if is_dry_run(context) else clusters.attach
    _show(attach(address, namespace, token), output)


@app.command()
def status(context: typer.Context, at: AtOption = None, output: OutputOption = Output.TEXT) -> None:
    """Look at the cluster, and say how what is seen fits with the record; or what the record was, with --at.

    Exit code 6 when it does not answer.
    """
    from merlin_es import bootstrap

    if at is not None:
        _show_then(context, at, output)
        return
    view = bootstrap.clusters(settings(context)).status()
    _show(view, output)
    if view.status == "error":
        raise typer.Exit(6)


@app.command()
def stop(context: typer.Context, output: OutputOption = Output.TEXT) -> None:
    """End the head that was started here, with its runs; a cluster of others is only let go of."""
    from merlin_es import bootstrap

    where = settings(context)
    clusters = bootstrap.clusters(where)
    view = clusters.would_stop() if is_dry_run(context) else clusters.stop(bootstrap.build(where).quiesce)
    if output.is_data:
        _show(view, output)
        return
    print_lines([("Cluster", view.record.cluster_name), ("Status", view.status), ("Message", view.message)])


def _show_then(context: typer.Context, at: str, output: Output) -> None:
    from merlin_es import bootstrap, then
    from merlin_es.cli.chronicle import note
    from merlin_es.clusters import ClusterView

    record, point = then.cluster(bootstrap.past(settings(context)), at)
    note(point)
    said = f"as recorded at {record.updated_at} (#{point.seq}); nobody was asked"
    _show(ClusterView(record, record.status, said), output)


def _show(view: ClusterView, output: Output) -> None:
    from projections.projection import cluster_json

    record = view.record
    if output.is_data:
        seen = {"status": view.status, "recorded_status": record.status, "message": view.message}
        print_data(output, {**cluster_json(record), **seen})
        return
    print_lines(
        [
            ("Cluster", record.cluster_name),
            ("Status", view.status),
            ("Address", record.address),
            ("Dashboard", record.dashboard_url),
            ("Session", record.session_name),
            ("Unreachable since", record.unreachable_since),
            ("Message", view.message),
        ]
    )
