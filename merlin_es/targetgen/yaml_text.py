"""What does a YAML text say? Plain data, without surprises: no tags, no merges, no doubled keys, no bombs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Final

import yaml

from merlin_es.errors import SpecInvalid

SIZE_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 40
NODES_MAX: Final = 50_000
"""How many values a document may have once its aliases are written out."""


def parse(text: str, name: str) -> object:
    """Return what `text` says; raises SpecInvalid, which begins with `name`."""
    if len(text) > SIZE_MAX:
        raise SpecInvalid(f"{name}: more than {SIZE_MAX // 1024} KiB, and no spec is that long: shorten it")
    try:
        _require_plain(text, name)
        document: object = yaml.load(text, Loader=_Reader)  # noqa: S506  a safe loader that refuses even more
        if _nodes(document) > NODES_MAX:
            raise SpecInvalid(f"{name}: its aliases stand for more than {NODES_MAX} values: write them out, or less")
        text.encode()
    except yaml.MarkedYAMLError as error:
        raise SpecInvalid(f"{name}: {_where(error)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise SpecInvalid(f"{name}: it cannot be read as YAML ({str(error).splitlines()[0]}): mend it") from None
    return document


class _Reader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the fast one where it is there
    """Builds plain data and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        found: dict[Hashable, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list or a mapping", key_node.start_mark)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """Leave a date the text that it is."""
        return str(node.value)


_Reader.add_constructor("tag:yaml.org,2002:timestamp", _Reader.construct_text)


def _require_plain(text: str, name: str) -> None:
    """Refuse what could run away while it is built; this pass builds nothing."""
    depth = 0
    for event in yaml.parse(text, Loader=_Reader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise SpecInvalid(f"{name}: {_line(event)}nested more than {DEPTH_MAX} deep: flatten it")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise SpecInvalid(f"{name}: {_line(event)}the tag {tag!r} has no meaning here: leave it out")
        if isinstance(event, yaml.ScalarEvent) and event.value in ("<<", "=") and event.implicit[0]:
            raise SpecInvalid(f"{name}: {_line(event)}{event.value!r} has no meaning here: write it out, or in quotes")


def _nodes(document: object) -> int:
    """Count the values of a document with each alias written out; endless is more than enough."""
    counts: dict[int, int] = {}
    open_ids: set[int] = set()

    def count(value: object) -> int:
        if isinstance(value, str):
            value.encode()  # Half a surrogate pair is no text, and could not be written.
        if not isinstance(value, dict | list):
            return 1
        if id(value) in open_ids:
            return NODES_MAX + 1
        if id(value) not in counts:
            open_ids.add(id(value))
            counts[id(value)] = 1 + sum(count(each) for each in _inside(value))
            open_ids.remove(id(value))
        return counts[id(value)]

    return count(document)


def _inside(value: dict[Any, object] | list[object]) -> Iterator[object]:
    if isinstance(value, list):
        return iter(value)
    return (each for pair in value.items() for each in pair)


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark else ""
    return f"{line}{error.problem or error.context or 'it cannot be read as YAML'}"


def _line(event: Any) -> str:  # noqa: ANN401  an event of yaml, which has no types for it
    return f"line {event.start_mark.line + 1}: "
