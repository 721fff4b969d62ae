"""What has changed from one JSON document to another, and what becomes of a document when that change is made?

A change is a JSON Patch (RFC 6902) of the operations that say what is there afterwards: `add`, `remove` and `replace`.
Places are JSON Pointers (RFC 6901).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_END = "-"


class NoSuchPlace(Exception):
    """A pointer leads to nothing in the document that it was made for another version of."""


class Operation(NamedTuple):
    """One step of a change; `value` is what stands at `path` afterwards, where something does."""

    op: Literal["add", "remove", "replace"]
    path: str
    value: Json = None

    def as_json(self) -> dict[str, Json]:
        """Give the step as RFC 6902 writes it."""
        step: dict[str, Json] = {"op": self.op, "path": self.path}
        return step if self.op == "remove" else {**step, "value": self.value}


def diff(before: Json, after: Json) -> tuple[Operation, ...]:
    """Give the steps from `before` to `after`; none when they are the same, down to the types of numbers."""
    return tuple(_diff("", before, after))


def apply(document: Json, operations: Iterable[Operation]) -> Json:
    """Give what becomes of `document`, which stays as it is; raises NoSuchPlace where there is nothing to change."""
    for operation in operations:
        document = _applied(document, keys_of(operation.path), operation)
    return document


def resolve(document: Json, pointer: str) -> Json:
    """Give what stands at `pointer`; raises NoSuchPlace."""
    for key in keys_of(pointer):
        document = _child(document, key, pointer)
    return document


def pointer_of(keys: Iterable[str | int]) -> str:
    """Give the pointer that leads through `keys`."""
    return "".join(f"/{_escaped(str(key))}" for key in keys)


def keys_of(pointer: str) -> tuple[str, ...]:
    """Give the keys that `pointer` leads through; raises NoSuchPlace for what is no pointer."""
    if pointer and not pointer.startswith("/"):
        raise NoSuchPlace(f"{pointer!r} is no JSON pointer: begin it with `/`, or give an empty one for all")
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:])


def is_same(one: Json, other: Json) -> bool:
    """Tell whether two documents say the same; 1, 1.0 and true do not, and neither does another order of an array."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(is_same, one, other))
        case float(), float():
            return repr(one) == repr(other)  # Where NaN is NaN, and -0.0 is not 0.0.
    return type(one) is type(other) and one == other


def _diff(path: str, before: Json, after: Json) -> Iterator[Operation]:
    match before, after:
        case dict(), dict():
            yield from _diff_of_objects(path, before, after)
        case list(), list():
            yield from _diff_of_arrays(path, before, after)
        case _ if not is_same(before, after):
            yield Operation("replace", path, after)


def _diff_of_objects(path: str, before: dict[str, Json], after: dict[str, Json]) -> Iterator[Operation]:
    for key in before:
        if key not in after:
            yield Operation("remove", f"{path}/{_escaped(key)}")
    for key, value in after.items():
        place = f"{path}/{_escaped(key)}"
        if key in before:
            yield from _diff(place, before[key], value)
        else:
            yield Operation("add", place, value)


def _diff_of_arrays(path: str, before: list[Json], after: list[Json]) -> Iterator[Operation]:
    """Leave what both begin and end with, change what lies between place by place, then add or remove the rest."""
    begin = _common(before, after)
    end = _common(before[begin:][::-1], after[begin:][::-1])
    old, new = before[begin : len(before) - end], after[begin : len(after) - end]
    both = min(len(old), len(new))
    for place in range(both):
        yield from _diff(f"{path}/{begin + place}", old[place], new[place])
    for place in reversed(range(both, len(old))):
        yield Operation("remove", f"{path}/{begin + place}")
    for place in range(both, len(new)):
        yield Operation("add", f"{path}/{begin + place}", new[place])


def _common(one: Sequence[Json], other: Sequence[Json]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if not is_same(mine, theirs):
            break
        count += 1
    return count


def _applied(document: Json, keys: Sequence[str], operation: Operation) -> Json:
    if not keys:
        return None if operation.op == "remove" else operation.value
    key, *rest = keys
    if isinstance(document, dict):
        if rest:
            return {**document, key: _applied(_child(document, key, operation.path), rest, operation)}
        return _changed_object(document, key, operation)
    if isinstance(document, list):
        if rest:
            child = _applied(_child(document, key, operation.path), rest, operation)
            return [*document[: int(key)], child, *document[int(key) + 1 :]]
        return _changed_array(document, key, operation)
    raise _nothing_at(operation.path)


def _changed_object(document: dict[str, Json], key: str, operation: Operation) -> Json:
    if operation.op != "add" and key not in document:
        raise _nothing_at(operation.path)
    if operation.op == "remove":
        return {name: value for name, value in document.items() if name != key}
    return {**document, key: operation.value}


def _changed_array(document: list[Json], key: str, operation: Operation) -> Json:
    if operation.op == "add":
        at = len(document) if key == _END else _place(key, len(document) + 1, operation.path)
        return [*document[:at], operation.value, *document[at:]]
    at = _place(key, len(document), operation.path)
    kept = [] if operation.op == "remove" else [operation.value]
    return [*document[:at], *kept, *document[at + 1 :]]


def _child(document: Json, key: str, pointer: str) -> Json:
    if isinstance(document, dict) and key in document:
        return document[key]
    if isinstance(document, list):
        return document[_place(key, len(document), pointer)]
    raise _nothing_at(pointer)


def _place(key: str, count: int, pointer: str) -> int:
    if key.isascii() and key.isdecimal() and str(int(key)) == key and int(key) < count:
        return int(key)
    raise _nothing_at(pointer)


def _nothing_at(pointer: str) -> NoSuchPlace:
    return NoSuchPlace(f"there is nothing at {pointer!r}: it was made for another version of the document")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
