"""How are events, changes and values of the past shown to people, and to programs?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from merlin_es.cli.printing import printable
from merlin_es.cli.terminal import Part, Style
from projections.layout import EXECUTION_BUNDLE, RUN_REQUEST

if TYPE_CHECKING:
    from eventlog import Event
    from merlin_es.chronicles import Chronicle
    from merlin_es.moments import Point
    from projections.history import Change

NameArgument = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or the name of a stream.")]

_GOOD: Final = frozenset({"completed", "granted", "recovered", "reachable", "finished", "succeeded"})
_BAD: Final = frozenset(
    {"anomaly_seen", "blocked", "cancelled", "error", "expired", "failed", "lost", "repaired", "revoked", "unreachable"}
)
WRAPPED: Final = "; merlin_wrapper="
"""What stands in an entrypoint between the command of a run and the wrapper around it."""
_FOR_PROGRAMS: Final = frozenset({"tick"})
"""The clock of the boot, which only rules read."""
_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


def head_of(event: Event, *, stream: bool) -> Iterator[Part]:
    """Say which event it is, when, and who wanted it through which door; and of which `stream`, where that is told."""
    yield Part(event.time, Style.DIM)
    yield Part(f"{event.stream}#{event.seq}" if stream else f"#{event.seq}", Style.STRONG)
    yield Part(event.type, style_of(event.type))
    yield Part(f"{event.actor} ({event.door})")


def content_of(event: Event) -> Iterator[Part]:
    """Say what an event says to people, each field that is not empty as one part; `-o jsonl` has all there is."""
    if event.cause is not None:
        yield Part(f"cause={event.cause}", Style.DIM)
    if event.type == "log.checkpoint":
        yield from value_parts({"fold": event.data.get("fold"), "files": list(_names(event.data))}, Style.DIM)
        return
    yield from value_parts({name: value for name, value in event.data.items() if name not in _FOR_PROGRAMS}, Style.DIM)


def _names(data: Mapping[str, object]) -> Mapping[str, object]:
    """Give the files of a checkpoint; their digests and the trail say nothing to people."""
    files = data.get("files")
    return files if isinstance(files, dict) else {}


def style_of(event_type: str) -> Style:
    """Give the colour of a type of event: what ended well, what did not, and all others."""
    word = event_type.rpartition(".")[2]
    if word in _GOOD:
        return Style.GOOD
    return Style.BAD if word in _BAD or word.endswith("_failed") else Style.NAME


def change_parts(change: Change, place: str) -> list[Part]:
    """Say what changed at a place: `+` what is new, `-` what is gone."""
    from projections.history import Absent

    if isinstance(change.before, Absent):
        return [Part(f"+ {place}", Style.GOOD), *value_parts(change.after)]
    if isinstance(change.after, Absent):
        return [Part(f"- {place}", Style.BAD), *value_parts(change.before, Style.DIM)]
    return [
        Part(f"  {place}", Style.CHANGED),
        Part(value_text(_brief(change.before)), Style.DIM),
        Part(f"→ {value_text(_brief(change.after))}", gap=1),
    ]


def is_worth_showing(change: Change) -> bool:
    """Tell whether a change says something new to people: not that a field is empty, nor when the last event was.

    What was asked for stands in the record too, but for the first time, and where a task stands in a file of its own.
    """
    from projections.history import Absent

    if (isinstance(change.before, Absent) and change.after in _EMPTY) or change.pointer == "/updated_at":
        return False
    is_said_elsewhere = change.file == EXECUTION_BUNDLE and "/execution_state/" in change.pointer
    return not is_said_elsewhere and not change.file.endswith(f"/{RUN_REQUEST}")


def value_parts(value: object, style: Style = Style.PLAIN) -> Iterator[Part]:
    """Give a value in parts: of an object the fields that are not empty, of many objects what tells them apart."""
    match value:
        case dict():
            said = said_of(value)
            yield from (Part(f"{name}={value_text(_brief(each))}", style) for name, each in said.items())
        case list() if all(isinstance(each, dict) and "name" in each for each in value) and value:
            yield Part(f"{len(value)}:", style)
            yield from (Part(value_text(each["name"]), style) for each in value if "name" in each)
        case _:
            yield Part(value_text(_brief(value)), style)


def _brief(value: object) -> object:
    """Give of an entrypoint what it runs: the wrapper around that is the same for all, and takes half a screen."""
    command, wrapped, _ = value.partition(WRAPPED) if isinstance(value, str) else ("", "", "")
    return f"{command}; …" if wrapped else value


def said_of(value: Mapping[str, object]) -> dict[str, object]:
    """Give the fields of an object that say something, and of those within it too."""
    said = {name: said_of(each) if isinstance(each, dict) else each for name, each in value.items()}
    return {name: each for name, each in said.items() if each not in _EMPTY}


def value_text(value: object) -> str:
    """Give a value as people read it: text as it is where it can be taken for nothing else, else JSON on one line."""
    if isinstance(value, str) and value.isprintable() and value == value.strip() != "":
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def event_json(event: Event) -> dict[str, Any]:
    """Give an event as its log has it."""
    import msgspec

    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    return decoded


def change_json(change: Change) -> dict[str, Any]:
    """Give a change; what is absent is not there."""
    from projections.history import Absent

    sides = {"before": change.before, "after": change.after}
    there: Mapping[str, object] = {name: value for name, value in sides.items() if not isinstance(value, Absent)}
    return {"file": change.file, "pointer": change.pointer, **there}


def note(point: Point) -> None:
    """Tell people what they should know of the moment that was found."""
    if point.note:
        typer.echo(f"merlin: {point.note}", err=True)


def note_gone(past: Chronicle) -> None:
    """Tell people of which executions nothing can be shown, and what to do."""
    for directory, run_id in past.elsewhere.gone.items():
        typer.echo(
            printable(
                f"merlin: {run_id} was to carry out what lay in {directory}, and there is no log any more: "
                "where it was moved to, `merlin ray events DIRECTORY` shows it"
            ),
            err=True,
        )


def place_of(change: Change, main: str) -> str:
    """Name a place: its pointer, with the name of the file before it where that is not `main`."""
    if change.file == main:
        return change.pointer
    common = os.path.commonpath([os.path.dirname(change.file), os.path.dirname(main)]) if main else ""  # noqa: PTH120  texts
    name = os.path.relpath(change.file, common) if common else change.file
    return f"{name}#{change.pointer}" if change.pointer else name
