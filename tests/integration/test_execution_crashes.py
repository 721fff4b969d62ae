"""Does an execution come to the same end wherever it is killed, and however many work on it at once?"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import eventlog
from merlin_es import failpoints
from merlin_es.errors import Refused, Sick
from merlin_es.targetgen.blueprint import Blueprint
from merlin_es.targetgen.ports import Ran
from projections.execution_state import ExecutionState
from tests.conftest import Figure
from tests.execution_examples import Desk, ScriptedValidation, device, plan, shared, task

FORKED = multiprocessing.get_context("fork")
PATIENCE_S = 120.0
KILLS = 100


def two_branches() -> Blueprint:
    """Give a plan with every kind of gate, and two tasks that do not depend on each other."""
    return plan(
        shared("review", number=1),
        device("driver", "review", number=2, credential_requirements="api_token"),
        task("build", "review", number=3),
        shared("ladder", "driver", "build", number=4),
    )


ANSWERS = {
    "driver-credential": "credential_ready",
    "driver-device": "device_available",
    "driver-branch_gate": "apply_in_worktree",
    "build-branch_gate": "continue_without_mutation",
}


def told(desk: Desk) -> int:
    """Answer whatever is open, as a person does in another terminal; give how many answers were acknowledged."""
    asked = [request for request in desk.state().requests.values() if request.status == "open"]
    for request in asked:
        desk.answer(request.id, ANSWERS[request.id], "bob@lab")
    return len(asked)


def comes_to(state: ExecutionState) -> object:
    """Give all of a state that does not depend on when and how often it was worked on."""
    tasks = {
        task.id: (task.status, task.completed_how, task.passed, task.outputs, task.diff_summary, task.applied_sha256)
        for task in state.tasks.values()
    }
    requests = {request.id: (request.status, request.selected_option) for request in state.requests.values()}
    return state.outcome, tasks, requests, state.credentials


def of_one_that_nobody_kills(top: Path) -> object:
    desk = Desk(top, two_branches())
    for number in (2, 3):
        desk.respond(number)
    while desk.execute().outcome != "completed":
        told(desk)
    return comes_to(desk.state())


def _execute(desk: Desk, failpoint: str = "") -> None:
    name, _, count = failpoint.partition(":")
    failpoints._wanted, failpoints._left = name, int(count or 1)
    desk.execute()


def killed(desk: Desk, after_s: float, failpoint: str = "") -> bool:
    """Execute in a process that is killed after a while, or at a failpoint; tell whether it was."""
    child = FORKED.Process(target=_execute, args=(desk, failpoint))
    child.start()
    child.join(after_s)
    if child.is_alive() and child.pid:
        os.kill(child.pid, signal.SIGKILL)
    child.join(PATIENCE_S)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def require_sound(desk: Desk, answered: int, reference: object) -> None:
    """Check what must hold at the end of every execution, whatever came in between."""
    log, stream = desk.place.log, desk.place.stream
    assert stream is not None
    events = list(log.read(stream))
    completed = Counter(event.data["task_id"] for event in events if event.type == "task.completed")
    assert completed == Counter(["review", "driver", "build", "ladder"])
    assert sum(event.type == "question.answered" for event in events) == answered
    assert eventlog.verify(log.path(stream), stream).state == "whole"
    assert comes_to(desk.state()) == reference
    assert {verdict.state for verdict in desk.opened().rebuild(check=True)} == {"same"}
    assert (desk.path / "prompts/prompt_002.response.md").read_text() == "Done.\n\nsrc/a.txt: all right\n"


def test_killed_a_hundred_times_at_random_moments_executions_come_to_the_same_end(
    tmp_path: Path, figure: Figure, reference: object
) -> None:
    dice, kills, executions = random.Random(20261125), 0, 0
    begun = time.monotonic()
    while kills < KILLS:
        executions += 1
        desk = Desk(tmp_path / str(executions), two_branches())
        for number in (2, 3):
            desk.respond(number)
        answered = 0
        while desk.state().outcome != "completed":
            kills += killed(desk, dice.uniform(0.0, 0.12))
            answered += told(desk)
        desk.execute()
        require_sound(desk, answered, reference)
    figure(f"{kills} kills in {executions} executions, {time.monotonic() - begun:.1f} s")


POINTS = [
    *(
        f"execution.{name}:{count}"
        for name in ("append.before", "append.after", "publish.after")
        for count in (1, 4, 9)
    ),
    *(
        f"step.{name}.{where}"
        for name in (
            "produce_outputs",
            "emit_prompt",
            "read_response",
            "prepare_worktree",
            "apply_changes",
            "run_validation",
        )
        for where in ("before", "after")
    ),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> object:
    return of_one_that_nobody_kills(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point_an_execution_comes_to_the_same_end(
    tmp_path: Path, point: str, reference: object
) -> None:
    desk = Desk(tmp_path / "w", two_branches())
    for number in (2, 3):
        desk.respond(number)
    answered, deaths = 0, 0
    while desk.state().outcome != "completed":
        deaths += killed(desk, PATIENCE_S, "" if deaths else point)
        answered += told(desk)
    desk.execute()
    assert deaths == 1
    require_sound(desk, answered, reference)


def test_killed_after_its_last_event_its_files_are_written_by_the_next_call(tmp_path: Path) -> None:
    died = True
    for number in range(1, 30):
        desk = Desk(tmp_path / str(number), plan(shared("only")))
        died = killed(desk, PATIENCE_S, f"execution.append.after:{number}")
        if not died:
            break
        assert desk.execute().outcome == "completed"
        assert {verdict.state for verdict in desk.opened().rebuild(check=True)} == {"same"}
    assert not died
    assert number > 3


def test_where_locks_do_not_work_what_came_of_a_step_is_recorded_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w", plan(task("build")))
    desk.execute()
    desk.respond(1)
    desk.execute()
    desk.answer("build-branch_gate", "apply_in_worktree")
    another = _of_another(desk)
    run = desk.validation.run

    def meanwhile(command: str, cwd: Path, limit_s: float) -> Ran:
        if not another.validation.ran:
            assert another.executor().execute().outcome == "completed"
        return run(command, cwd, limit_s)

    desk.validation.run = meanwhile  # type: ignore[method-assign]
    assert desk.executor().execute().outcome == "completed"
    assert desk.validation.ran == another.validation.ran == ["check it"]
    assert desk.types().count("validation.ended") == desk.types().count("task.completed") == 1


def _of_another(desk: Desk) -> Desk:
    """Give the same desk, as a process on another host has it."""
    other = copy.copy(desk)
    other.place, other.validation = desk.opened("eve@far"), ScriptedValidation()
    return other


def test_killed_while_it_is_made_ready_an_execution_is_made_ready_by_the_next_call(tmp_path: Path) -> None:
    for number, point in enumerate(("execution.append.before", "execution.append.after", "step.deliver.after")):
        child = FORKED.Process(target=_begin, args=(tmp_path / str(number), point))
        child.start()
        child.join(PATIENCE_S)
        assert child.exitcode == -signal.SIGKILL
        desk = Desk(tmp_path / str(number), two_branches())
        assert desk.execute().outcome == "awaiting_operator"
        assert desk.types().count("execution.prepared") == 1
        assert desk.types().count("execution.files_delivered") == 1


def test_a_log_of_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "w/out/tiny"
    path.mkdir(parents=True)
    (path / "events.jsonl").write_bytes(b"something else\n")
    with pytest.raises(Sick, match="move the file away"):
        Desk(tmp_path / "w", two_branches())
    assert (path / "events.jsonl").read_bytes() == b"something else\n"


def test_a_first_line_that_was_not_written_to_its_end_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "w/out/tiny"
    path.mkdir(parents=True)
    (path / "events.jsonl").write_bytes(b'{"v":1,"seq":1,"id":"0')
    assert Desk(tmp_path / "w", two_branches()).execute().outcome == "awaiting_operator"


def _begin(top: Path, point: str) -> None:
    failpoints._wanted, failpoints._left = point, 1
    Desk(top, two_branches())


def _read_all(path: Path, stop: object, unreadable: object) -> None:
    """Read every state file again and again, without any lock."""
    while not stop.is_set():  # type: ignore[attr-defined]
        for file in [*path.glob("*.json"), *path.glob("task_states/*.json"), *path.glob("operator_requests/*.json")]:
            try:
                json.loads(file.read_bytes())
            except ValueError:
                unreadable.value += 1  # type: ignore[attr-defined]


def _work(desk: Desk, number: int, gate: object, refused: object) -> None:
    gate.wait(PATIENCE_S)  # type: ignore[attr-defined]
    deadline = time.monotonic() + PATIENCE_S
    while desk.state().outcome != "completed" and time.monotonic() < deadline:
        for request in desk.state().requests.values():
            if request.status != "open":
                continue
            try:
                choice = ANSWERS[request.id] if number % 2 else request.options[-1].id
                desk.answer(request.id, choice, f"worker{number}@lab")
            except Refused:
                refused.value += 1  # type: ignore[attr-defined]
        try:
            desk.execute(retry=True)
        except Refused:
            time.sleep(0.005)


def test_eight_processes_answer_look_and_execute_and_nobody_reads_half_a_file(tmp_path: Path, figure: Figure) -> None:
    desk = Desk(tmp_path / "w", two_branches())
    for number in (2, 3):
        desk.respond(number)
    gate, stop = FORKED.Event(), FORKED.Event()
    refused, unreadable = FORKED.Value("i", 0), FORKED.Value("i", 0)
    workers = [FORKED.Process(target=_work, args=(desk, number, gate, refused)) for number in range(6)]
    readers = [FORKED.Process(target=_read_all, args=(desk.path, stop, unreadable)) for _ in range(2)]
    for child in (*workers, *readers):
        child.start()
    gate.set()
    for child in workers:
        child.join(PATIENCE_S)
    stop.set()
    for child in readers:
        child.join(PATIENCE_S)
    assert {child.exitcode for child in (*workers, *readers)} == {0}
    assert desk.state().outcome == "completed"
    assert unreadable.value == 0
    stream = desk.place.stream
    assert stream is not None
    events = list(desk.place.log.read(stream))
    assert Counter(event.data["task_id"] for event in events if event.type == "task.completed") == Counter(
        ["review", "driver", "build", "ladder"]
    )
    answers = sum(event.type == "question.answered" for event in events)
    figure(f"{answers} answers recorded, {refused.value} refused, {len(events)} events")


def test_of_eight_who_answer_at_once_one_wins(tmp_path: Path) -> None:
    for round_number in range(5):
        desk = Desk(tmp_path / str(round_number), plan(task("build")))
        desk.execute()
        desk.respond(1)
        desk.execute()
        gate, winners = FORKED.Event(), FORKED.Queue()
        children = [FORKED.Process(target=_answer, args=(desk, number, gate, winners)) for number in range(8)]
        for child in children:
            child.start()
        gate.set()
        for child in children:
            child.join(PATIENCE_S)
        won = [number for number in (winners.get(timeout=PATIENCE_S) for _ in children) if number is not None]
        request = desk.state().requests["build-branch_gate"]
        assert len(request.answers) == 1
        choices = {("apply_in_worktree", "mark_blocked")[number % 2] for number in won}
        assert choices == {request.selected_option}


def _answer(desk: Desk, number: int, gate: object, winners: object) -> None:
    gate.wait(PATIENCE_S)  # type: ignore[attr-defined]
    try:
        desk.answer("build-branch_gate", ("apply_in_worktree", "mark_blocked")[number % 2], f"worker{number}@lab")
    except Refused:
        winners.put(None)  # type: ignore[attr-defined]
    else:
        winners.put(number)  # type: ignore[attr-defined]
