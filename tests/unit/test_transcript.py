"""Do the verbs of the tool before this one still take what they took and print what they printed, where no Ray is?

With one: `tests/e2e/test_transcript_on_ray.py`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from merlin_es.cli import suggestions
from merlin_es.cli.merlin import app
from merlin_es.targetgen.inputs import EXAMPLES
from tests.examples import ROOT
from tests.transcripts import LINES, OPTIONS, departures
from tests.unit.test_every_verb import Done, type_

__all__ = ["type_"]

VERBS = dict(suggestions.verbs(app.group("merlin"), "merlin"))
SHARED = Path(os.environ.get("MERLIN_SHARED") or ROOT.parent / "shared")
Say = Callable[..., str]


@pytest.fixture
def say(type_: Callable[..., Done]) -> Say:
    """Give a function that types words and gives what was printed, which is held to the contract."""

    def said(verb: str, words: str, code: int = 0) -> str:
        done = type_(*words.split())
        assert done.code == code, done
        assert not departures(verb, done.out)
        return done.out

    return said


def test_the_ray_verbs_print_the_lines_of_old(say: Say, tmp_path: Path) -> None:
    state = f"ray --state-root {tmp_path / 'own'}"
    start = "cluster start-local --host 127.0.0.1 --port 6379 --dashboard-port 8265 --namespace merlin"
    say("ray cluster start-local", f"ray --dry-run --state-root {tmp_path / 'own'} {start}")
    say("ray cluster status", f"{state} cluster status")
    say("ray cluster stop", f"{state} cluster stop")
    submit = "jobs submit --target t --workflow w --target-dir out --source manual_cli --command"
    run = say("ray jobs submit", f"{state} {submit} true", code=5).split()[2]
    say("ray jobs submit", f"ray --dry-run --state-root {tmp_path / 'own'} {submit} true")
    say("ray jobs status", f"{state} jobs status {run}")
    say("ray artifacts list", f"{state} artifacts list {run}")
    say("ray jobs cancel", f"{state} jobs cancel {run}")
    assert say("ray resources list", f"{state} resources list") == "No resource leases.\n"
    reserved = say("ray resources reserve", f"{state} resources reserve u250 --owner ada --metadata a=b --metadata c")
    lease = reserved.split()[2]
    assert say("ray resources list", f"{state} resources list") == f"{lease} u250 active owner=ada\n"
    for _ in range(2):
        say("ray resources release", f"{state} resources release {lease}")
    say("ray resources list", f"{state} resources list --all")


def test_the_targetgen_verbs_print_the_lines_of_old(say: Say, tmp_path: Path) -> None:
    spec, overlay = "saturn_opu/capability.yaml", "--overlay saturn_opu/overlays/firesim.yaml"
    shutil.copytree(EXAMPLES / "saturn_opu", tmp_path / "saturn_opu")
    out = "--out-dir build/generated/targetgen"
    for dry in ("", "--dry-run "):
        say("targetgen validate", f"targetgen {dry}validate {spec} {overlay}")
        say("targetgen plan", f"targetgen {dry}plan {spec} {overlay} {out}")
        say("targetgen generate", f"targetgen {dry}generate {spec} {overlay} {out}")
        say("targetgen explain", f"targetgen {dry}explain {spec} {overlay}")
        say("targetgen stage-mutation", f"targetgen {dry}stage-mutation {spec} {overlay} {out}")
        prompts = "--prompt-backend manualllm --agent codex --prompts-dir prompts"
        say("targetgen orchestrate", f"targetgen {dry}orchestrate {spec} {overlay} {out} {prompts}")
    directory = "build/generated/targetgen/saturn_opu"
    say("targetgen stage-mutation", f"targetgen stage-mutation --from-dir {directory}")
    say("targetgen orchestrate", f"targetgen orchestrate {spec} --prompt-backend none --reset")
    say("targetgen status", f"targetgen status --target-dir {directory}")


def test_an_execution_is_told_in_the_lines_of_old(say: Say, tmp_path: Path) -> None:
    say("targetgen orchestrate", "targetgen orchestrate --example nvidia_ada")
    directory = "build/generated/targetgen/nvidia_ada"
    old = "--resume --engine local --prompt-backend manualllm --agent codex"
    asked = say("targetgen execute", f"targetgen execute --from-dir {directory} {old}", code=17)
    [question] = re.findall(r"^Open question: (.+)$", asked, re.MULTILINE)
    assert "\n\nOperator requests:\n- " in say("targetgen status", f"targetgen status --target-dir {directory}")
    answer = f"targetgen answer --target-dir {directory} --question-id {question} --choice"
    say("targetgen answer", f"{answer} device_available")
    on_ray = f"--engine ray --ray-state-root {tmp_path / 'r'}"
    say("targetgen execute --engine ray", f"targetgen execute --from-dir {directory} {on_ray}", code=5)
    say("targetgen execute", f"targetgen execute --from-dir {directory}", code=18)


@pytest.mark.parametrize("verb", OPTIONS)
def test_old_options_and_arguments_are_taken_where_they_stood(verb: str) -> None:
    taken = {word for each in VERBS[f"merlin {verb}"].params for word in (*each.opts, *_names(each.metavar))}
    assert set(OPTIONS[verb].split()) <= taken
    group, *_ = verb.split()
    assert {"--dry-run"} <= {word for each in app.group("merlin").commands[group].params for word in each.opts}


def _names(metavar: str | None) -> list[str]:
    return re.findall(r"[A-Z]+", metavar or "NAME")


def test_a_line_that_is_changed_left_out_or_added_is_seen() -> None:
    good = "Lease ID: lease-0123456789\nResource: u250\nStatus: active\nFence: 1\n"
    check = partial(departures, "ray resources reserve")
    assert check(good) == []
    assert check(good.replace("Resource:", "Key:")) != []
    assert check(good.replace("Status: active\n", "")) != []
    assert check(good + "Owner: ada\n") != []
    assert check("Resource: u250\nLease ID: lease-0123456789\nStatus: active\n") != []


def test_the_table_has_every_line_that_the_contract_names() -> None:
    contract = SHARED / "design" / "targetgen-contract.md"
    if not contract.is_file():
        pytest.skip("the contract is not beside this checkout")
    text = contract.read_text()
    table = text.partition("## 21.")[2].partition("Files:")[0]
    rows = re.findall(r"^\| `([^|]*)` \|[^|]*\| (.*) \|$", table, re.MULTILINE)
    assert len(rows) == 9
    for verbs, lines in rows:
        for part, said in zip(verbs.split("` / `"), lines.split(" / "), strict=False):
            name = " ".join(word for word in part.split() if not word.isupper())
            wanted = re.findall(r"`([A-Z][A-Za-z ]+:)`", said)
            assert all(any(each in line for line in LINES[f"ray {name}"]) for each in wanted), (name, wanted)
    second = text.partition("### stdout, line by line")[2].partition("### `--dry-run`")[0]
    for name, lines in re.findall(r"^\| `([a-z-]+)`(?: local)? \| (.*) \|$", second, re.MULTILINE):
        for each in re.findall(r"`([A-Z][A-Za-z ]+:)", lines):
            assert any(each in line for line in LINES[f"targetgen {name}"]), (name, each)
