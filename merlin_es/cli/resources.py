"""`merlin ray resources`: list, reserve, release, renew, transfer, hold, check; in `keys`: the line, and the keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.lease_lines import (
    Reason,
    Teller,
    lease_json,
    open_leases,
    point_of,
    print_details,
    print_leases,
    seconds,
)
from merlin_es.cli.printing import (
    Output,
    OutputOption,
    QuietOption,
    as_pairs,
    print_data,
    print_each,
    print_lines,
    printable,
    require_earnest,
    settings,
)
from merlin_es.cli.verbs import Verbs

if TYPE_CHECKING:
    from merlin_es.lease_commands import Reserve
    from merlin_es.resources import Leases
    from projections.lease_state import Lease, Pool, Resources

app = Verbs("Resources: keys of which each has at most one holder, and a fair queue.")

Keys = Annotated[list[str] | None, typer.Argument(metavar="[KEY]…", help="All of these keys, or none.")]
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

        resources = open_leases(context)
        seq, time = point_of(context, at)
        state = resource_history.until(resources.log.read(RESOURCES), seq, time)
        leases = list(state.leases.values())
        if everything:
            leases = resource_history.ever(resources.log.read(RESOURCES), seq, time)
    leases = sorted((each for each in leases if key in (None, each.key)), key=lambda each: each.created_at)
    if key is not None and not leases:
        from merlin_es.cli.suggestions import hint

        hint("key", key, state.keys)
    if output.is_data:
        print_data(output, [lease_json(lease, state) for lease in leases])
        return
    if quiet:
        print_each(lease.lease_id for lease in leases)
        return
    for lease in leases:
        typer.echo(printable(f"{lease.lease_id} {lease.key} {lease.status} owner={lease.owner}"))
        if long or (sys.stdout is not None and sys.stdout.isatty()):
            print_details(lease, state)
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
    resources = open_leases(context)
    if ttl is not None and run is not None:
        raise Usage("a lease ends with its run, or when it is not renewed: give --run or --ttl")
    if run is not None and resources.world.run_status(run) is None:
        raise NotFound(
            f"there is no run {run!r} in this state root: `merlin ray jobs list` shows those there are",
            names_a="run",
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
        ttl_s=None if ttl is None else seconds(ttl, "--ttl"),
        run_id=run,
        idempotency_key=idempotency_key,
    )
    limit_s = None if timeout is None else seconds(timeout, "--timeout")
    leases = resources.reserve(wish, limit_s=limit_s, tell=Teller().tell if wait and not quiet else None)
    if quiet and not output.is_data:
        print_each(lease.lease_id for lease in leases)
        return
    print_leases(leases, resources.state(), output, several=len(wish.keys) > 1 or (any_ is not None and count > 1))


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
    resources = open_leases(context)
    lease_id = lease or resources.holder(key or "").lease_id
    released = resources.release(lease_id, owner=owner, fence=fence, force=force, reason=reason)
    if output.is_data:
        print_data(output, lease_json(released, resources.state()))
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
    resources = open_leases(context)
    print_leases((resources.renew(lease, owner=owner, fence=fence),), resources.state(), output, several=False)


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
    resources = open_leases(context)
    given = resources.transfer(lease, to, on_behalf_of, owner=owner, fence=fence, force=force, reason=reason)
    print_leases((given,), resources.state(), output, several=False)


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
    resources = open_leases(context)
    ttl_s = seconds(ttl, "--ttl")
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
    limit_s = None if timeout is None else seconds(timeout, "--timeout")
    held = resources.reserve(wish, limit_s=limit_s, tell=Teller().tell if wait else None)
    raise typer.Exit(holding.run(command, held, resources, ttl_s, os.environ))


@app.command()
def check(
    context: typer.Context,
    lease: LeaseOf,
    fence: Annotated[int, typer.Option(help="The fence that was given with it.")] = ...,  # type: ignore[assignment]  # required
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell by the exit code whether a lease is still that of who has this fence: 0, or 14 when it was lost."""
    resources = open_leases(context)
    print_leases((resources.check(lease, fence),), resources.state(), output, several=False)


app.functions_in(
    "merlin_es.cli.keys",
    *("queue", "leave", "declare", "drain", "enable", "retire", "history", "who", "report"),
)


def _now(context: typer.Context, *, everything: bool) -> tuple[Resources, list[Lease]]:
    """Give what goes on, and the leases to list; what is at rest is shown without the means to decide."""
    from projections.checkpoint import at_rest

    if not everything and (state := at_rest(settings(context).state_root)) is not None:
        return state, list(state.leases.values())
    resources = open_leases(context)
    state = resources.state()
    return state, list(resources.all() if everything else state.leases.values())


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
    from merlin_es.claims import WAITER_TTL_S
    from merlin_es.errors import Usage
    from merlin_es.lease_commands import Reserve
    from merlin_es.resources import check_keys, this_process
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
