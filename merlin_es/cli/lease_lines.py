"""How are leases, claims and keys shown, and how is a length of time or a moment of theirs read?"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.printing import Output, print_data, print_lines, printable, settings

if TYPE_CHECKING:
    from merlin_es.resources import Leases
    from projections.lease_state import Claim, Key, Lease, Resources

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

KeyOf = Annotated[str, typer.Argument(metavar="KEY", help="A key.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]


class Teller:
    """Tells a person on a terminal how long it may take, whenever that has changed."""

    def __init__(self) -> None:
        self._said = ""

    def tell(self, claim: Claim, state: Resources) -> None:
        """Print where a claim stands."""
        from projections.line import wanted

        if sys.stderr is None or not sys.stderr.isatty():
            return
        place = position_of(claim, state)
        parts = [f"{claim.claim_id}: place {place}"]
        parts += [_holder_text(key.key, state) for key in wanted(claim, state) if state.holder(key.key)]
        if (estimate_s := _estimate_s(claim, state)) is not None:
            parts.append(f"about {short(estimate_s)}, by its history")
        text = "; ".join(parts)
        if text != self._said:
            self._said = text
            typer.echo(printable(f"{text} (Ctrl-C leaves the line)"), err=True)


def open_leases(context: typer.Context) -> Leases:
    """Give the leases of the state root of this call."""
    from merlin_es import bootstrap

    return bootstrap.leases(settings(context))


def seconds(text: str, option: str) -> float:
    """Read a length of time."""
    match = _DURATION.fullmatch(text)
    if not match or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no length of time: write 90s, 10m, 2h or 1d", param_hint=option)
    return float(match[1]) * _UNITS_S[match[2]]


def point_of(context: typer.Context, text: str) -> tuple[int | None, str | None]:
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


def position_of(claim: Claim, state: Resources) -> int:
    """Tell the place of a claim in line, counted from 1."""
    from projections.line import position

    return position(claim, state)


def _estimate_s(claim: Claim, state: Resources) -> float | None:
    """Say how long those before it may take, if the keys are held for as long as they usually are."""
    from statistics import median

    from projections.line import wanted

    usual_s = [median(key.recent_s) for key in wanted(claim, state) if key.recent_s]
    return position_of(claim, state) * max(usual_s) if usual_s else None


def _holder_text(key: str, state: Resources) -> str:
    from merlin_es.deciders.lease import describe

    holder = state.holder(key)
    return describe(holder) if holder else f"{key} is free"


def wants_of(claim: Claim) -> str:
    """Say what a claim wants."""
    if claim.pool is None:
        return " ".join(claim.keys)
    return f"{claim.pool.count} of {claim.pool.label}={claim.pool.value}"


def print_leases(leases: Sequence[Lease], state: Resources, output: Output, *, several: bool) -> None:
    """Print leases as they were given."""
    if output.is_data:
        found = [lease_json(lease, state) for lease in leases]
        print_data(output, found if several else found[0])
        return
    for lease in leases:
        print_lines([("Lease ID", lease.lease_id), ("Resource", lease.key), ("Status", lease.status)])
        print_lines([("Fence", lease.fence), ("Until", lease.until)])


def print_details(lease: Lease, state: Resources) -> None:
    """Print what else there is to a lease, and who waits for its key."""
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


def print_key(key: Key, output: Output) -> None:
    """Print how a key stands."""
    if output.is_data:
        print_data(output, plain(key))
    else:
        print_lines([("Resource", key.key), ("Status", key.status), ("Reason", key.reason)])


def lease_json(lease: Lease, state: Resources) -> Mapping[str, object]:
    """Give a lease for programs, with who waits for its key."""
    from projections.line import line_for

    waiting = line_for(lease.key, state) if lease.lease_id in state.leases else []
    return {**plain(lease), "waiting": [claim_json(claim, state) for claim in waiting]}


def claim_json(claim: Claim, state: Resources) -> Mapping[str, object]:
    """Give a claim for programs, with its place in line."""
    return {**plain(claim), "position": position_of(claim, state)}


def plain(value: Lease | Claim | Key) -> Mapping[str, object]:
    """Give a struct as JSON has it."""
    import msgspec

    plain: Mapping[str, object] = msgspec.to_builtins(value)
    return plain


def short(length_s: float) -> str:
    """Show a length of time to people."""
    for unit, seconds in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if length_s >= 2 * seconds:
            return f"{length_s / seconds:.0f}{unit}"
    return f"{length_s:.0f}s"
