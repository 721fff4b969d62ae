"""`merlin ray resources`: who waits, what keys are, and what has happened to them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.lease_lines import (
    KeyOf,
    Reason,
    claim_json,
    open_leases,
    plain,
    point_of,
    position_of,
    print_key,
    seconds,
    short,
    wants_of,
)
from merlin_es.cli.printing import (
    Output,
    OutputOption,
    QuietOption,
    as_pairs,
    print_data,
    print_each,
    print_lines,
    print_table,
    printable,
    require_earnest,
)
from merlin_es.cli.suggestions import hint

if TYPE_CHECKING:
    from merlin_es.cli.shapes import LeftClaim


def queue(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only who waits for this key.")] = None,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List who waits, the next one first."""
    from projections.line import in_line, line_for

    state = open_leases(context).state()
    claims = in_line(state) if key is None else line_for(key, state)
    if output.is_data:
        print_data(output, [claim_json(claim, state) for claim in claims])
        return
    if quiet:
        print_each(claim.claim_id for claim in claims)
        return
    if not claims:
        typer.echo("Nobody waits.")
        return
    rows = [
        [
            str(position_of(claim, state)),
            claim.claim_id,
            wants_of(claim),
            claim.owner,
            str(claim.priority),
            claim.queued_at,
        ]
        for claim in claims
    ]
    print_table(["PLACE", "CLAIM", "WANTS", "OWNER", "PRIORITY", "SINCE"], rows)


def leave(
    context: typer.Context,
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="The id of a claim.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a claim out of the line."""
    require_earnest(context)
    open_leases(context).leave(claim)
    if output.is_data:
        left: LeftClaim = {"claim_id": claim, "status": "left"}
        print_data(output, left)
        return
    print_lines([("Claim ID", claim), ("Status", "left")])


def declare(
    context: typer.Context,
    key: KeyOf,
    label: Annotated[list[str] | None, typer.Option(help="K=V that --any finds it by.")] = None,
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    max_duration: Annotated[str | None, typer.Option(metavar="TIME", help="No lease of it lasts longer.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what a key is: its labels, a description, how long anybody may hold it."""
    from merlin_es.lease_commands import Declare
    from merlin_es.resources import check_keys

    require_earnest(context)
    [checked] = check_keys((key,))
    limit_s = None if max_duration is None else seconds(max_duration, "--max-duration")
    wish = Declare(checked, as_pairs(label or [], "--label"), description, limit_s)
    print_key(open_leases(context).declare(wish), output)


def drain(context: typer.Context, key: KeyOf, reason: Reason = "", output: OutputOption = Output.TEXT) -> None:
    """Have nobody get a key for now; who holds it keeps it."""
    require_earnest(context)
    print_key(open_leases(context).set_status(key, "drain", reason), output)


def enable(context: typer.Context, key: KeyOf, reason: Reason = "", output: OutputOption = Output.TEXT) -> None:
    """Have a drained key granted again."""
    require_earnest(context)
    print_key(open_leases(context).set_status(key, "enable", reason), output)


def retire(context: typer.Context, key: KeyOf, reason: Reason = "", output: OutputOption = Output.TEXT) -> None:
    """Have nobody get a key ever again; who holds it keeps it."""
    require_earnest(context)
    print_key(open_leases(context).set_status(key, "retire", reason), output)


def history(context: typer.Context, key: KeyOf, output: OutputOption = Output.TEXT) -> None:
    """Tell all that has happened to a key, and to who waited for it."""
    from merlin_es import resource_history
    from projections.layout import RESOURCES

    resources = open_leases(context)
    rows = list(resource_history.history(key, resources.log.read(RESOURCES)))
    if not rows:
        hint("key", key, resources.state().keys)
    if output.is_data:
        print_data(output, [asdict(row) for row in rows])
    elif not rows:
        typer.echo("Nothing has happened to it.")
    else:
        cells = [[str(row.seq), row.time, row.what, row.who, row.actor, row.why] for row in rows]
        print_table(["SEQ", "TIME", "WHAT", "WHO", "BY", "WHY"], cells)


def who(
    context: typer.Context,
    key: KeyOf,
    at: Annotated[str | None, typer.Option(metavar="MOMENT", help="When [default: now].")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell who had a key at some time, who waited, and why it ended."""
    from merlin_es import resource_history
    from projections.layout import RESOURCES

    resources = open_leases(context)
    seq, time = (None, None) if at is None else point_of(context, at)
    events = resources.log.read
    then = resource_history.until(events(RESOURCES), seq, time)
    lease, claims = resource_history.who(key, then)
    if lease is None:
        hint("key", key, then.keys)
    became = lease and next(
        each for each in resource_history.ever(events(RESOURCES)) if each.lease_id == lease.lease_id
    )
    if output.is_data:
        print_data(output, {"lease": became and plain(became), "waiting": [plain(claim) for claim in claims]})
        return
    if became is None:
        typer.echo("Nobody had it.")
    else:
        lines = [("Lease ID", became.lease_id), ("Owner", became.owner), ("On behalf of", became.on_behalf_of)]
        lines += [("Since", became.created_at), ("Ended", became.ended and became.updated_at)]
        print_lines([*lines, ("Why", became.ended and f"{became.ended} by {became.ended_by}: {became.end_reason}")])
    for claim in claims:
        typer.echo(printable(f"waiting: {claim.claim_id} owner={claim.owner} since={claim.queued_at}"))


def report(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(help="Since: 2026-11-23, or 90m, 24h, 7d ago.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell what each key was used for: how busy it was, by whom, and how long who got it had waited."""
    from merlin_es import resource_history
    from merlin_es.moments import TIMES, time_of
    from projections.layout import RESOURCES

    resources = open_leases(context)
    begin = None if since is None else time_of(since, datetime.now(UTC), TIMES)
    uses = resource_history.report(resources.log.read(RESOURCES), begin, resources.world.host.now())
    if output.is_data:
        print_data(output, [asdict(use) for use in uses])
        return
    if not uses:
        typer.echo("No resources.")
        return
    rows = []
    for use in uses:
        whole_s = use.free_s + use.active_s + use.drained_s
        owners = sorted(use.owners.items(), key=lambda item: -item[1])
        who_had = ", ".join(f"{name} {short(spent_s)}" for name, spent_s in owners[:5])
        busy = f"{100 * use.active_s / whole_s:.0f}%" if whole_s else "-"
        waits = "-" if use.waited_median_s is None else f"{short(use.waited_median_s)}/{short(use.waited_max_s or 0)}"
        rows.append([use.key, busy, short(use.active_s), short(use.drained_s), str(use.grants), waits, who_had])
    print_table(["KEY", "BUSY", "ACTIVE", "DRAINED", "GRANTS", "WAITED", "WHO"], rows)
