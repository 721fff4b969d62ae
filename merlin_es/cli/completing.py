"""What may come next on a command line that a shell asks about? Names come from what is on disk, nothing is folded.

A shell calls `merlin WORDS… WORD` with the variable that `ASKED` names set to its own name, WORD being the one that the
cursor is in, and gets one candidate a line: zsh as `value:help`, fish with a tab between. Whatever goes wrong, there
are no candidates, and nobody is told: a shell would print it between the words.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from typer._click import Context
from typer._click.core import Parameter
from typer._click.shell_completion import _resolve_context, _resolve_incomplete
from typer.core import TyperGroup

from merlin_es.cli import suggestions

ASKED: Final = "_MERLIN_COMPLETE"
_OF_OPTIONS: Final = {
    "--run": "RUN",
    "--lease": "KEY",
    "--key": "KEY",
    "--example": "EXAMPLE",
    "--status": "STATUS",
    "--type": "TYPE",
    "--question-id": "QUESTION",
}
"""What options take whose metavar does not say it."""
_TYPE: Final = re.compile(r'^    type: (?:Literal\["|ClassVar\[str\] = ")([a-z_]+\.[a-z_]+)"', re.MULTILINE)


class Candidate(NamedTuple):
    """A word that may come next, and what it means."""

    word: str
    help: str = ""


def answer(group: TyperGroup, shell: str, words: Sequence[str]) -> int:
    """Print what may stand in place of the last of `words`; gives the exit code, which is always 0."""
    try:
        meant = [_unquoted(word) for word in words]
        *before, last = _joined(meant) if shell == "bash" else meant or [""]
        lead = "" if shell == "bash" or not last.startswith("--") else last[: last.find("=") + 1]
        for each in candidates(group, before, last, with_help=shell != "bash"):
            sys.stdout.write(_line(shell, Candidate(lead + each.word, each.help)) + "\n")
    except Exception:  # noqa: BLE001, S110  nothing goes on, and a shell that completes has no place for an error
        pass
    return 0


def candidates(group: TyperGroup, before: Sequence[str], last: str, *, with_help: bool) -> list[Candidate]:
    """Give what may stand for `last` after the words `before`, in an order that shells keep or make themselves."""
    context = _resolve_context(group, {}, "merlin", list(before))
    asked, begun = _resolve_incomplete(context, list(before), last)
    if isinstance(asked, Parameter):
        found: Iterable[Candidate] = (Candidate(word) for word in _values(asked, context, before))
    elif isinstance(asked, TyperGroup) and not begun.startswith("-"):
        said = {name: asked.commands[name].get_short_help_str() for name in asked.commands if with_help}
        found = (Candidate(name, said.get(name, "")) for name in asked.commands)
    else:
        found = (Candidate(each.value, each.help or "") for each in asked.shell_complete(context, begun))
    return [each for each in found if each.word.startswith(begun)]


def event_types() -> list[str]:
    """Give the types of all events, as the vocabulary has them: to import it takes as long as all else together."""
    import projections.events

    texts = (path.read_text() for path in sorted(Path(projections.events.__path__[0]).glob("*.py")))
    return list(dict.fromkeys(kind for text in texts for kind in _TYPE.findall(text)))


def _values(parameter: Parameter, context: Context, before: Sequence[str]) -> list[str]:
    if choices := getattr(parameter.type, "choices", None):
        return [str(getattr(each, "value", each)) for each in choices]
    named = next((_OF_OPTIONS[each] for each in parameter.opts if each in _OF_OPTIONS), parameter.metavar or "")
    if named == "QUESTION":
        return _questions(context)
    root = suggestions.state_root_in(before)
    kinds = named.replace("[", "").replace("]", "").rstrip("…").split("|")
    return [word for kind in kinds if kind in _KINDS for word in _KINDS[kind](root)]


def _questions(context: Context) -> list[str]:
    """Give the questions of an execution that are open."""
    from projections.fresh import read_document
    from projections.layout import OPERATOR_REQUESTS

    directory = suggestions.settings(None).workspace / str(context.params.get("target_dir") or "")
    found = (read_document(path) for path in sorted((directory / OPERATOR_REQUESTS).glob("*.json")))
    return [str(each["id"]) for each in found if each and each.get("status") == "open"]


def _statuses(_root: str | None) -> list[str]:
    from projections.statuses import STATUSES

    return list(STATUSES)


def _joined(words: Sequence[str]) -> list[str]:
    """Put together what bash takes apart at `=`, but for the value that is being typed."""
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")) and joined[-1].startswith("--"):
            joined[-1] += word
        else:
            joined.append(word)
    return joined or [""]


def _unquoted(word: str) -> str:
    """Give what a word means that a shell hands over as it is typed, its last quote perhaps still open."""
    for closing in ("", "'", '"') if any(mark in word for mark in "'\"\\") else ():
        with suppress(ValueError):
            meant = "".join(shlex.split(word + closing)[:1])
            break
    else:
        meant = word
    return str(Path(meant).expanduser()) if word.startswith("~/") else meant


def _line(shell: str, each: Candidate) -> str:
    said = " ".join(each.help.split())
    match shell:
        case "zsh":
            word = each.word.replace(":", r"\:")
            return f"{word}:{said}" if said else word
        case "fish":
            return f"{each.word}\t{said}" if said else each.word
    return each.word


_KINDS: Final[dict[str, Callable[[str | None], list[str]]]] = {
    "RUN": suggestions.runs,
    "RUN2": suggestions.runs,
    "STREAM": lambda _root: ["resources", "ledger", "cluster/local"],
    "LEASE": suggestions.leases,
    "KEY": suggestions.keys,
    "CLAIM": suggestions.claims,
    "EXAMPLE": suggestions.examples,
    "STATUS": _statuses,
    "EVENT": lambda _root: event_types(),
    "TYPE": lambda _root: event_types(),
    "MOMENT": lambda _root: event_types(),
}
"""What a metavar stands for."""
