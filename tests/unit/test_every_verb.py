"""Does every verb keep what all verbs promise: help with an example that runs, and JSON as its schema says?"""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from typer._click import Command

from merlin_es import cli
from merlin_es.cli import suggestions
from merlin_es.cli.examples import CLAIM, LEASE, example_of
from merlin_es.cli.examples import RUN as EXAMPLE_RUN
from merlin_es.cli.json_schema import schema_of
from merlin_es.cli.merlin import app
from merlin_es.cli.shapes import SHAPES
from tests.examples import ROOT
from tests.past_examples import LIFE, STREAM, Hands, log_in, record
from tests.run_examples import RUN

GROUP = app.group("merlin")
VERBS = dict(suggestions.verbs(GROUP, "merlin"))
PLAIN = {
    "merlin demo": "a show for people",
    "merlin completion": "a script for a shell",
    "merlin ray jobs logs": "the bytes that a run wrote, as they are",
    "merlin ray resources hold": "what the command writes that it runs",
}
"""Verbs that print no document, and what they print."""
ELSEWHERE = {
    "merlin demo": "test_the_first_command_of_the_readme_does_the_main_job_from_a_clean_clone",
    "merlin ray cluster start-local": "test_two_starts_are_one_head_that_is_not_taken_down_for_being_slow",
    "merlin ray cluster attach": "test_the_examples_of_verbs_that_need_a_cluster_run_on_one",
    "merlin ray cluster stop": "test_the_examples_of_verbs_that_need_a_cluster_run_on_one",
    "merlin ray jobs logs": "test_the_examples_of_verbs_that_need_a_cluster_run_on_one",
    "merlin ray artifacts index": "test_the_examples_of_verbs_that_need_a_cluster_run_on_one",
    "merlin ray artifacts fetch": "test_the_examples_of_verbs_that_need_a_cluster_run_on_one",
}
"""Verbs whose examples run on a real Ray, in these tests."""
CODES = {
    "merlin ray jobs submit": 5,
    "merlin ray jobs retry": 5,
    "merlin ray fork": 5,
    "merlin ray reconcile": 6,
    "merlin targetgen execute": 17,
}
"""How examples end here that do not end with 0: there is no Ray, so runs are blocked; a question waits."""


def ends_well(verb: str, done: Done) -> bool:
    """Tell whether an example ended as it should; what a doctor finds depends on the host, too."""
    return done.code == CODES.get(verb, 0) or (verb == "merlin ray doctor" and done.code == 4)


class Done(NamedTuple):
    code: int
    out: str
    err: str


Type = Callable[..., Done]


