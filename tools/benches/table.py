"""How is what was measured shown, to people and to programs?"""

from __future__ import annotations

from collections.abc import Sequence

from benches.race import OURS, Absent, Goal, Row, Standing, Unit

_HEADINGS = ("what", "floor", "aim", "ratio", "half of rounds", "", "baseline", "ours", "peers (ratio to the baseline)")
_NUMBERS = (1, 2, 3)


def as_text(rows: Sequence[Row]) -> str:
    """Give the rows as one aligned table."""
    lines = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Give the rows as a table for a README."""
    headings = (*(heading for heading in _HEADINGS[:5]), *_HEADINGS[6:])
    lines = [headings, tuple("---" for _ in headings)]
    for row in rows:
        what, floor, aim, ratio, half, verdict, *rest = _cells(row)
        lines.append((what, floor, aim, f"{ratio} {verdict}".strip(), half, *rest))
    return "\n".join(f"| {' | '.join(line)} |".replace("  |", " |") for line in lines)


def as_json(row: Row) -> dict[str, object]:
    """Give one row as JSON has it."""
    goal = row.goal
    return {
        "what": row.what,
        "unit": row.unit,
        "better": None if goal is None else "more" if goal.more else "less",
        "floor": goal and goal.floor,
        "aim": goal and goal.aim,
        "ratio": row.ours.ratio,
        "half_of_rounds": [row.ours.low, row.ours.high],
        "missed": row.missed,
        "baseline": _contestant(row.baseline, row.unit),
        "ours": _contestant(row.ours, row.unit),
        "peers": [_contestant(peer, row.unit) for peer in row.peers],
    }


def _cells(row: Row) -> tuple[str, ...]:
    floor, aim = _bounds(row.goal)
    verdict = "MISSED" if row.missed else ""
    peers = "; ".join(_peer(peer, row.unit) for peer in row.peers)
    return (
        row.what,
        floor,
        aim,
        f"{row.ours.ratio:.2f}",
        f"{row.ours.low:.2f} to {row.ours.high:.2f}",
        verdict,
        _entry(row, row.baseline),
        _entry(row, row.ours),
        peers,
    )


def _bounds(goal: Goal | None) -> tuple[str, str]:
    if goal is None:
        return "-", "-"
    sign = "≥" if goal.more else "≤"
    return "-" if goal.floor is None else f"{sign} {goal.floor:g}", f"{sign} {goal.aim:g}"


def _entry(row: Row, standing: Standing) -> str:
    name = "" if standing.name == OURS else f" ({standing.name})"
    return f"{_amount(standing.cost, row.unit)}{name}"


def _peer(peer: Standing | Absent, unit: Unit) -> str:
    if isinstance(peer, Absent):
        return f"{peer.name}: {peer.why}"
    return f"{peer.name} {_amount(peer.cost, unit)} ({peer.ratio:.2f})"


def _amount(cost: float, unit: Unit) -> str:
    value = _value(cost, unit)
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def _value(cost: float, unit: Unit) -> float:
    match unit:
        case "µs":
            return cost * 1e6
        case "ms":
            return cost * 1e3
        case "events/s":
            return 1 / cost
        case "MB":
            return cost / 1e6
        case "requests":
            return cost


def _contestant(one: Standing | Absent, unit: Unit) -> dict[str, object]:
    if isinstance(one, Absent):
        return {"name": one.name, "absent": one.why}
    return {"name": one.name, "median": _value(one.cost, unit), "ratio": one.ratio}
