"""Can an execution be looked back on, and go on from its past in another directory, with another answer?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from merlin_es import bootstrap, plane
from merlin_es.errors import NotFound, Refused, Usage
from merlin_es.forks import Changes
from merlin_es.past import Past
from merlin_es.settings import Settings
from merlin_es.targetgen import answers, forking
from merlin_es.targetgen.target_dir import TargetDirectory, Who
from merlin_es.targetgen.walk import branch_of
from merlin_es.waiting import WORKFLOW
from projections.execution_files import execution_folds
from projections.history import documents
from projections.layout import run_stream
from projections.snapshots import Snapshots
from tests.examples import unsynced
from tests.execution_examples import GOOD, Desk, through_the_gate
from tests.past_examples import BEGIN, Hands, log_in, record
from tests.run_examples import RUN, intended, requested, submitted

GATE = "build-branch_gate"


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def past_of(desk: Desk, root: Path) -> tuple[Past, str]:
    place = desk.opened()
    folds = execution_folds(place.bundle_document)
    snapshots = Snapshots(place.log, root, every=4, projections=folds.projection_of)
    return Past(place.log, place.path, lambda: BEGIN, snapshots, folds), str(place.stream)


def forked(desk: Desk, seq: int, chosen: dict[str, str]) -> Desk:
    child = Desk.__new__(Desk)
    child.__dict__.update(desk.__dict__)
    child.path = desk.path.with_name("fork")
    child.place = TargetDirectory(child.path, Who("bob@lab", "cli"), unsynced())
    parent = desk.opened()
    forking.fork(parent, forking.point_for(parent, seq, chosen), child.place, "0badcafe", chosen)
    return child


def last(desk: Desk) -> int:
    return desk.opened().at_head()[1].seq


def test_the_view_of_every_event_of_an_execution_is_what_was_published_then(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    desk.execute()
    desk.respond(3)
    desk.execute()
    seq, then = last(desk), documents_on_disk(desk)
    through_the_gate(desk)
    past, stream = past_of(desk, tmp_path / "s")
    for _ in range(2):  # The second time from snapshots.
        assert documents(stream, past.at(stream, seq), past.folds) == then
        assert documents(stream, past.at(stream, last(desk)), past.folds) == documents_on_disk(desk)
    assert any((tmp_path / "s" / "snapshots").rglob("*.json")), "not where the execution's own files lie"


def documents_on_disk(desk: Desk) -> dict[str, object]:
    names = ["execution_state.json", "execution_bundle.json"]
    names += [
        str(path.relative_to(desk.path))
        for part in ("task_states", "operator_requests")
        for path in (desk.path / part).glob("*.json")
    ]
    return {name: json.loads((desk.path / name).read_text()) for name in names}


def test_why_an_execution_stands_where_it_does_leads_back_to_its_plan(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    past, _ = past_of(desk, tmp_path / "s")
    found = past.why(str(desk.path / "task_states/build.json"), "/mutation")
    # What is decided about a proposal is known when the answer is applied.
    assert [setting.event.type for setting in found.settings][-1] == "question.resolved"
    assert "question.answered" in [reason.event.type for reason in found.causes]
    assert found.settings[-1].value is not None


@pytest.mark.parametrize("choice", ["continue_without_mutation", "apply_in_worktree"])
def test_a_fork_answers_otherwise_and_goes_on_to_its_own_end(tmp_path: Path, choice: str) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    assert desk.execute().is_completed
    before = files(desk.path)
    child = forked(desk, last(desk), {GATE: choice})
    state = child.state()
    assert state.requests[GATE].answers[-1].choice == choice
    assert state.requests[GATE].answers[-1].actor == "bob@lab"
    assert len(state.requests[GATE].answers) == 1
    assert child.types()[:2] == ["execution.forked", "execution.prepared"]
    assert child.execute().is_completed
    decision = "apply" if choice.startswith("apply") else "record"
    assert child.task("build").decision == decision
    assert (child.path / "mutation" / "worktree").exists() == (decision == "apply")
    assert files(desk.path) == before, "the parent is untouched"
    assert branch_of(child.state()) != branch_of(desk.state())
    paths = json.dumps([event.data for event in child.place.log.read(str(child.place.stream))])
    assert str(desk.path) not in paths


def test_what_was_done_in_the_worktree_of_the_parent_is_done_again_in_the_fork(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    ran = len(desk.validation.ran)
    child = forked(desk, last(desk), {})
    assert child.state().tasks["build"].checkout is None
    child.execute()
    assert child.task("build").status == "completed"
    assert len(child.validation.ran) > ran
    assert (child.path / "mutation/worktree/src/a.txt").read_text() == "all right\n"
    assert (child.path / "prompts/prompt_003.response.md").read_text() == GOOD


def test_every_prefix_can_be_forked_and_ends_where_the_parent_did(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    desk.execute()
    for seq in range(1, last(desk) + 1, 3):
        child = forked(desk, seq, {})
        child.path = child.path.rename(tmp_path / f"fork-{seq}")
        state = child.execute()
        if state.outcome == "awaiting_response":
            child.respond(3)
            state = child.execute()
        if state.outcome == "awaiting_operator":
            child.answer(GATE, "apply_in_worktree")
            state = child.execute()
        assert state.is_completed, seq


def test_each_event_of_a_fork_names_the_one_that_it_was(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    child = forked(desk, last(desk), {})
    first, *rest = child.place.log.read(str(child.place.stream))
    parent = {f"{event.stream}#{event.seq}": event for event in desk.place.log.read(str(desk.place.stream))}
    assert first.data["parent"] == desk.place.stream
    assert first.data["parent_head"] == str(desk.place.log.head(str(desk.place.stream)))
    for event in rest:
        origin = parent[str(event.cause)]
        assert (event.type, event.actor, event.door) == (origin.type, origin.actor, "fork")


def test_what_cannot_be_forked_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    for chosen, error in (
        ({"nothing": "x"}, NotFound),
        ({GATE: "frob"}, Usage),
    ):
        with pytest.raises(error):
            forked(desk, last(desk), chosen)
        assert not desk.path.with_name("fork").exists()
    (desk.path.with_name("fork")).mkdir()
    (desk.path.with_name("fork") / "mine").touch()
    with pytest.raises(Refused, match="not empty"):
        forked(desk, last(desk), {})


def test_a_run_that_carries_out_a_plan_is_forked_with_its_execution(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    hands = Hands()
    log = log_in(tmp_path / "s", hands)
    command = (sys.executable, "-m", "merlin_es", "targetgen", "execute", "--from-dir", str(desk.path), "--resume")
    wish = replace(requested(workflow=WORKFLOW), target_dir=str(desk.path), command=command)
    record(log, run_stream(RUN), [wish, intended(), submitted()])
    log.close()
    forks = bootstrap.forks(Settings(tmp_path / "s", tmp_path, "ada@lab", sync=False))
    point = forks.point(RUN, "question.asked")
    assert point.execution_seq
    option = next(each.id for each in desk.state().requests[GATE].options if each.id != "apply_in_worktree")
    found = forks.fork(RUN, point, Changes(answers={GATE: option}))
    new = Path(found.record.request.target_dir)
    assert new.name == f"{desk.path.name}-fork-{found.record.run_id[-8:]}"
    assert str(new) in found.record.request.command
    assert str(desk.path) not in found.record.request.command
    state = TargetDirectory(new, Who("ada@lab", "cli"), unsynced()).state()
    assert state.requests[GATE].answers[-1].choice == option
    first = next(forks.past.log.read(run_stream(found.record.run_id)))
    assert first.data["answers"] == {GATE: option}


def test_the_events_of_a_run_include_those_of_its_execution(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    desk.place = desk.opened(run_id=RUN)
    desk.place.change(lambda state: answers.switch("provider", state))
    log = log_in(tmp_path / "s")
    record(log, run_stream(RUN), [replace(requested(workflow=WORKFLOW), target_dir=str(desk.path))])
    past = bootstrap.past(Settings(tmp_path / "s", tmp_path, "ada@lab", sync=False))
    types = [event.type for event in past.timeline(RUN).news()]
    assert {"run.requested", "execution.prepared", "execution.backend_switched"} <= set(types)


def test_what_was_asked_and_not_answered_is_shown_of_everything_at_a_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    desk.execute()
    desk.respond(3)
    desk.execute()
    log = log_in(tmp_path / "s")
    record(log, run_stream(RUN), [replace(requested(workflow=WORKFLOW), target_dir=str(desk.path))])
    where = Settings(tmp_path / "s", tmp_path, "ada@lab", sync=False)
    [question] = plane.at("9999", bootstrap.past(where), bootstrap.ledger(where).index).questions
    assert (question.run_id, question.question_id) == (RUN, GATE)
    assert "apply_in_worktree" in question.options
    desk.answer(GATE, "apply_in_worktree")
    assert plane.at("9999", bootstrap.past(where), bootstrap.ledger(where).index).questions == []
