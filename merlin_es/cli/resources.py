"""`merlin ray resources`: list, reserve, release, renew, transfer, hold, and all that keeps a queue honest."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

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
    settings,
)
from merlin_es.cli.verbs import Verbs

if TYPE_CHECKING:
    from merlin_es.cli.shapes import LeftClaim
    from merlin_es.lease_commands import Reserve
    from merlin_es.resources import Leases
    from projections.lease_state import Claim, Key, Lease, Pool, Resources

app = Verbs("Resources: keys of which each has at most one holder, and a fair queue.")

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Keys = Annotated[list[str] | None, typer.Argument(metavar="[KEY]…", help="All of these keys, or none.")]
KeyOf = Annotated[str, typer.Argument(metavar="KEY", help="A key.")]
LeaseOf = Annotated[str, typer.Argument(metavar="LEASE", help="The id of a lease.")]
Owner = Annotated[str, typer.Option(help="Who is to hold it.")]
OnBehalfOf = Annotated[str | None, typer.Option(help="For whom, where an agent acts for somebody.")]
Metadata = Annotated[list[str] | None, typer.Option(help="K=V to record with the lease.")]
Any_ = Annotated[str | None, typer.Option("--any", metavar="LABEL=VALUE", help="Any key with that label.")]
Count = Annotated[int, typer.Option(min=1, max=1000, help="How many of them.")]
Priority = Annotated[int, typer.Option(min=-100, max=100, help="The higher one is before the lower one.")]
Timeout = Annotated[str | None, typer.Option(metavar="TIME", help="How long to wait: 90s, 10m, 2h.")]
Fence = Annotated[int | None, typer.Option(help="The fence of the lease: shows that its holder asks.")]
AsOwner = Annotated[str | None, typer.Option("--owner", help="Who holds it: shows that its holder asks.")]
Force = Annotated[bool, typer.Option("--force", help="Also when somebody else holds it; takes a --reason.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("list")
def list_(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this key.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what has ended.")] = False,
    at: Annotated[str | None, typer.Option(metavar="MOMENT", help="As it was then.")] = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="With all details [default: on a terminal].")] = False,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List leases, with who waits for each key."""
    if at is None:
        state, leases = _now(context, everything=everything)
    else:
        from merlin_es import resource_history
        from projections.layout import RESOURCES

        resources = _open(context)
        seq, time = _point(context, at)
        state = resource_history.until(resources.log.read(RESOURCES), seq, time)
        leases = list(state.leases.values())
        if everything:
            leases = resource_history.ever(resources.log.read(RESOURCES), seq, time)
    leases = sorted((each for each in leases if key in (None, each.key)), key=lambda each: each.created_at)
    if output.is_data:
        print_data(output, [_json_of(lease, state) for lease in leases])
        return
    if quiet:
        print_each(lease.lease_id for lease in leases)
        return
    for lease in leases:
        typer.echo(printable(f"{lease.lease_id} {lease.key} {lease.status} owner={lease.owner}"))
        if long or (sys.stdout is not None and sys.stdout.isatty()):
            _print_details(lease, state)
    if not leases:
        typer.echo("No resource leases.")


