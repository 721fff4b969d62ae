"""Does a run that goes on from the past of another one run, and is the other one as it was?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import eventlog
from merlin_es import bootstrap
from merlin_es.forks import Changes
from merlin_es.targetgen.target_dir import TargetDirectory, Who
from projections.layout import StateLayout, run_path
from tests.e2e.lab import Lab
from tests.e2e.test_targetgen_on_ray import ANSWERS, Workshop, ended

pytestmark = pytest.mark.xdist_group("ray")


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_fork_runs_on_ray_with_what_the_other_run_had_made_and_leaves_that_one_alone(
    lab: Lab, tmp_path: Path
) -> None:
    out = lab.work / "out"
    out.mkdir()
    command = ("sh", "-c", "echo first > out/made.txt; echo kept > out/kept.txt; exit 3")
    parent = lab.ended(lab.submit(*command, target_dir=str(out), captures=("made.txt",)).run_id)
    assert (parent.status, parent.exit_code) == ("failed", 3)
    (out / "made.txt").write_text("changed since")
    (out / "kept.txt").unlink()
    before = content(run_path(lab.root, parent.run_id))
    new = tmp_path / "again"
    done = lab.cli(
        *("fork", parent.run_id, "--at", "run.failed", "--target-dir", str(new), "--wait"),
        *("--", "sh", "-c", f"cat {new}/made.txt; echo second > {new}/second.txt"),
    )
    assert done.returncode == 0, done
    assert "first\n" in done.stdout
    assert "Status: completed" in done.stdout
    assert "merlin: kept.txt is not brought back: " in done.stderr
    [failed] = [
        event
        for event in eventlog.FileLog(StateLayout(lab.root)).read(f"run/{parent.run_id}")
        if event.type == "run.failed"
    ]
    head = failed.head
    assert f"Forked from: run/{parent.run_id}#{head}" in done.stdout
    assert content(run_path(lab.root, parent.run_id)) == before
    [forked] = [run_id for run_id in lab.runs() if run_id != parent.run_id]
    assert lab.types(forked)[:2] == ["run.forked", "run.submission_started"]
    record = lab.record_file(forked)
    assert record["forked_from"] == f"run/{parent.run_id}#{head}"
    assert (record["source"], record["workflow"], record["captures"]) == ("fork", "bringup", ["made.txt"])
    assert {artifact.name for artifact in lab.merlin.artifacts(forked)} == {"made.txt", "second.txt"}


def test_a_run_can_be_forked_again_and_again(lab: Lab) -> None:
    run_id = lab.ended(lab.submit(*lab.marked()).run_id).run_id
    forks = bootstrap.forks(lab.settings)
    for number in (1, 2):
        forked = forks.fork(run_id, forks.past.point(f"run/{run_id}", "run.submission_started"), Changes()).record
        assert lab.ended(forked.run_id).status == "completed"
        assert lab.executed() == 1 + number
        assert forked.request.command == lab.merlin.ledger.run(run_id).request.command


def test_an_execution_is_answered_otherwise_and_carried_out_on_ray_from_there(lab: Lab) -> None:
    workshop = Workshop(lab)
    target = json.loads(ended(workshop.start("orchestrate", "--example", "gemmini", "-o", "json")))["target"]
    workshop.respond(target)
    parent = workshop.directory(target)
    run_id = json.loads(ended(workshop.on_ray("--from-dir", str(parent))))["run_id"]
    assert lab.ended(run_id).status == "completed"
    question = workshop.state(target)["open_question_id"]
    request = json.loads((parent / "operator_requests" / f"{question}.json").read_text())
    given = ANSWERS[question.rpartition("-")[2]]
    workshop.merlin("answer", "--target-dir", str(parent), "--question-id", question, "--choice", given)
    again = json.loads(ended(workshop.on_ray("--from-dir", str(parent))))["run_id"]
    assert lab.ended(again).status == "completed"
    before = (content(parent), content(run_path(lab.root, run_id)), workshop.git("status", "--porcelain", "--branch"))
    other = next(
        option["id"] for option in request["options"] if option["id"] != given and not option["id"].startswith("pause")
    )
    done = lab.cli("fork", run_id, "--at", "question.asked#1", "--answer", f"{question}={other}", "-o", "json")
    assert done.returncode == 0, done
    document = json.loads(done.stdout)
    forked = Path(document["target_dir"])
    assert forked.name == f"{target}-fork-{document['run_id'][-8:]}"
    assert lab.ended(document["run_id"]).status == "completed"
    state = json.loads((forked / "operator_requests" / f"{question}.json").read_text())
    assert (state["selected_option"], state["status"]) == (other, "resolved")
    events = [event.type for event in TargetDirectory(forked, Who("ada@lab", "cli")).log.read(stream_in(forked))]
    assert events[:2] == ["execution.forked", "execution.prepared"]
    after = (content(parent), content(run_path(lab.root, run_id)), workshop.git("status", "--porcelain", "--branch"))
    assert after == before, "the parent is untouched"
    shown = lab.cli("events", document["run_id"])
    assert "run.forked" in shown.stdout
    assert f"question.answered  ada@lab (cli)  request_id={question}  choice={other}" in shown.stdout


def stream_in(directory: Path) -> str:
    stream = TargetDirectory(directory, Who("ada@lab", "cli")).stream
    assert stream
    return stream
