"""`merlin ray diff`: one run at two moments, or two runs beside each other."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.chronicle import change_json, change_parts, head_of, is_worth_showing, note, place_of, style_of
from merlin_es.cli.printing import MOMENT, print_json, print_json_line, settings
from merlin_es.cli.terminal import Part, Screen, Style, screen
from merlin_es.counts import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merlin_es.past import Difference, End
    from projections.alignment import Pair, Told
    from projections.history import Change

SAME_SHOWN = 2
"""How many events that say the same are shown on each side of one that does not."""


class Form(StrEnum):
    """How to print a difference."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    JSONPATCH = "jsonpatch"


_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00) ")
_SIGNS = {"same": "  =", "differs": "  ~", "removed": "  -", "added": "  +"}
_STYLES = {"same": Style.DIM, "differs": Style.CHANGED, "removed": Style.BAD, "added": Style.GOOD}


def diff(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, a stream, or a target directory.")],
    other: Annotated[str | None, typer.Argument(metavar="[RUN2]", help="Another one, to compare it with.")] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="MOMENT", help=f"Twice, once for each side: {MOMENT}.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this file, for -o jsonpatch [default: run_record.json].")
    ] = None,
    output: Annotated[
        Form, typer.Option("-o", "--output", help="For people, for programs, or as RFC 6902.")
    ] = Form.TEXT,
) -> None:
    """Compare a run at two moments, or two runs: where they first part, and what is different in the end.

    With one --at, the other side is as it is now. A patch leads from the file of the first side to that of the second.
    """
    from merlin_es import bootstrap
    from merlin_es.errors import Usage
    from merlin_es.past import difference, patch_between

    moments = at or []
    if len(moments) > 2 or (other is None and not moments):
        raise Usage("this says not what to compare: give --at twice, or one --at to compare with now, or two runs")
    where = settings(context)
    past, name = bootstrap.past_of(where, run)
    there, name_there = (past, name) if other is None else bootstrap.past_of(where, other)
    one = past.end(name, moments[0] if moments else None)
    two = there.end(name_there, moments[1] if moments[1:] else None)
    for end in (one, two):
        note(end.point)
    if output == Form.JSONPATCH:
        print_json(patch_between(one, two, file))
        return
    found = difference(one, two)
    if output == Form.JSON:
        print_json(_json(found))
    elif output == Form.JSONL:
        print_json_line(_json(found))
    else:
        _show(screen(), found)


def _show(shown: Screen, found: Difference) -> None:
    one, two = found.one, found.two
    if found.is_of_one:
        verb = "undone on the way back" if one.point.seq > two.point.seq else "between"
        shown.show(Part(f"{one.stream}#{one.point.seq} and #{two.point.seq}", Style.STRONG))
        shown.show(f"{counted(len(found.between), 'event')} {verb}")
        for event in found.between:
            shown.show(*head_of(event, stream=False), indent=2)
    else:
        for end, sign in ((one, Part("-", Style.BAD)), (two, Part("+", Style.GOOD))):
            place = "" if one.past.root == two.past.root else f"in {end.past.root}"
            shown.show(sign, f"{end.stream}#{end.point.seq}", Part(place, Style.DIM))
        _parting(shown, found.pairs)
        _pairs(shown, found.pairs)
    changes = [change for change in found.changes if is_worth_showing(change) and not _is_own(change, found)]
    is_of_two_places = one.past.root != two.past.root
    aside = "" if found.is_of_one else ", times and own paths aside" if is_of_two_places else ", times aside"
    shown.show(Part(f"{'what' if changes else 'nothing'} is different then{aside}", Style.STRONG))
    for change in changes:
        shown.show(*change_parts(change, place_of(change, one.main)), indent=2)


def _is_own(change: Change, found: Difference) -> bool:
    """Tell whether a change is only one of when, or in which directory, two did the same."""
    if found.is_of_one or not (change.before and change.after):
        return False
    return change.pointer.endswith("_at") or _told(change.before, found.one) == _told(change.after, found.two)


def _told(value: object, end: End) -> object:
    """Give a text without the time at which it begins, as the lines of a log do, and without where it lies."""
    return _TIME.sub("", value).replace(str(end.past.root), "") if isinstance(value, str) else value


def _parting(shown: Screen, pairs: Sequence[Pair]) -> None:
    same = next((place for place, pair in enumerate(pairs) if pair.kind != "same"), None)
    if same is None:
        shown.show(f"all {len(pairs)} events say the same")
        return
    one = next((pair.one for pair in pairs[same:] if pair.one), None)
    other = next((pair.other for pair in pairs[same:] if pair.other), None)
    names = [f"#{told.seq} {told.type}" if told else "no more" for told in (one, other)]
    alike = {0: "they part at once:", 1: "1 event says the same, then they part:"}
    shown.show(
        alike.get(same, f"{same} events say the same, then they part:"),
        Part(names[0], Style.BAD),
        "and",
        Part(names[1], Style.GOOD),
    )


def _pairs(shown: Screen, pairs: Sequence[Pair]) -> None:
    groups = [(is_same, list(group)) for is_same, group in groupby(pairs, key=lambda pair: pair.kind == "same")]
    for place, (is_same, group) in enumerate(groups):
        if not is_same or len(group) <= 2 * SAME_SHOWN + 1:
            _lines(shown, group)
            continue
        begin = SAME_SHOWN if place else 0
        end = SAME_SHOWN if place + 1 < len(groups) else 0
        _lines(shown, group[:begin])
        shown.show(Part(f"  … {len(group) - begin - end} events that say the same", Style.DIM))
        _lines(shown, group[len(group) - end :])


def _lines(shown: Screen, pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        told = pair.one or pair.other
        numbers = " ".join(f"#{each.seq}" if each else "" for each in (pair.one, pair.other))
        assert told  # noqa: S101  one of the two is there
        style = style_of(told.type) if pair.kind == "same" else _STYLES[pair.kind]
        shown.show(Part(_SIGNS[pair.kind], _STYLES[pair.kind]), numbers.ljust(9), Part(told.type, style))


def _json(found: Difference) -> object:
    def end(of: End) -> object:
        return {"stream": of.stream, "seq": of.point.seq, "h": of.stand.head.h}

    def told(of: Told | None) -> object:
        return None if of is None else {"seq": of.seq, "type": of.type, "time": of.time}

    pairs = [{"kind": pair.kind, "one": told(pair.one), "two": told(pair.other)} for pair in found.pairs]
    return {
        "one": end(found.one),
        "two": end(found.two),
        "events": pairs or [{"seq": event.seq, "type": event.type, "time": event.time} for event in found.between],
        "first_divergence": next((pair for pair in pairs if pair["kind"] != "same"), None),
        "changes": [change_json(change) for change in found.changes],
    }
