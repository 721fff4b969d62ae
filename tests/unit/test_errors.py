"""Is everything that goes wrong told in three lines: what is the case, why, and what to do next?"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import ANY, NewEvent
from merlin_es import cli, errors
from merlin_es.cli import doctor, execution, jobs, suggestions
from merlin_es.cli.verbs import NoSuchVerb
from merlin_es.errors import BUG, MerlinError, Told, Usage, told
from tests.examples import ROOT
from tests.past_examples import LIFE, STREAM, Hands, log_in, record
from tests.run_examples import RUN
from tests.unit.test_every_verb import Type, type_

__all__ = ["type_"]

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, MerlinError)]


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("it is so: do that", Told("it is so", "why", "do that")),
        ("it cannot be read (no such file): name another", Told("it cannot be read", "no such file", "name another")),
        ("it is so", Told("it is so", "why", "advice")),
        ("it is so; do that", Told("it is so", "why", "do that")),
        ("it is so; or so: do that; or that", Told("it is so; or so", "why", "do that; or that")),
        ("spec.yaml: it is no mapping", Told("spec.yaml: it is no mapping", "why", "advice")),
        ("spec.yaml: it is none (line 3: b): mend it", Told("spec.yaml: it is none", "line 3: b", "mend it")),
        ("say what: `merlin x: y` or 'a: b'", Told("say what", "why", "`merlin x: y` or 'a: b'")),
        ("Ray's job is gone: look", Told("Ray's job is gone", "why", "look")),
        ("it failed:\n- a: b\n- c: d", Told("it failed:\n- a: b\n- c: d", "why", "advice")),
        ("it is sick (bad (byte 3): cut): mend it", Told("it is sick", "bad (byte 3): cut", "mend it")),
        ("an open ( and a late: thing", Told("an open ( and a late: thing", "why", "advice")),
        ("", Told("", "why", "advice")),
    ],
)
def test_a_message_is_taken_apart_where_it_says_why_and_what_to_do(message: str, parts: Told) -> None:
    assert told(message, "why", "advice") == parts


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_knows_why_and_what_to_do_where_nobody_says_it(kind: type[MerlinError]) -> None:
    extra = {"Unreachable": ("refused",), "Rejected": (400,)}.get(kind.__name__, ())
    what, why, advice = kind("it is so", *extra).told()
    assert what == "it is so"
    assert len(why) > 15
    assert len(advice) > 15
    assert kind is MerlinError or why != MerlinError.why, "each has its own"


def test_every_exit_code_is_in_the_one_table_and_the_table_has_no_other() -> None:
    text = (ROOT / "merlin_es" / "README.md").read_text()
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    documented = [int(code) for cell in cells for code in cell.split(", ")]
    outcomes = {*jobs.OUTCOMES.values(), *execution.OUTCOMES.values(), *doctor.EXIT_CODES.values()}
    ours = {0, BUG, jobs.TIME_OVER, *(kind.exit_code for kind in KINDS), *outcomes, cli.INTERRUPTED, 129, 143}
    assert sorted(documented) == sorted(ours)
    tree = str(errors.__doc__)
    assert {(name, int(code)) for name, code in re.findall(r"(\w+) +(?:exit )?(\d+)\b", tree)} == {
        (kind.__name__, kind.exit_code) for kind in KINDS
    }


def test_what_nobody_has_thought_of_is_owned_up_to_and_its_traceback_is_kept(
    type_: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_words: object, **_more: object) -> None:
        raise KeyError("nothing\nhere")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("merlin_es.settings.load", broken)
    done = type_("ray", "jobs", "list")
    assert (done.code, done.out) == (BUG, "")
    what, why, advice = done.err.splitlines()
    assert what == "merlin: this is a bug in Merlin, and not your fault: KeyError: 'nothing\\nhere'"
    assert "test_errors.py" in why
    [report] = tmp_path.glob("merlin-bug-*.txt")
    assert str(report) in advice
    assert "Traceback" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0, "what an error says may be private"


def test_a_log_of_a_newer_release_is_told_of_as_one(
    type_: Type,
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path / "s", Hands())
    record(log, STREAM, LIFE)
    log.append(STREAM, [NewEvent(type="run.dreamt", actor="a", door="cli", dv=1, data={})], expected=ANY)
    done = type_("ray", "jobs", "status", RUN)
    assert (done.code, done.out) == (7, "")
    what, _, advice = done.err.splitlines()
    assert "does not know run.dreamt" in what
    assert "upgrade Merlin" in advice


def near(type_: Type, words: str) -> str:
    done = type_(*words.split())
    assert done.code in (2, 3)
    assert len(done.err.splitlines()) == 3
    return done.err.splitlines()[-1]


def test_who_mistypes_a_name_is_told_of_the_near_ones(
    type_: Type,
) -> None:
    submit = "ray jobs submit --target npu --workflow w --target-dir out -- ls"
    submitted = type_(*submit.split())
    run = submitted.out.split()[2]
    lease = type_(*["ray", "resources", "reserve", "u250", "--owner", "ada"]).out.split()[2]
    type_(*["targetgen", "orchestrate", "--example", "nvidia_ada", "--out-dir", "out"])
    type_(*["targetgen", "execute", "--from-dir", "out/nvidia_ada"])
    wrong_lease = lease[:-1] + ("0" if lease[-1] != "0" else "1")
    question = "targetgen answer --target-dir out/nvidia_ada --choice x --question-id implement_runtime-device"
    for words, name in (
        ("ray jobs lits", "merlin ray jobs list"),
        ("jobs list", "merlin ray jobs"),
        ("ray replya x", "merlin ray replay"),
        ("ray jobs list --stauts x", "--status"),
        ("ray jobs list --status complete", "completed"),
        (f"ray jobs status {run[:-2]}", run),
        (f"ray replay {run[:-1]}x", run),
        (f"ray verify {run[:-1]}x", run),
        (f"ray resources release {wrong_lease}", lease),
        ("ray resources drain u205 --reason x", "u250"),
        ("targetgen plan --example gemini", "gemmini"),
        (question, "implement_runtime_hal-device"),
    ):
        assert f"did you mean `{name}`" in near(type_, words), words
    assert "did you mean run.started" in near(type_, f"ray wait {run} run.startd")
    assert "did you mean" not in near(type_, "ray jobs status nothing-like-it")
    for words, name in (
        ("ray events --type run.startd", "run.started"),
        ("ray resources history u205", "u250"),
        ("ray resources who u205", "u250"),
        ("ray resources list u205", "u250"),
    ):
        done = type_(*words.split())
        assert (done.code, done.err.splitlines()[-1].startswith("merlin: there is no ")) == (0, True), words
        assert f"did you mean {name}" in done.err
    assert type_(*["ray", "events", "--type", "run.started", "--type", "claim.*"]).err == ""


def test_no_hint_makes_an_error_of_an_error() -> None:
    assert list(suggestions.near("run", "x", "/nowhere/at/all")) == []
    assert suggestions.near("no such kind", "x", None) == ()
    assert suggestions.nearest("x", []) == []
    assert issubclass(NoSuchVerb, Exception)


def raised() -> Iterator[tuple[str, str]]:
    """Yield what is raised where, with the text that says it as far as it stands there."""
    for path in sorted((ROOT / "merlin_es").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[first, *_])) if hasattr(errors, name):
                    parts = first.values if isinstance(first, ast.JoinedStr) else [first]
                    constants = [str(each.value) if isinstance(each, ast.Constant) else "{…}" for each in parts]
                    yield f"{path.name}:{node.lineno}", "".join(constants)


def test_no_message_ends_where_it_should_say_what_to_do() -> None:
    found = list(raised())
    assert not [f"{where}: {text}" for where, text in found if text.rstrip().endswith((":", "):", "\n"))]
    assert len(found) > 150
    assert Usage.exit_code == 2
