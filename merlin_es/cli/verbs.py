"""How is of all verbs only that one imported and built which somebody types?"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

import typer
from typer._click import Context
from typer._click.exceptions import UsageError
from typer._click.formatting import HelpFormatter
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

F = TypeVar("F", bound=Callable[..., Any])


class Verbs:
    """A group of verbs; functions are added to it as to a typer.Typer, and what other modules have by their names."""

    def __init__(self, text: str) -> None:
        self._app = _plain(help=text, no_args_is_help=True, cls=Group)
        self._builders = _Builders()

    def callback(self) -> Callable[[F], F]:
        """Have a function take the options that stand before the verb."""
        return self._app.callback()

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401  those of typer
        """Add a function as a verb, by default under its own name."""

        def add(function: F) -> F:
            verb = name or function.__name__
            self._builders[verb] = lambda: _built(verb, function, settings)
            return function

        return add

    def group_in(self, path: str) -> None:
        """Add the group that a module has as `app`, under the name of the module."""
        verb = _last(path)
        self._builders[verb] = lambda: import_module(path).app.group(verb)

    def function_in(self, path: str) -> None:
        """Add the function that is named as its module as a verb, without the `_` behind a word of Python."""
        name = _last(path)
        verb = name.rstrip("_")
        self._builders[verb] = lambda: _built(verb, getattr(import_module(path), name), {})

    def functions_in(self, path: str, *names: str) -> None:
        """Add functions of one module as verbs, each under its own name."""
        for name in names:
            self._builders[name] = partial(_found, path, name)

    def group(self, name: str) -> TyperGroup:
        """Build the group, and none of its verbs."""
        group = get_group(self._app)
        group.name = name
        group.commands = self._builders
        return group


class NoSuchVerb(UsageError):
    """There is no verb of that name; `near` has those that may be meant."""

    def __init__(self, name: str, near: list[str], context: Context) -> None:
        super().__init__(f"there is no verb {name!r}", context)
        self.near = near


class Group(TyperGroup):
    """A group that says which of its verbs may be meant."""

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:  # noqa: ANN401  what typer gives
        """Find the verb that the first word names; raises NoSuchVerb."""
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            from merlin_es.cli.suggestions import near_verbs

            raise NoSuchVerb(args[0], near_verbs(args[0], ctx), ctx)
        return super().resolve_command(ctx, args)


class Verb(TyperCommand):
    """A verb whose help ends with an example."""

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the example, with its comment before it."""
        from merlin_es.cli.examples import example_of

        if example := example_of(ctx.command_path):
            with formatter.section("Example"):
                formatter.write(f"{'':{formatter.current_indent}}$ {example}\n")


class _Builders(UserDict[str, Any]):
    """What builds each verb, by its name; looking one up builds it."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  a command of typer, which does not export the type
        return self.data[name]()


def _built(name: str, function: Callable[..., Any], settings: dict[str, Any]) -> Any:  # noqa: ANN401  likewise
    app = _plain()
    app.command(name, cls=Verb, **settings)(function)
    return get_command(app)


def _found(path: str, name: str) -> Any:  # noqa: ANN401  likewise
    return _built(name, getattr(import_module(path), name), {})


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _plain(**settings: Any) -> typer.Typer:  # noqa: ANN401  those of typer
    return typer.Typer(add_completion=False, rich_markup_mode=None, **settings)
