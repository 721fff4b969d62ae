"""Do the verbs of the tool before this one print what they printed on a real Ray, and do the examples run there?"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from merlin_es.cli.examples import RUN, example_of
from tests.e2e.lab import Lab
from tests.transcripts import departures
from tests.unit.test_every_verb import invalid

pytestmark = pytest.mark.xdist_group("ray")


def say(lab: Lab, verb: str, *words: str, code: int = 0) -> str:
    done = lab.cli(*words)
    assert done.returncode == code, done
    assert not departures(verb, done.stdout)
    return done.stdout


def test_what_a_run_leaves_is_told_in_the_lines_of_old(lab: Lab) -> None:
    submit = ("jobs", "submit", "--target", "t", "--workflow", "w", "--target-dir", "out", "--source", "manual_cli")
    command = "sh -c 'mkdir -p out; echo hello | tee out/a.txt'"
    submitted = say(lab, "ray jobs submit", *submit, "--cpus", "0.1", "--command", command)
    assert "\nSubmission ID: " in submitted
    assert "\nCluster address: " in submitted
    run = submitted.split()[2]
    assert lab.cli("jobs", "wait", run).returncode == 0
    assert "\nSubmission ID: " in say(lab, "ray jobs status", "jobs", "status", run)
    assert say(lab, "ray jobs logs", "jobs", "logs", run) == "hello\n"
    say(lab, "ray jobs cancel", "jobs", "cancel", run)
    assert say(lab, "ray artifacts list", "artifacts", "list", run) == "a.txt text 6B\n"
    say(lab, "ray artifacts fetch", "artifacts", "fetch", run, "a.txt")
    assert "\nDashboard: " in say(lab, "ray cluster status", "cluster", "status")


def test_the_examples_of_verbs_that_need_a_cluster_run_on_one(lab: Lab, alone: Lab) -> None:
    (alone.work / "out").mkdir()

    def example(verb: str, run: str = "", code: int = 0) -> str:
        words = example_of(f"merlin ray {verb}").replace("http://127.0.0.1:8265", str(lab.url)).replace(RUN, run)
        more = ["--token-file", str(lab.token)] if verb == "cluster attach" else []
        done = alone.cli(*shlex.split(words)[2:4], *more, *shlex.split(words)[4:])
        assert done.returncode == code, done
        return done.stdout

    assert "Status: active" in example("cluster attach")
    run = next(line for line in example("jobs submit").splitlines() if line.startswith("Run ID")).split()[2]
    assert "completed" in example("jobs wait", run)
    assert example("jobs logs", run)
    Path(alone.work, "out", "a.txt").write_text("hello\n")
    assert example("artifacts index", run) == "a.txt text 6B\n"
    assert "Size: 6" in example("artifacts fetch", run)
    seen = example("cluster status")
    assert json.loads(seen)["status"] == "active"
    assert not invalid("merlin ray cluster status", seen, "json")
    for words in (("jobs", "status", run), ("artifacts", "list", run), ("why", run, "status"), ("replay", run)):
        verb = " ".join(("merlin ray", *words[: 2 if words[0] in ("jobs", "artifacts") else 1]))
        for output in ("json", "jsonl"):
            assert not invalid(verb, alone.cli(*words, "-o", output).stdout, output)
    example("reconcile")
    assert "Status: stopped" in example("cluster stop")
