"""How are runs shown without folding anything, where what is on disk is still all that there is to say?

The frequent verbs come through here, so nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from merlin_es import waiting
from merlin_es.errors import NotFound, Usage
from projections import fresh
from projections.statuses import STATUSES, TERMINAL

if TYPE_CHECKING:
    from merlin_es.settings import Settings


class Listed(NamedTuple):
    """Runs as lists show them; `sick` are streams that could not be read, `doubtful` those whose clocks went back."""

    rows: Sequence[Mapping[str, Any]]
    sick: Mapping[str, str] = {}
    doubtful: Sequence[str] = ()


def status(settings: Settings, run_id: str, *, cached: bool) -> Mapping[str, Any]:
    """Give a run as `run_record.json` has it, after one look at Ray when it has not ended, unless `cached`.

    `stale_since` tells since when the cluster gives no answer, `execution` where a plan stands that the run is to carry
    out. Raises NotFound.
    """
    from eventlog.errors import Invalid

    try:
        known = fresh.read_record(settings.state_root, run_id)
    except Invalid as error:
        raise NotFound(str(error)) from None
    if known is not None and (cached or known["status"] in TERMINAL):
        return _with_execution(known if known["status"] in TERMINAL else {**known, **_staleness(settings)})
    from merlin_es import bootstrap
    from projections.projection import run_json

    merlin = bootstrap.build(settings)
    record = merlin.status(run_id, cached=cached)
    stale = merlin.cluster.peek().unreachable_since
    stale_since = {"stale_since": stale} if stale and not record.is_terminal else {}
    return _with_execution({**run_json(record), **stale_since})


def runs(
    settings: Settings,
    *,
    status: str | None,
    target: str | None,
    workflow: str | None,
    source: str | None,
    since: str | None,
    limit: int,
    at: str | None = None,
) -> Listed:
    """List runs from the index, the newest first, or as they were at a time."""
    from msgspec.structs import asdict

    from projections.index import Index, Selection

    if status is not None and status not in STATUSES:
        raise Usage(
            f"{status!r} is not the status of a run: use one of {', '.join(STATUSES)}", name=status, among=STATUSES
        )
    now = datetime.now(UTC)
    begin = None if since is None else _since(since, now)
    wanted = Selection(status, target, workflow, source, begin, limit)
    if at is not None:
        from merlin_es import bootstrap, plane
        from merlin_es.moments import the_time

        time, past, index = the_time(at, now), bootstrap.past(settings), bootstrap.ledger(settings).index
        found = plane.runs(time, past, index, wanted)
        return Listed([asdict(row) for row in found.rows], found.sick, found.doubtful)
    rows, sick = Index(settings.state_root).list_and_sick(wanted)
    return Listed([asdict(row) for row in rows], dict(sick))


def _since(text: str, now: datetime) -> str:
    from merlin_es.moments import TIMES, time_of

    return time_of(text, now, TIMES)


def _with_execution(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add where the execution of a plan stands now, for a run that is one."""
    found = waiting.execution(known["workflow"], known["target_dir"])
    return known if found is None else {**known, "execution": found}


def _staleness(settings: Settings) -> dict[str, str]:
    cluster = fresh.read_cluster(settings.state_root)
    since = cluster.get("unreachable_since") if cluster else None
    return {"stale_since": since} if since else {}
