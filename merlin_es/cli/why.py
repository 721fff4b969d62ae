"""`merlin ray why`: which event set a value, who wanted it, and what it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from merlin_es.cli.chronicle import event_json, head_of, value_text
from merlin_es.cli.printing import AtOption, Output, OutputOption, print_data, settings
from merlin_es.cli.terminal import Part, Style, screen

if TYPE_CHECKING:
    from merlin_es.past import Explanation

SHOWN_MAX = 20
"""How many of the values that were there before are shown to people; JSON has all."""


def why(
    context: typer.Context,
    place: Annotated[
        str, typer.Argument(metavar="FILE#/POINTER|RUN", help="A place in a projected file; or a run, with a field.")
    ],
    field: Annotated[
        str | None, typer.Argument(help="The field of the run, like status or attempts/0/node_id.")
    ] = None,
    at: AtOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell which event set a value, who wanted it, what led there, and what it was before.

    FILE is a path under the state root, like runs/RUN/run_record.json.
    """
    from merlin_es import bootstrap
    from merlin_es.errors import Usage

    file, mark, pointer = place.partition("#")
    past, file = bootstrap.past_of(settings(context), file)
    if mark and field is None:
        found = past.why(file, pointer, at)
    elif field is not None and not mark:
        found = past.why_field(file, field, at)
    else:
        raise Usage("say which value: FILE#/json/pointer, or RUN and a field, like `why RUN status`")
    if output.is_data:
        print_data(output, _json(found))
    else:
        _show(found)


def _show(found: Explanation) -> None:
    from projections.history import Absent

    shown = screen()
    *before, last = found.settings
    gone = isinstance(last.value, Absent)
    value = "is not there any more" if gone else value_text(last.value)
    shown.show(Part(f"{found.file}#{found.pointer}", Style.STRONG), Part(value, Style.BAD if gone else Style.GOOD))
    shown.show("set by", *head_of(last.event, stream=False), indent=2)
    stream = last.event.stream
    for reason in found.causes:
        how = "because of" if reason.recorded else "after"
        shown.show(how, *head_of(reason.event, stream=reason.event.stream != stream), indent=4)
    if before:
        shown.show("before that it was", indent=2)
    for setting in reversed(before[-SHOWN_MAX:]):
        old = "not there" if isinstance(setting.value, Absent) else value_text(setting.value)
        shown.show(Part(old, Style.CHANGED), *head_of(setting.event, stream=False), indent=4)
    if len(before) > SHOWN_MAX:
        shown.show(f"… and {len(before) - SHOWN_MAX} more values: -o json has them all", indent=4)


def _json(found: Explanation) -> object:
    from projections.history import Absent

    settings = [
        {
            **({"absent": True} if isinstance(setting.value, Absent) else {"value": setting.value}),
            "event": event_json(setting.event),
        }
        for setting in found.settings
    ]
    return {
        "file": found.file,
        "pointer": found.pointer,
        "settings": settings,
        "causes": [{"recorded": reason.recorded, "event": event_json(reason.event)} for reason in found.causes],
    }
