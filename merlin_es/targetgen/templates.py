"""What does a template say once data is put into it? Data in, text out; nothing else can be reached, or runs long.

Templates come with specs, and specs come from anybody. So a template may print, filter, compare, choose and loop, and
that is all: whatever else Jinja knows is refused before anything is rendered, there is nothing to call, and what it
sees are texts, numbers, lists and mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from merlin_es.errors import PromptInvalid

LOOPS_MAX: Final = 20_000
"""How often all loops of one rendering go round together."""
OUTPUT_MAX: Final = 512 * 1024
DEPTH_MAX: Final = 50

_ALLOWED: Final = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.List,
    nodes.Tuple,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.CondExpr,
    nodes.For,
    nodes.Filter,
    nodes.Test,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Keyword,
)
_OF_A_LOOP: Final = frozenset(("index", "index0", "revindex", "revindex0", "first", "last", "length"))
_FILTERS: Final = ("capitalize", "count", "default", "d", "dictsort", "first", "last", "length", "lower", "sort")
_MORE_FILTERS: Final = ("title", "trim", "unique", "upper")
_TESTS: Final = ("boolean", "defined", "eq", "false", "in", "mapping", "ne", "none", "number", "sequence", "string")
_MORE_TESTS: Final = ("true", "undefined", "==", "!=", "<", "<=", ">", ">=", "lt", "le", "gt", "ge")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without everything that a prompt has no use for."""

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, cache_size=0, finalize=_plain)
        self.globals.clear()
        own: dict[str, Callable[..., Any]] = {
            "bullet_list": bullet_list,
            "code_list": code_list,
            "comma_list": comma_list,
            "join": _join,
            "items": _items,
            "_counted": self._counted,
        }
        self.filters = {**{name: self.filters[name] for name in (*_FILTERS, *_MORE_FILTERS)}, **own}
        self.tests = {name: self.tests[name] for name in (*_TESTS, *_MORE_TESTS)}
        self.loops_left = LOOPS_MAX

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401  whatever the data holds
        """Look into a mapping; nothing else has anything inside."""
        if isinstance(obj, LoopContext) and attribute in _OF_A_LOOP:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401  likewise
        """Look into a mapping or a list."""
        found = isinstance(obj, Mapping) and isinstance(argument, str | int) and argument in obj
        if found or (isinstance(obj, list | tuple) and _is_index(argument, len(obj))):
            return obj[argument]
        return self.undefined(obj=obj, name=argument)

    def checked(self, body: str) -> Template:
        """Compile a template that does only what is allowed; its loops are counted."""
        tree = self.parse(body)
        _require_allowed(tree, DEPTH_MAX)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None, lineno=loop.lineno)
        for asked in tree.find_all(nodes.Filter):
            if asked.name not in self.filters:
                raise TemplateSyntaxError(f"there is no filter {asked.name!r} here", asked.lineno)
        return Template.from_code(self, self.compile(tree), {})

    def _counted(self, values: Iterable[object]) -> list[object]:
        if isinstance(values, Undefined):
            iter(values)  # Which says what is not defined.
        if not isinstance(values, list | tuple | Mapping):
            raise SecurityError("a loop goes over a list or a mapping, and this is neither")
        self.loops_left -= len(values)
        if self.loops_left < 0:
            raise SecurityError(f"its loops go round more than {LOOPS_MAX} times")
        return list(values)


def render(body: str, data: Mapping[str, object], source: str) -> str:
    """Return what a template says of plain data; raises PromptInvalid, which begins with `source`."""
    try:
        template = _compiled(body)
        _sandbox().loops_left = LOOPS_MAX
        return "".join(_bounded(template.generate(**data)))
    except TemplateError as error:
        line = f"line {error.lineno} of its text: " if isinstance(error, TemplateSyntaxError) else ""
        raise PromptInvalid(f"{source}: {line}{error.message}; see the variables in the README of targetgen") from None
    except (TypeError, ValueError, RecursionError, OverflowError, SyntaxError, MemoryError) as error:
        raise PromptInvalid(f"{source}: the template cannot be rendered ({error}): mend it") from None


def bullet_list(values: Iterable[object]) -> str:
    """Return values as a list of Markdown."""
    return "\n".join(f"- {value}" for value in values) or "- none"


def code_list(values: Iterable[object]) -> str:
    """Return values as a list of Markdown, each as code."""
    return "\n".join(f"- `{value}`" for value in values) or "- none"


def comma_list(values: Iterable[object]) -> str:
    """Return values on one line."""
    return ", ".join(str(value) for value in values) or "none"


def _join(values: Iterable[object], between: str = "") -> str:
    texts = [str(value) for value in values]
    if len(str(between)) * len(texts) > OUTPUT_MAX:
        raise SecurityError(f"it makes more than {OUTPUT_MAX // 1024} KiB")
    return str(between).join(texts)


def _items(values: Mapping[str, object]) -> list[tuple[str, object]]:
    return list(values.items()) if isinstance(values, Mapping) else []


@lru_cache(maxsize=1)
def _sandbox() -> _Sandbox:
    return _Sandbox()


@lru_cache(maxsize=512)
def _compiled(body: str) -> Template:
    return _sandbox().checked(body)


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > OUTPUT_MAX:
            raise SecurityError(f"it makes more than {OUTPUT_MAX // 1024} KiB")
        yield piece


def _require_allowed(node: nodes.Node, depth: int) -> None:
    if not isinstance(node, _ALLOWED) or (isinstance(node, nodes.For) and node.recursive):
        what = type(node).__name__.lower()
        raise TemplateSyntaxError(f"templates print, filter, choose and loop; {what!r} is not allowed", node.lineno)
    if isinstance(node, nodes.Name) and node.name == "self":
        raise TemplateSyntaxError("'self' is no data", node.lineno)
    if depth == 0:
        raise TemplateSyntaxError(f"nested more than {DEPTH_MAX} deep", node.lineno)
    for child in node.iter_child_nodes():
        _require_allowed(child, depth - 1)


def _plain(value: object) -> object:
    """Let through what is data; what is not defined says so by itself."""
    if isinstance(value, str | int | float | list | tuple | Mapping | Undefined | None):
        return value
    raise SecurityError(f"a {type(value).__name__} is no data")


def _is_index(argument: object, length: int) -> bool:
    return isinstance(argument, int) and -length <= argument < length