@app.command()
def reserve(
    context: typer.Context,
    keys: Keys = None,
    owner: Owner = ...,  # type: ignore[assignment]  # required
    metadata: Metadata = None,
    any_: Any_ = None,
    count: Count = 1,
    ttl: Annotated[str | None, typer.Option(metavar="TIME", help="It ends unless renewed in time: 90s, 30m.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="It ends with this run.")] = None,
    priority: Priority = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Stand in line until it is granted.")] = False,
    timeout: Timeout = None,
    on_behalf_of: OnBehalfOf = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again gives the same lease.")] = None,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Have all of some keys, or any with a label; exit code 13 when they cannot be had at once."""
    from merlin_es.errors import NotFound, Usage

    require_earnest(context)
    resources = _open(context)
    if ttl is not None and run is not None:
        raise Usage("a lease ends with its run, or when it is not renewed: give --run or --ttl")
    if run is not None and resources.world.run_status(run) is None:
        raise NotFound(
            f"there is no run {run!r} in this state root: `merlin ray jobs list` shows those there are",
            kind="run",
            name=run,
        )
    if idempotency_key == "":
        raise Usage("--idempotency-key is empty, as an unset variable is: give a key, or leave it out")
    wish = _wish(
        resources,
        tuple(keys or ()),
        owner,
        any_=any_,
        count=count,
        metadata=_metadata(context, metadata),
        priority=priority,
        on_behalf_of=on_behalf_of,
        waits=wait,
        ttl_s=None if ttl is None else _seconds(ttl, "--ttl"),
        run_id=run,
        idempotency_key=idempotency_key,
    )
    limit_s = None if timeout is None else _seconds(timeout, "--timeout")
    leases = resources.reserve(wish, limit_s=limit_s, tell=_Teller().tell if wait and not quiet else None)
    if quiet and not output.is_data:
        print_each(lease.lease_id for lease in leases)
        return
    _print_leases(leases, resources.state(), output, several=len(wish.keys) > 1 or (any_ is not None and count > 1))


@app.command()
def release(
    context: typer.Context,
    lease: Annotated[str | None, typer.Argument(metavar="[LEASE]", help="The id of a lease.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Whatever lease this key is held by.")] = None,
    owner: AsOwner = None,
    fence: Fence = None,
    force: Force = False,
    reason: Reason = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a lease back, and have the next in line get its key; twice is once."""
    from merlin_es.errors import Usage

    require_earnest(context)
    if (lease is None) == (key is None):
        raise Usage("say what to release: either LEASE, or --key KEY")
    resources = _open(context)
    lease_id = lease or resources.holder(key or "").lease_id
    released = resources.release(lease_id, owner=owner, fence=fence, force=force, reason=reason)
    if output.is_data:
        print_data(output, _json_of(released, resources.state()))
    else:
        print_lines([("Lease ID", released.lease_id), ("Status", released.status)])


@app.command()
def renew(
    context: typer.Context,
    lease: LeaseOf,
    owner: AsOwner = None,
    fence: Fence = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Begin the time to live of a lease again; exit code 14 when it was lost."""
    require_earnest(context)
    resources = _open(context)
    _print_leases((resources.renew(lease, owner=owner, fence=fence),), resources.state(), output, several=False)


@app.command()
def transfer(
    context: typer.Context,
    lease: LeaseOf,
    to: Annotated[str, typer.Option(help="Who is to hold it.")] = ...,  # type: ignore[assignment]  # required
    on_behalf_of: OnBehalfOf = None,
    owner: AsOwner = None,
    fence: Fence = None,
    force: Force = False,
    reason: Reason = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Have somebody else hold a lease, with another fence."""
    require_earnest(context)
    resources = _open(context)
    given = resources.transfer(lease, to, on_behalf_of, owner=owner, fence=fence, force=force, reason=reason)
    _print_leases((given,), resources.state(), output, several=False)


@app.command()
def hold(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="[KEY]… -- COMMAND…", help="What to hold, and what to run.")],
    owner: Owner = ...,  # type: ignore[assignment]  # required
    any_: Any_ = None,
    count: Count = 1,
    metadata: Metadata = None,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="It ends so long after this process was heard of.")] = "30s",
    priority: Priority = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Stand in line until it is granted.")] = False,
    timeout: Timeout = None,
    on_behalf_of: OnBehalfOf = None,
) -> None:
    """Run a command that holds leases: renewed while it runs, released whatever its end is.

    It finds MERLIN_LEASE_ID, MERLIN_LEASE_FENCE and MERLIN_LEASE_KEY in its environment, with commas where it holds
    several. Signals go to it, and its exit status is the one of this verb; 14 when a lease was lost and it was ended.
    """
    from merlin_es import holding

    require_earnest(context)
    keys, command = _split(words)
    resources = _open(context)
    ttl_s = _seconds(ttl, "--ttl")
    wish = _wish(
        resources,
        keys,
        owner,
        any_=any_,
        count=count,
        metadata=_metadata(context, metadata),
        priority=priority,
        on_behalf_of=on_behalf_of,
        waits=wait,
        ttl_s=ttl_s,
        with_process=True,
    )
    limit_s = None if timeout is None else _seconds(timeout, "--timeout")
    held = resources.reserve(wish, limit_s=limit_s, tell=_Teller().tell if wait else None)
    raise typer.Exit(holding.run(command, held, resources, ttl_s, os.environ))


@app.command()
def queue(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only who waits for this key.")] = None,
    quiet: QuietOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List who waits, the next one first."""
    from projections.line import in_line, line_for

    state = _open(context).state()
    claims = in_line(state) if key is None else line_for(key, state)
    if output.is_data:
        print_data(output, [_claim_json(claim, state) for claim in claims])
        return
    if quiet:
        print_each(claim.claim_id for claim in claims)
        return
    if not claims:
        typer.echo("Nobody waits.")
        return
    rows = [
        [str(_position(claim, state)), claim.claim_id, _wants(claim), claim.owner, str(claim.priority), claim.queued_at]
        for claim in claims
    ]
    print_table(["PLACE", "CLAIM", "WANTS", "OWNER", "PRIORITY", "SINCE"], rows)


@app.command()
def leave(
    context: typer.Context,
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="The id of a claim.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a claim out of the line."""
    require_earnest(context)
    _open(context).leave(claim)
    if output.is_data:
        left: LeftClaim = {"claim_id": claim, "status": "left"}
        print_data(output, left)
        return
    print_lines([("Claim ID", claim), ("Status", "left")])


@app.command()
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
    limit_s = None if max_duration is None else _seconds(max_duration, "--max-duration")
    wish = Declare(checked, as_pairs(label or [], "--label"), description, limit_s)
    _print_key(_open(context).declare(wish), output)


@app.command()
def drain(context: typer.Context, key: KeyOf, reason: Reason = "", output: OutputOption = Output.TEXT) -> None:
    """Have nobody get a key for now; who holds it keeps it."""
    require_earnest(context)
    _print_key(_open(context).set_status(key, "drain", reason), output)


@app.command()
def enable(context: typer.Context, key: KeyOf, reason: Reason = "", output: OutputOption = Output.TEXT) -> None:
    """Have a drained key granted again."""
    require_earnest(context)
    _print_key(_open(context).set_status(key, "enable", reason), output)


@app.command()
def retire(context: typer.Context, key: KeyOf, reason: Reason = "", output: OutputOption = Output.TEXT) -> None:
    """Have nobody get a key ever again; who holds it keeps it."""
    require_earnest(context)
    _print_key(_open(context).set_status(key, "retire", reason), output)


@app.command()
def check(
    context: typer.Context,
    lease: LeaseOf,
    fence: Annotated[int, typer.Option(help="The fence that was given with it.")] = ...,  # type: ignore[assignment]  # required
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell by the exit code whether a lease is still that of who has this fence: 0, or 14 when it was lost."""
    resources = _open(context)
    _print_leases((resources.check(lease, fence),), resources.state(), output, several=False)


@app.command()
def history(context: typer.Context, key: KeyOf, output: OutputOption = Output.TEXT) -> None:
    """Tell all that has happened to a key, and to who waited for it."""
    from merlin_es import resource_history
    from projections.layout import RESOURCES

    rows = list(resource_history.history(key, _open(context).log.read(RESOURCES)))
    if output.is_data:
        print_data(output, [asdict(row) for row in rows])
    elif not rows:
        typer.echo("Nothing has happened to it.")
    else:
        cells = [[str(row.seq), row.time, row.what, row.who, row.actor, row.why] for row in rows]
        print_table(["SEQ", "TIME", "WHAT", "WHO", "BY", "WHY"], cells)


@app.command()
def who(
    context: typer.Context,
    key: KeyOf,
    at: Annotated[str | None, typer.Option(metavar="MOMENT", help="When [default: now].")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell who had a key at some time, who waited, and why it ended."""
    from merlin_es import resource_history
    from projections.layout import RESOURCES

    resources = _open(context)
    seq, time = (None, None) if at is None else _point(context, at)
    events = resources.log.read
    lease, claims = resource_history.who(key, resource_history.until(events(RESOURCES), seq, time))
    became = lease and next(
        each for each in resource_history.ever(events(RESOURCES)) if each.lease_id == lease.lease_id
    )
    if output.is_data:
        print_data(output, {"lease": became and _plain(became), "waiting": [_plain(claim) for claim in claims]})
        return
    if became is None:
        typer.echo("Nobody had it.")
    else:
        lines = [("Lease ID", became.lease_id), ("Owner", became.owner), ("On behalf of", became.on_behalf_of)]
        lines += [("Since", became.created_at), ("Ended", became.ended and became.updated_at)]
        print_lines([*lines, ("Why", became.ended and f"{became.ended} by {became.ended_by}: {became.end_reason}")])
    for claim in claims:
        typer.echo(printable(f"waiting: {claim.claim_id} owner={claim.owner} since={claim.queued_at}"))


@app.command()
def report(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(help="Since: 2026-11-23, or 90m, 24h, 7d ago.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell what each key was used for: how busy it was, by whom, and how long who got it had waited."""
    from datetime import UTC, datetime

    from merlin_es import resource_history
    from merlin_es.moments import TIMES, time_of
    from projections.layout import RESOURCES

    resources = _open(context)
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
        who_had = ", ".join(f"{name} {_short(spent_s)}" for name, spent_s in owners[:5])
        busy = f"{100 * use.active_s / whole_s:.0f}%" if whole_s else "-"
        waits = "-" if use.waited_median_s is None else f"{_short(use.waited_median_s)}/{_short(use.waited_max_s or 0)}"
        rows.append([use.key, busy, _short(use.active_s), _short(use.drained_s), str(use.grants), waits, who_had])
    print_table(["KEY", "BUSY", "ACTIVE", "DRAINED", "GRANTS", "WAITED", "WHO"], rows)


class _Teller:
    """Tells a person on a terminal how long it may take, whenever that has changed."""

    def __init__(self) -> None:
        self._said = ""

    def tell(self, claim: Claim, state: Resources) -> None:
        """Print where a claim stands."""
        from projections.line import wanted

        if sys.stderr is None or not sys.stderr.isatty():
            return
        place = _position(claim, state)
        parts = [f"{claim.claim_id}: place {place}"]
        parts += [_holder_text(key.key, state) for key in wanted(claim, state) if state.holder(key.key)]
        if (estimate_s := _estimate_s(claim, state)) is not None:
            parts.append(f"about {_short(estimate_s)}, by its history")
        text = "; ".join(parts)
        if text != self._said:
            self._said = text
            typer.echo(printable(f"{text} (Ctrl-C leaves the line)"), err=True)


def _now(context: typer.Context, *, everything: bool) -> tuple[Resources, list[Lease]]:
    """Give what goes on, and the leases to list; what is at rest is shown without the means to decide."""
    from projections.checkpoint import at_rest

    if not everything and (state := at_rest(settings(context).state_root)) is not None:
        return state, list(state.leases.values())
    resources = _open(context)
    state = resources.state()
    return state, list(resources.all() if everything else state.leases.values())


def _open(context: typer.Context) -> Leases:
    from merlin_es import bootstrap

    return bootstrap.leases(settings(context))


def _metadata(context: typer.Context, pairs: Sequence[str] | None) -> Mapping[str, str]:
    """Give what is to be recorded with a lease, without secrets."""
    fields = as_pairs(pairs or [], "--metadata")
    if not fields:
        return fields
    from merlin_es import bootstrap

    return bootstrap.secret_rules(settings(context)).clean_fields(fields)


def _wish(
    resources: Leases,
    keys: tuple[str, ...],
    owner: str,
    *,
    any_: str | None,
    count: int,
    metadata: Mapping[str, str],
    priority: int,
    on_behalf_of: str | None,
    waits: bool,
    ttl_s: float | None,
    run_id: str | None = None,
    with_process: bool = False,
    idempotency_key: str | None = None,
) -> Reserve:
    from merlin_es.errors import Usage
    from merlin_es.lease_commands import Reserve
    from merlin_es.resources import WAITER_TTL_S, check_keys, this_process
    from projections.lease_state import Liveness, Waiter

    if bool(keys) == (any_ is not None):
        raise Usage("say what to reserve: either KEY…, or --any LABEL=VALUE")
    if not owner.strip() or on_behalf_of == "":
        raise Usage("--owner is empty: say who is to hold it")
    process = this_process()
    return Reserve(
        claim_id=f"claim-{os.urandom(5).hex()}",
        owner=owner,
        at=resources.world.host.now(),
        keys=check_keys(keys),
        pool=None if any_ is None else _pool(any_, count),
        on_behalf_of=on_behalf_of,
        metadata=metadata,
        priority=priority,
        liveness=Liveness(ttl_s, run_id, process if with_process else None),
        waits=waits,
        waiter=Waiter(WAITER_TTL_S, process) if waits else None,
        idempotency_key=idempotency_key,
    )


def _pool(text: str, count: int) -> Pool:
    from projections.lease_state import Pool

    [(label, value)] = as_pairs([text], "--any").items()
    return Pool(label, value, count)


def _split(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell the keys from the command, which `--` has parted on the command line."""
    from merlin_es.errors import Usage

    length = len(sys.argv) - sys.argv.index("--") - 1 if "--" in sys.argv else 0
    if not length:
        raise Usage("say what to run: `merlin ray resources hold KEY --owner WHO -- COMMAND`")
    return tuple(words[:-length]), tuple(words[-length:])


def _seconds(text: str, option: str) -> float:
    """Read a length of time."""
    match = _DURATION.fullmatch(text)
    if not match or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no length of time: write 90s, 10m, 2h or 1d", param_hint=option)
    return float(match[1]) * _UNITS_S[match[2]]


def _point(context: typer.Context, text: str) -> tuple[int | None, str | None]:
    """Read a moment of the past: the seq of an event that is meant, or a time."""
    from merlin_es import bootstrap
    from merlin_es.moments import AtSeq, AtTime, parse
    from projections.layout import RESOURCES

    past = bootstrap.past(settings(context))
    match parse(text, past.now()):
        case AtSeq(seq=seq):
            return seq, None
        case AtTime(time=time):
            return None, time
    return past.point(past.stream(RESOURCES), text).seq, None


def _position(claim: Claim, state: Resources) -> int:
    from projections.line import position

    return position(claim, state)


def _estimate_s(claim: Claim, state: Resources) -> float | None:
    """Say how long those before it may take, if the keys are held for as long as they usually are."""
    from statistics import median

    from projections.line import wanted

    usual_s = [median(key.recent_s) for key in wanted(claim, state) if key.recent_s]
    return _position(claim, state) * max(usual_s) if usual_s else None


def _holder_text(key: str, state: Resources) -> str:
    from merlin_es.deciders.lease import describe

    holder = state.holder(key)
    return describe(holder) if holder else f"{key} is free"


def _wants(claim: Claim) -> str:
    if claim.pool is None:
        return " ".join(claim.keys)
    return f"{claim.pool.count} of {claim.pool.label}={claim.pool.value}"


def _print_leases(leases: Sequence[Lease], state: Resources, output: Output, *, several: bool) -> None:
    if output.is_data:
        found = [_json_of(lease, state) for lease in leases]
        print_data(output, found if several else found[0])
        return
    for lease in leases:
        print_lines([("Lease ID", lease.lease_id), ("Resource", lease.key), ("Status", lease.status)])
        print_lines([("Fence", lease.fence), ("Until", lease.until)])


def _print_details(lease: Lease, state: Resources) -> None:
    from merlin_es.cli.terminal import Part, screen

    parts = [f"fence={lease.fence}", lease.liveness, f"since={lease.created_at}"]
    parts += [f"until={lease.until}"] if lease.until else []
    parts += [f"on behalf of {lease.on_behalf_of}"] if lease.on_behalf_of else []
    parts += [f"{lease.ended} at {lease.updated_at}: {lease.end_reason}"] if lease.ended else []
    shown = screen()
    shown.show(*(Part(part, gap=1) for part in parts), indent=2)
    if lease.lease_id in state.leases:
        from projections.line import line_for

        for place, claim in enumerate(line_for(lease.key, state), 1):
            waits = (f"{place}. {claim.owner} waits", f"since {claim.queued_at}", f"({claim.claim_id})")
            shown.show(*(Part(part, gap=1) for part in waits), indent=2)


def _print_key(key: Key, output: Output) -> None:
    if output.is_data:
        print_data(output, _plain(key))
    else:
        print_lines([("Resource", key.key), ("Status", key.status), ("Reason", key.reason)])


def _json_of(lease: Lease, state: Resources) -> Mapping[str, object]:
    from projections.line import line_for

    waiting = line_for(lease.key, state) if lease.lease_id in state.leases else []
    return {**_plain(lease), "waiting": [_claim_json(claim, state) for claim in waiting]}


def _claim_json(claim: Claim, state: Resources) -> Mapping[str, object]:
    return {**_plain(claim), "position": _position(claim, state)}


def _plain(value: Lease | Claim | Key) -> Mapping[str, object]:
    import msgspec

    plain: Mapping[str, object] = msgspec.to_builtins(value)
    return plain


def _short(length_s: float) -> str:
    """Show a length of time to people."""
    for unit, seconds in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if length_s >= 2 * seconds:
            return f"{length_s / seconds:.0f}{unit}"
    return f"{length_s:.0f}s"