def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Done:
    monkeypatch.setattr(sys, "argv", ["merlin", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    shown = capsys.readouterr()
    return Done(int(done.value.code or 0), shown.out, shown.err)


@pytest.fixture
def type_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Type]:
    """Give `merlin …` without a process of its own, in a directory with a state root."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setenv("MERLIN_FSYNC", "off")
    monkeypatch.setenv("MERLIN_STATE_ROOT", str(tmp_path / "s"))
    monkeypatch.setenv("COLUMNS", "80")
    warnings.simplefilter("ignore", RuntimeWarning)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield partial(typed, capsys, monkeypatch)
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Bench:
    """A state root on which every example means something; ids in examples become those of what is there."""

    def __init__(self, type_: Type, top: Path) -> None:
        self.type = type_
        record(log_in(top / "s", Hands()), STREAM, LIFE)
        type_("ray", "rebuild")
        submit = "ray jobs submit --target npu --workflow w --target-dir out -- ls"
        self.blocked = self._line("Run ID", *submit.split())
        self.leases = 0

    def words(self, verb: str) -> list[str]:
        """Give the words of an example, after what it needs has been made."""
        text = example_of(verb).removeprefix("merlin ")
        if verb == "merlin ray resources hold":
            self.type("ray", "resources", "release", "--key", "u250", "--owner", "ada")
        if LEASE in text:
            text = text.replace(LEASE, self._lease())
        if CLAIM in text:
            text = text.replace(CLAIM, self._claim())
        if verb == "merlin targetgen answer":
            status = json.loads(self.type(*["targetgen", "status", "--target-dir", "out/nvidia_ada", "-o", "json"]).out)
            [question] = status["requests"]
            text = text.replace("out/npu", "out/nvidia_ada").replace("ID", question["id"])
            text = text.replace(" X", " " + question["options"][0]["id"])
        return shlex.split(text.replace(EXAMPLE_RUN, self.blocked if verb.endswith(" retry") else RUN))

    def _line(self, name: str, *words: str) -> str:
        found = re.search(f"^{name}: (.*)$", self.type(*words).out, re.MULTILINE)
        assert found, words
        return found[1]

    def _lease(self) -> str:
        self.leases += 1
        return self._line("Lease ID", *f"ray resources reserve k{self.leases} --owner ada --ttl 30m".split())

    def _claim(self) -> str:
        self._lease()
        run = f"ray jobs submit --target t --workflow w --target-dir o --lease k{self.leases} -- ls"
        self.type(*run.split())
        [claim] = json.loads(self.type(*f"ray resources queue k{self.leases} -o json".split()).out)
        return str(claim["claim_id"])


def closed(schema: Any) -> Any:  # noqa: ANN401  JSON
    """Give a schema that takes no field which it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema else inner


def invalid(verb: str, text: str, output: str) -> str:
    """Say what is wrong with what a verb has printed; empty when it is as its schema says, and says nothing more."""
    name, lines = verb.removeprefix("merlin "), text.splitlines() if output == "jsonl" else [text]
    checker = jsonschema.Draft202012Validator(closed(schema_of(name, of_a_line=output == "jsonl")))
    found = [error for line in lines for error in checker.iter_errors(json.loads(line))]
    return "; ".join(f"{error.json_path}: {error.message[:300]}" for error in found)


@pytest.mark.parametrize("output", ["text", "json", "jsonl"])
def test_the_example_of_every_verb_runs_and_prints_what_its_schema_says(
    type_: Type, tmp_path: Path, output: str
) -> None:
    bench, wrong = Bench(type_, tmp_path), {}
    for verb in VERBS:
        if verb in ELSEWHERE or (output != "text" and (verb in PLAIN or verb == "merlin schema")):
            continue
        words = bench.words(verb)
        if output != "text" or "-o" in words:
            at = words.index("--") if "--" in words else len(words)
            words[at:at] = ["-o", output]
        done = type_(*words)
        if not ends_well(verb, done):
            wrong[verb] = f"{done.code}: {done.err}{done.out}"
        elif output != "text" and (why := invalid(verb, done.out, output)):
            wrong[verb] = why
    assert not wrong


def test_the_examples_that_do_not_run_here_run_in_tests_that_there_are() -> None:
    written = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    assert set(ELSEWHERE) | set(PLAIN) <= set(VERBS)
    assert not [test for test in ELSEWHERE.values() if f"def {test}(" not in written]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_ends_with_its_example_on_one_line(type_: Type, verb: str) -> None:
    done = type_(*verb.split()[1:], "--help")
    assert done.code == 0
    *_, heading, example = done.out.splitlines()
    assert (heading, example) == ("Example:", f"  $ {example_of(verb)}")
    assert len(example) <= 80
    assert len(said_of(VERBS[verb])) > 10


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_shows_something_shows_it_to_programs_too_and_has_a_schema(verb: str) -> None:
    forms = [set(getattr(each.type, "choices", ())) for each in VERBS[verb].params if "-o" in each.opts]
    assert (forms == []) == (verb in PLAIN)
    assert all({"text", "json", "jsonl"} <= each for each in forms)
    assert (verb.removeprefix("merlin ") in SHAPES) == (verb not in PLAIN)


def test_every_verb_is_in_the_readme_of_its_package_with_what_its_help_says() -> None:
    wanted = [f"| `{verb.removeprefix('merlin ')}` | {said_of(command)} |" for verb, command in VERBS.items()]
    table = (ROOT / "merlin_es" / "README.md").read_text().partition("## All verbs")[2]
    assert not [row for row in wanted if row not in table], "\n".join(wanted)
    own = (ROOT / "merlin_es" / "targetgen" / "README.md").read_text()
    named = {
        name for row in re.findall(r"^\| (`[a-z`, -]+`) \|", own, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert {verb.split()[-1] for verb in VERBS if verb.startswith("merlin targetgen")} <= named


def said_of(command: Command) -> str:
    """Give the first sentence or two of a help text."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


def test_a_schema_grows_and_nothing_of_it_goes_away_without_another_version() -> None:
    """The file has every field that was ever promised, by version: new ones are added to it, none is taken out."""
    golden = json.loads((ROOT / "tests" / "golden" / "schemas.json").read_text())
    now = {f"{verb} {version}": fields_of(schema_of(verb)) for verb, (version, _) in SHAPES.items()}
    missing = {verb: sorted(set(fields) - set(now[verb])) for verb, fields in golden.items() if verb in now}
    assert not {verb: fields for verb, fields in missing.items() if fields}
    assert now.keys() <= golden.keys(), "\n".join(sorted(now.keys() - golden.keys()))


def fields_of(schema: Any, pointer: str = "", definitions: Any = None) -> list[str]:  # noqa: ANN401  JSON
    """Give every field that a schema names, by where it stands in a document, with its type."""
    if isinstance(schema, list):
        return [field for each in schema for field in fields_of(each, pointer, definitions)]
    if not isinstance(schema, dict):
        return []
    definitions = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        return fields_of(definitions[schema["$ref"].rpartition("/")[2]], pointer, definitions)
    found = []
    for name, each in schema.get("properties", {}).items():
        found += [f"{pointer}/{name} {each.get('type', 'any')}", *fields_of(each, f"{pointer}/{name}", definitions)]
    return found + [field for name in ("items", "anyOf") for field in fields_of(schema.get(name), pointer, definitions)]


def test_a_schema_says_which_it_is_and_what_has_none_is_not_found(type_: Type) -> None:
    found = json.loads(type_("schema", "ray", "jobs", "list").out)
    assert found["$id"] == "urn:merlin-es:schema:ray.jobs.list:1"
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    line = json.loads(type_("schema", "ray", "jobs", "list", "--lines").out)
    assert (line["$ref"], found["items"]["$ref"]) == ("#/$defs/RunRow", "#/$defs/RunRow")
    listed = type_("schema").out
    assert all(f"{verb} " in listed for verb in SHAPES)
    done = type_("schema", "ray", "job", "list")
    assert (done.code, done.out) == (3, "")
    assert "did you mean `ray jobs list`" in done.err
    for verb in ("ray jobs status", "ray diff", "ray resources reserve"):  # All kinds of shape; each takes its time.
        jsonschema.Draft202012Validator.check_schema(schema_of(verb))


QUIET = [verb for verb, command in VERBS.items() if any("-q" in each.opts for each in command.params)]


def test_who_is_quiet_is_told_what_matters_and_nothing_else(type_: Type, tmp_path: Path) -> None:
    bench, said = Bench(type_, tmp_path), {}
    for verb in [*QUIET, "merlin ray jobs list"]:
        if verb in ELSEWHERE:
            continue
        words = bench.words(verb)
        at = words.index("--") if "--" in words else len(words)
        words[at:at] = ["--quiet"]
        words = [word for word in words if word not in ("-o", "jsonl")]
        done = type_(*words)
        assert ends_well(verb, done), (verb, done)
        said[verb.removeprefix("merlin ")] = done.out.splitlines()
    one_id = re.compile(r"[a-z_]+-[0-9a-f-]+")
    for verb in ("ray jobs submit", "ray fork", "ray resources reserve"):
        assert [one_id.fullmatch(line) is not None for line in said[verb]] == [True], verb
    assert said["ray jobs list"][-1:] == [bench.blocked]
    assert said["ray artifacts list"] == ["a.txt"]
    assert said["ray export"] == [str(tmp_path / "run.tar")]
    assert said["ray import"] == [RUN]
    assert said["targetgen plan"] == [str(tmp_path / "out" / "gemmini")]
    assert said["targetgen execute"] == ["awaiting_operator"]
    assert said["ray verify"] == said["ray rebuild"] == []
    assert len(QUIET) > 15
