"""Is what an execution's files say the fold of its log, at every point of it, whatever people did?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.frame import origin
from merlin_es.errors import NotFound, Refused
from merlin_es.targetgen.blueprint import Blueprint
from projections.events.execution import EXECUTION_EVENTS, ExecutionEvent, ExecutionLogRepaired
from projections.events.recorded import Recorded
from projections.execution import evolve
from projections.execution_files import execution_projection
from projections.execution_state import ExecutionState, RequestStatus, TaskStatus
from tests.examples import ROOT
from tests.execution_examples import GOOD, Desk, ScriptedAgent, device, plan, shared, task, through_the_gate


def contents(path: Path) -> dict[str, bytes]:
    """Give every state file."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*.json") if _is_folded(file)}


def _is_folded(path: Path) -> bool:
    return path.parent.name in ("task_states", "operator_requests") or path.name.startswith("execution_")


PLANS: tuple[Blueprint, ...] = (
    plan(),
    plan(
        shared("review", number=1),
        device("build", "review", number=2, credential_requirements="api_token"),
        task("other", "review", number=3),
        shared("ladder", "build", "other", number=4),
    ),
    plan(shared("review"), task("build", "review", number=2, repo_root="missing"), task("other", number=3)),
    plan(backend="provider"),
    plan(backend="none"),
)

ACTIONS = st.one_of(
    st.tuples(st.just("execute")),
    st.tuples(st.just("retry")),
    st.tuples(st.just("answer"), st.integers(0, 3)),
    st.tuples(st.just("respond"), st.integers(1, 4), st.sampled_from([GOOD, "bad", "src/a.txt: conflict\n", "b\n"])),
    st.tuples(st.just("plan"), st.integers(0, len(PLANS) - 1)),
    st.tuples(st.just("reset")),
    st.tuples(st.just("credential")),
    st.tuples(st.just("agent")),
    st.tuples(st.just("fail")),
)


def do(desk: Desk, action: tuple[object, ...]) -> None:
    """Do one thing that people do."""
    match action:
        case ("execute",):
            desk.execute()
        case ("retry",):
            desk.execute(retry=True)
        case ("answer", int(number)):
            for request in list(desk.state().requests.values()):
                if request.status == "open":
                    desk.answer(request.id, request.options[number % len(request.options)].id)
        case ("respond", int(number), str(text)):
            desk.respond(number, text)
        case ("plan", int(number)):
            desk.resume(PLANS[number])
        case ("reset",):
            desk.orchestrate(reset=True)
        case ("credential",):
            desk.secrets.names.add("API_TOKEN")
        case ("agent",):
            desk.agent = ScriptedAgent(says=None)
        case ("fail",):
            desk.validation.codes.append(3)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, len(PLANS) - 1), st.lists(ACTIONS, min_size=3, max_size=12))
def test_whatever_people_do_the_files_are_the_fold_at_every_prefix(
    first: int, actions: list[tuple[object, ...]]
) -> None:
    with TemporaryDirectory() as top:
        desk = Desk(Path(top) / "w", PLANS[first])
        for action in actions:
            do(desk, action)
            require_consistent(desk)
        require_rebuilt(desk)
        require_same_at_every_prefix(desk)


def require_consistent(desk: Desk) -> None:
    """Check what holds of every state that people can see."""
    state = json.loads((desk.path / "execution_state.json").read_bytes())
    for id_, each in state["tasks"].items():
        assert each["status"] in get_args(TaskStatus)
        assert (each["status"] == "awaiting_operator") == (each["open_question_id"] is not None), id_
        if each["open_question_id"]:
            request = json.loads((desk.path / f"operator_requests/{each['open_question_id']}.json").read_bytes())
            assert request["status"] in ("open", "answered")
    for path in (desk.path / "operator_requests").iterdir():
        request = json.loads(path.read_bytes())
        assert request["status"] in get_args(RequestStatus)
        waited_for = [each["open_question_id"] for each in state["tasks"].values()]
        assert (request["status"] != "resolved") == (request["id"] in waited_for), request["id"]


def require_rebuilt(desk: Desk) -> None:
    """Check that files that are lost or edited come back with the same bytes."""
    before = contents(desk.path)
    shutil.rmtree(desk.path / "task_states")
    shutil.rmtree(desk.path / "operator_requests")
    (desk.path / "execution_bundle.json").unlink()
    (desk.path / "execution_state.json").write_text("{}")
    assert {verdict.state for verdict in desk.opened().rebuild(check=True)} <= {"missing", "edited"}
    desk.opened().rebuild(check=False)
    assert contents(desk.path) == before


