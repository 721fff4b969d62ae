"""What is somebody told when a call fails? Three lines: what is the case, why, and what to do next."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import typer
from typer._click.exceptions import BadParameter, ClickException, MissingParameter, NoArgsIsHelpError, NoSuchOption

from eventlog.errors import Archived, Damaged, EventLogError, NotReadable
from merlin_es.cli.printing import printable
from merlin_es.cli.verbs import NoSuchVerb
from merlin_es.errors import BUG, MerlinError, Refused, Sick, Told, Usage, told

_WITH_ITS_KIND: Final[tuple[tuple[type[Exception], type[MerlinError]], ...]] = (
    (Damaged, Sick),
    (NotReadable, Sick),
    (Archived, Refused),
    (EventLogError, MerlinError),
)
"""Errors of the log, with what they are here; the first that fits counts."""


LOGS_MAX: Final = 5
"""How many logs that cannot be read are told of at once; a disk that is gone takes all of them along."""


def complain_of_logs(sick: Mapping[str, str]) -> None:
    """Tell people of logs that could not be read, by their streams, after all that the others say was shown."""
    for stream, why in islice(sick.items(), LOGS_MAX):
        said = told(why, Sick.why, Sick.advice)
        named = said.what if stream.rpartition("/")[2] in said.what else f"{stream}: {said.what}"
        _tell(said._replace(what=named, advice=_with_the_doctor(said.advice)))
    if len(sick) > LOGS_MAX:
        _say(f"merlin: {len(sick) - LOGS_MAX} more cannot be read: `merlin ray doctor` names each")


def _with_the_doctor(advice: str) -> str:
    return advice if "merlin ray doctor" in advice else f"{advice}; `merlin ray doctor` looks at all of them"


def complain(error: Exception, words: Sequence[str]) -> int:
    """Tell people what is the case, why and what to do next, after `words` were typed; give the exit code."""
    if isinstance(error, NoArgsIsHelpError):
        typer.echo(error.format_message(), err=True)  # Help that nobody asked for is no result.
        return Usage.exit_code
    said, code = judged(error, words)
    with suppress(OSError):  # Nobody can be told; the exit code still says it.
        _tell(said)
    return code


def _tell(said: Told) -> None:
    what, *more = said.what.splitlines() or [""]
    _say(f"{_coloured('merlin:')} {printable(what)}")
    for line in more:
        _say(printable(line))
    _say(f"  why:  {printable(said.why)}")
    _say(f"  next: {printable(said.advice)}")


def judged(error: Exception, words: Sequence[str]) -> tuple[Told, int]:
    """Give what to say of an error, and its exit code."""
    if isinstance(error, MerlinError):
        return _with_near_names(error, words), error.exit_code
    for kind, ours in _WITH_ITS_KIND:
        if isinstance(error, kind):
            said = told(str(error), ours.why, ours.advice)
            return said._replace(advice=_with_the_doctor(said.advice)) if ours is Sick else said, ours.exit_code
    if isinstance(error, ClickException):
        return _usage(error), Usage.exit_code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Told(
            f"{where}{error.strerror or error}",
            "the system did not let Merlin read or write there",
            "make room and give access there, then repeat the call",
        ), MerlinError.exit_code
    if _is_of_a_newer_release(error):
        return told(str(error), "a newer Merlin wrote that log", "upgrade Merlin, then repeat the call"), Sick.exit_code
    return _bug(error), BUG


def _with_near_names(error: MerlinError, words: Sequence[str]) -> Told:
    said = error.told()
    if not error.name:
        return said
    from merlin_es.cli.suggestions import near, nearest, state_root_in

    found = nearest(error.name, error.among) or near(error.names_a, error.name, state_root_in(words))
    return said._replace(advice=_meant(found, said.advice))


def _usage(error: ClickException) -> Told:
    context = getattr(error, "ctx", None)
    see = f"see `{context.command_path if context else 'merlin'} --help`"
    from merlin_es.cli.suggestions import nearest

    match error:
        case BadParameter(param_hint=str(hint), message=message):
            why, _, advice = told(message.rstrip("."), advice=see)
            return Told(f"{hint} cannot be so", why, advice)
        case BadParameter() if not isinstance(error, MissingParameter):
            what, _, why = error.format_message().rstrip(".").partition(": ")
            return Told(what, why or Usage.why, see)
        case NoSuchOption(option_name=name, possibilities=near):
            return Told(f"there is no option {name}", Usage.why, _meant(nearest(name, sorted(near or ())), see))
        case NoSuchVerb(near=near):
            return Told(error.format_message(), Usage.why, _meant(near, see))
    return Told(error.format_message().rstrip("."), Usage.why, see)


def _meant(names: Sequence[str], advice: str) -> str:
    return f"did you mean {' or '.join(f'`{name}`' for name in names)}? {advice}" if names else advice


def _is_of_a_newer_release(error: Exception) -> bool:
    from projections.events.recorded import UnknownEvent

    return isinstance(error, UnknownEvent)


def _bug(error: Exception) -> Told:
    """Own up to an exception that nobody has thought of, and keep what is needed to find out why."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="merlin-bug-", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
        report = f"report it with {file.name}, which has the traceback"
    except OSError:
        report = "report it with this line"
    return Told(
        f"this is a bug in Merlin, and not your fault: {type(error).__name__}: {error}".splitlines()[0],
        f"{last.name} in {last.filename}, line {last.lineno}, did not expect that",
        f"{report}; what was recorded is safe, and `merlin ray doctor` looks at it",
    )


def _coloured(text: str) -> str:
    from merlin_es.cli.terminal import Style, has_colours

    return f"\x1b[{Style.BAD}m{text}\x1b[0m" if has_colours(sys.stderr) else text


def _say(line: str) -> None:
    from merlin_es.cli.terminal import has_colours

    typer.echo(line, err=True, color=has_colours(sys.stderr) or None)
