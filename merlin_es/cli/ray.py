"""What does `merlin ray` take? The options that stand before its verbs, and the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merlin_es.cli.printing import require_path
from merlin_es.cli.verbs import Verbs

app = Verbs("Clusters, runs, artifacts and resources.")
app.group_in("merlin_es.cli.cluster")
app.group_in("merlin_es.cli.jobs")
app.group_in("merlin_es.cli.artifacts")
app.group_in("merlin_es.cli.resources")
app.function_in("merlin_es.cli.reconcile")
app.function_in("merlin_es.cli.rebuild")
app.function_in("merlin_es.cli.verify")
app.function_in("merlin_es.cli.head")
app.function_in("merlin_es.cli.seal")
app.function_in("merlin_es.cli.export")
app.function_in("merlin_es.cli.import_")
app.function_in("merlin_es.cli.archive")
app.function_in("merlin_es.cli.unarchive")
app.function_in("merlin_es.cli.events")
app.function_in("merlin_es.cli.replay")
app.function_in("merlin_es.cli.why")
app.function_in("merlin_es.cli.diff")
app.function_in("merlin_es.cli.state")
app.function_in("merlin_es.cli.wait")
app.function_in("merlin_es.cli.fork")
app.function_in("merlin_es.cli.doctor")


@app.callback()
def ray(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record or print what would be done, and do not.")] = False,
    state_root: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Where Merlin keeps its files [env: MERLIN_STATE_ROOT; default: build/generated/ray]."
        ),
    ] = None,
) -> None:
    """Clusters, runs, artifacts and resources."""
    if state_root is not None:
        require_path(state_root, "--state-root")
    context.obj = (dry_run, None if state_root is None else Path(state_root))
