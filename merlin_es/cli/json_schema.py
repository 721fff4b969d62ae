"""Which JSON Schema (draft 2020-12) says what a verb prints?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from merlin_es.cli.shapes import SHAPES, ListOf, OneOf, Together

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DEFS: Final = "#/$defs/{name}"
_ANYTHING: Final = {"description": "Whatever JSON can say."}
Schema = dict[str, Any]


def id_of(verb: str) -> str:
    """Give the name of the schema of a verb, which its version is part of."""
    version, _ = SHAPES[verb]
    return f"urn:merlin-es:schema:{verb.replace(' ', '.')}:{version}"


def schema_of(verb: str, *, of_a_line: bool = False) -> Schema:
    """Give the schema of what a verb prints with `-o json`, or of each line that it prints with `-o jsonl`."""
    _, shape = SHAPES[verb]
    definitions: Schema = {}
    drawn = _drawn(_of_a_line(shape) if of_a_line else shape, definitions)
    head = {"$schema": DIALECT, "$id": id_of(verb) + (":line" if of_a_line else ""), "title": f"merlin {verb}"}
    return {**head, **drawn, "$defs": dict(sorted(definitions.items()))} if definitions else {**head, **drawn}


def _of_a_line(shape: Any) -> Any:  # noqa: ANN401  any type may be a shape
    match shape:
        case ListOf(of=of):
            return of
        case OneOf(shapes=shapes):
            lines = tuple(_of_a_line(each) for each in shapes)
            return lines[0] if all(each == lines[0] for each in lines) else OneOf(lines)
    return shape


def _drawn(shape: Any, definitions: Schema) -> Schema:  # noqa: ANN401  any type may be a shape
    match shape:
        case ListOf(of=of):
            return {"type": "array", "items": _drawn(of, definitions)}
        case OneOf(shapes=shapes):
            return {"anyOf": [_drawn(each, definitions) for each in shapes]}
        case Together(name=name):
            definitions[name] = _together(shape, definitions)
            return {"$ref": _DEFS.format(name=name)}
    return _of_type(shape, definitions)


def _together(shape: Together, definitions: Schema) -> Schema:
    properties: Schema = {}
    required: dict[str, None] = {}
    for part in shape.parts:
        found: Schema = {}
        _of_type(part, found)
        own = found.pop(part.__name__)
        definitions |= found
        properties |= {name: each for name, each in own["properties"].items() if name not in shape.left_out}
        required |= dict.fromkeys(own["required"])
    needed = [name for name in required if name in properties and name not in shape.at_times]
    return {"title": shape.name, "type": "object", "properties": properties, "required": needed}


def _of_type(kind: Any, definitions: Schema) -> Schema:  # noqa: ANN401  any type may be a shape
    """Draw a type and all that it is made of, each under its name."""
    [drawn], found = msgspec.json.schema_components([kind], schema_hook=lambda _: dict(_ANYTHING), ref_template=_DEFS)
    always = dict(_always_there(inspect.type_info(kind), set()))
    for name, each in found.items():
        if "properties" in each:
            each["required"] = [field for field in each["properties"] if field in always.get(name, each["properties"])]
            for field in each["properties"].values():
                field.pop("default", None)  # Whatever it is, it is printed.
        if "description" in each:
            each["description"] = re.sub(r"\s+", " ", each["description"])
    definitions |= found
    return drawn


def _always_there(info: Any, seen: set[type]) -> Iterator[tuple[str, frozenset[str]]]:  # noqa: ANN401  any kind of type
    """Yield, for each type with fields, the names of those that are printed always."""
    if isinstance(info, inspect.StructType | inspect.DataclassType | inspect.TypedDictType):
        if info.cls in seen:
            return
        seen.add(info.cls)
        leaves_out = isinstance(info, inspect.TypedDictType) or (
            isinstance(info, inspect.StructType) and info.cls.__struct_config__.omit_defaults
        )
        yield (
            info.cls.__name__,
            frozenset(each.encode_name for each in info.fields if each.required or not leaves_out),
        )
        for each in info.fields:
            yield from _always_there(each.type, seen)
        return
    for name in getattr(info, "__struct_fields__", ()):
        part = getattr(info, name)
        for each in part if isinstance(part, tuple) else (part,):
            if isinstance(each, inspect.Type):
                yield from _always_there(each, seen)