def require_same_at_every_prefix(desk: Desk) -> None:
    """Check that a fold that goes on reaches what a fold from the start does, and that each point has its files."""
    place = desk.opened()
    projection = execution_projection(place.bundle_document)
    stream = place.stream
    assert stream is not None
    events = list(place.log.read(stream))
    going_on = list(projection.states(events, ExecutionState()))
    for number, (state, head) in enumerate(going_on, 1):
        anew, _ = projection.fold(events[:number], ExecutionState(), origin(stream).head)
        assert anew == state
        for content in projection.files(stream, state, head).values():
            json.loads(content)
    state, head = going_on[-1]
    assert dict(projection.files(stream, state, head)) == contents(desk.path)


def test_a_clock_that_jumps_changes_times_and_nothing_else(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    with freeze_time("2031-01-01T00:00:00Z"):
        desk.execute()
    desk.respond(3)
    with freeze_time("2021-01-01T00:00:00Z"):
        desk.execute()
        desk.answer("build-branch_gate", "apply_in_worktree")
    with freeze_time("2026-01-01T00:00:00.000001Z"):
        assert desk.execute().outcome == "completed"
    build = json.loads((desk.path / "task_states/build.json").read_bytes())
    assert build["opened_at"] == "2031-01-01T00:00:00.000000+00:00"
    assert build["updated_at"] == "2026-01-01T00:00:00.000001+00:00"
    request = json.loads((desk.path / "operator_requests/build-branch_gate.json").read_bytes())
    assert request["created_at"] == "2021-01-01T00:00:00.000000+00:00"
    require_rebuilt(desk)
    require_same_at_every_prefix(desk)


def test_every_event_has_a_place_in_the_fold() -> None:
    known = {each.model_fields["type"].default for each in get_args(get_args(ExecutionEvent)[0])}
    assert len(known) == len(get_args(get_args(ExecutionEvent)[0]))
    text = (ROOT / "projections/execution.py").read_text()
    for each in get_args(get_args(ExecutionEvent)[0]):
        assert f"{each.__name__}(" in text, each


def test_a_repair_of_the_log_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    before = contents(desk.path)
    with (desk.path / "events.jsonl").open("ab") as file:
        file.write(b'{"v":1,"seq":')
    desk.execute()
    assert contents(desk.path) == before
    desk.orchestrate(reset=True)
    assert "log.repaired" in desk.types()
    repaired = ExecutionLogRepaired(offset=0, length=1, sha256="", kept="")
    assert evolve(ExecutionState(), Recorded(1, "", "", "", repaired)) == ExecutionState(seq=1)


def test_files_of_another_fold_are_told_and_are_not_edited(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    desk.execute()
    path = desk.path / "execution_state.json"
    document = json.loads(path.read_bytes())
    document["as_of"]["fold"] = 0
    path.write_text(json.dumps(document))
    assert {verdict.path: verdict.state for verdict in desk.place.rebuild(check=True)}[
        "execution_state.json"
    ] == "other_fold"


def test_what_another_wrote_into_a_directory_of_states_is_named_and_left(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    desk.execute()
    (desk.path / "operator_requests/mine.json").write_text("{}")
    verdicts = {verdict.path: verdict.state for verdict in desk.opened().rebuild(check=False)}
    assert verdicts["operator_requests/mine.json"] == "orphan"
    assert (desk.path / "operator_requests/mine.json").is_file()


@pytest.mark.parametrize("retry", ["nothing", "ladder"])
def test_a_refusal_changes_nothing(tmp_path: Path, retry: str) -> None:
    desk = Desk(tmp_path / "w")
    desk.execute()
    before = contents(desk.path), desk.types()
    with pytest.raises((Refused, NotFound)):
        desk.execute(retry=retry)
    assert (contents(desk.path), desk.types()) == before


def test_the_codec_reads_what_it_wrote(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    through_the_gate(desk)
    events = list(desk.place.log.read(desk.place.stream or ""))
    for recorded, event in zip(EXECUTION_EVENTS.decode(events), events, strict=True):
        again = recorded.event.recorded_by("a", "cli")
        assert (again.type, json.loads(json.dumps(again.data))) == (event.type, event.data)
