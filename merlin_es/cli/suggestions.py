"""Which names that there are come near to one that there is not?"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import typer
from typer._click import Command, Context
from typer.core import TyperGroup

if TYPE_CHECKING:
    from merlin_es.settings import Settings

NAMES_MAX: Final = 3
CUTOFF: Final = 0.6
LOOKED_AT_MAX: Final = 5_000
"""Of how many names the nearest are looked for; the newest runs are the ones that are meant."""


Find: TypeAlias = Callable[[str | None], list[str]]
"""Gives all names of a kind, in the state root that was named, if any was."""


def state_root_in(words: Sequence[str]) -> str | None:
    """Give the state root that typed words name; None when they name none."""
    for at, word in enumerate(words):
        if word == "--":
            break
        if word == "--state-root":
            return words[at + 1] if at + 1 < len(words) else None
        if word.startswith("--state-root="):
            return word.partition("=")[2]
    return None


def near(kind: str, name: str, state_root: str | None) -> Sequence[str]:
    """Give the names of a kind (`run`, `lease`, `key`, `example`) which come near to a name, the nearest first."""
    find = _KINDS.get(kind)
    if find is None or not name:
        return ()
    with suppress(Exception):  # A hint is a courtesy: whatever is wrong with the rest is said by who asks for it.
        return nearest(name, find(state_root))
    return ()


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Give the names that come near to one: those that it begins, else those that are spelled like it."""
    known = list(names)[:LOOKED_AT_MAX]
    begun = [each for each in known if len(name) >= 3 and each.startswith(name)]
    return begun[:NAMES_MAX] or difflib.get_close_matches(name, known, NAMES_MAX, CUTOFF)


def hint(what: str, name: str, names: Iterable[str]) -> None:
    """Tell who gets an empty answer which name may have been meant, where there is none like the one that was given."""
    known = list(names)
    if name not in known and (found := nearest(name, known)):
        typer.echo(f"merlin: there is no {what} {name!r}: did you mean {' or '.join(found)}?", err=True)


def runs(state_root: str | None) -> list[str]:
    """Give the ids of the runs, the newest first: an id ends in the time at which it was drawn."""
    from projections.layout import runs_path

    with suppress(OSError):
        names = [path.name for path in runs_path(settings(state_root).state_root).iterdir()]
        return sorted(names, key=lambda run: run.rpartition("-")[0][-14:], reverse=True)
    return []


def leases(state_root: str | None) -> list[str]:
    """Give the ids of the leases that are held."""
    return list(_document(state_root, "leases"))


def keys(state_root: str | None) -> list[str]:
    """Give the keys of the resources."""
    return list(_document(state_root, "keys"))


def claims(state_root: str | None) -> list[str]:
    """Give the ids of the claims in line."""
    return list(_document(state_root, "claims"))


def examples(_root: str | None) -> list[str]:
    """Give the names of the specs that come with Merlin."""
    from merlin_es.targetgen.inputs import example_names

    return list(example_names())


def _document(state_root: str | None, field: str) -> Mapping[str, object]:
    from projections.fresh import read_document
    from projections.layout import catalog_path

    catalog = read_document(catalog_path(settings(state_root).state_root)) or {}
    found = catalog.get(field)
    return found if isinstance(found, dict) else {}


def settings(state_root: str | None) -> Settings:
    """Give the settings of a call that names this state root, or none."""
    from merlin_es.settings import load

    return load(None if state_root is None else Path(state_root), os.environ, Path.cwd(), careful=False)


def near_verbs(name: str, context: Context) -> list[str]:
    """Give the verbs that may be meant: near ones of this group, else those of that very name elsewhere."""
    group = context.command
    assert isinstance(group, TyperGroup)  # noqa: S101  nobody else asks
    if found := difflib.get_close_matches(name, group.commands, NAMES_MAX, CUTOFF):
        return [f"{context.command_path} {each}" for each in found]
    paths = [path.split() for path, _ in verbs(context.find_root().command, "merlin")]
    named = [" ".join(path[: path.index(name) + 1]) for path in paths if name in path]
    return list(dict.fromkeys(named))[:NAMES_MAX]


def verbs(group: Command, path: str) -> Iterator[tuple[str, Command]]:
    """Yield every verb below a group, by the words that name it."""
    if not isinstance(group, TyperGroup):
        yield path, group
        return
    for name in group.commands:
        yield from verbs(group.commands[name], f"{path} {name}")


_KINDS: Final[Mapping[str, Find]] = {
    "run": runs,
    "lease": leases,
    "key": keys,
    "claim": claims,
    "example": examples,
}
