"""What did each event change in the files that are folded from its stream?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from eventlog import Event
from projections import patch
from projections.patch import Json
from projections.projection import STATE_ROOT, Files, Folds
from projections.snapshots import Stand

STAMP: Final = "as_of"
"""The field of a file that says what it was folded from: it changes with every event, and says nothing new."""


class Absent:
    """Stands for what is not there, which is something else than null."""


ABSENT: Final = Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One place of one file (its path under the state root) and what stood there before and after."""

    file: str
    pointer: str
    before: Json | Absent
    after: Json | Absent

    def __str__(self) -> str:
        return f"{self.file}#{self.pointer}"


@dataclass(frozen=True, slots=True)
class Step:
    """An event, with what it changed."""

    event: Event
    changes: tuple[Change, ...]


def documents(stream: str, stand: Stand, folds: Folds = STATE_ROOT) -> dict[str, Json]:
    """Give what the files of `stream` said, by their paths under the state root."""
    return {name: cast("Json", msgspec.json.decode(content)) for name, content in _files(stream, stand, folds).items()}


def steps(stream: str, triples: Iterable[tuple[Stand, Event, Stand]], folds: Folds = STATE_ROOT) -> Iterator[Step]:
    """Yield the events of `stream`, each with what it changed from what was before to what is after."""
    files: Files | None = None
    for before, event, after in triples:
        old = _files(stream, before, folds) if files is None else files
        files = _files(stream, after, folds)
        yield Step(event, tuple(_changed(old, files)))


def changes(before: Files, after: Files) -> Iterator[Change]:
    """Yield where files say something else; a file that is new, or gone, is one change for each of its fields."""
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield from _changes(name, _decoded(before, name), _decoded(after, name))


def changes_of(stream: str, before: Stand, after: Stand, folds: Folds = STATE_ROOT) -> tuple[Change, ...]:
    """Give what one event has changed in the files of `stream`; what it does not write out stays as it was."""
    return tuple(_changed(_files(stream, before, folds), _files(stream, after, folds)))


def _changed(before: Files, after: Files) -> Iterator[Change]:
    return changes({name: content for name, content in before.items() if name in after}, after)


def _files(stream: str, stand: Stand, folds: Folds) -> Files:
    return folds.all_files(stream, *stand) if stand.head.seq else {}


def _decoded(files: Files, name: str) -> Json:
    if name not in files:
        return {}
    document = cast("Json", msgspec.json.decode(files[name]))
    if isinstance(document, dict):
        document.pop(STAMP, None)
    return document


def _changes(name: str, before: Json, after: Json) -> Iterator[Change]:
    if not (isinstance(before, dict) and isinstance(after, dict)) and {} in (before, after):
        yield Change(name, "", before if before != {} else ABSENT, after if after != {} else ABSENT)
        return
    for operation in patch.diff(before, after):
        # What is changed within an array, or removed from it, is named by where it stood before.
        was = ABSENT if operation.op == "add" else patch.resolve(before, operation.path)
        yield Change(name, operation.path, was, ABSENT if operation.op == "remove" else operation.value)
