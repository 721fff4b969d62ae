"""Does this release fold the executions that earlier releases recorded, to the same bytes?

`tests/golden/0.1-execution` is a target directory in which everything happened that can, without its packets and with
its bundles as plain files. It is never changed; a release with new events adds its own beside it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, get_args

import eventlog
from merlin_es.targetgen import answers
from merlin_es.targetgen.ports import HeldLease
from merlin_es.targetgen.target_dir import TargetDirectory, Who
from projections.events.execution import EXECUTION_EVENTS, ExecutionEvent
from projections.execution import evolve
from projections.execution_state import ExecutionState, RequestStatus, TaskStatus
from tests.examples import ROOT, unsynced
from tests.execution_examples import Desk, ScriptedAgent, device, plan, shared, task

GOLDEN = Path(__file__).parent.parent / "golden" / "0.1-execution"
PROJECTED = ("execution_bundle.json", "execution_state.json", "task_states", "operator_requests")


def write_execution(top: Path, out: Path) -> None:
    """Write the golden execution into `out`, from what happens in the new directory `top`: `/w`, when it was made."""
    tasks = (
        shared("review", number=1),
        task("build", "review", number=2, credential_requirements="api_token"),
        device("driver", "review", number=3, credential_requirements="api_token"),
        device("second", "review", number=4, credential_requirements="other"),
        task("third", "review", number=5),
        shared("ladder", "build", "driver", "second", "third", number=6),
    )
    desk = Desk(top, plan(*tasks, backend="provider"))
    desk.secrets.names.add("OTHER")
    desk.execute()
    desk.answer("review-provider_disabled", "pause_execution")
    desk.execute()
    desk.answer("review-provider_disabled", "switch_to_manualllm", "bob@lab")
    desk.execute()
    desk.answer("build-credential", "credential_ready")
    desk.leases.leases = {"board-7": HeldLease("lease-0123456789", "7")}
    desk.execute(lease="board-7")
    (desk.path / "prompts/prompt_005.md").unlink()
    desk.respond(2, "bad\n")
    desk.respond(3)
    desk.respond(4)
    desk.execute(lease="board-7")
    desk.respond(2)
    desk.execute()
    desk.answer("build-branch_gate", "apply_in_worktree")
    desk.answer("driver-branch_gate", "continue_without_mutation")
    desk.answer("second-branch_gate", "mark_blocked")
    desk.place.change(partial(answers.choose_validation, "build", ("true", "other check")))
    desk.validation.codes = [0, 2]
    desk.execute()
    desk.agent = ScriptedAgent(says=None)
    desk.place.change(partial(answers.switch, "provider"))
    desk.execute(retry="build")
    desk.agent = ScriptedAgent(says="src/b.txt: by an agent\n")
    desk.execute(retry=True)
    desk.answer("third-branch_gate", "apply_in_worktree")
    desk.execute()
    with (desk.path / "events.jsonl").open("ab") as file:
        file.write(b'{"v":1,"seq":')
    desk.answer("second-branch_gate", "apply_in_worktree", "bob@lab")
    desk.execute()
    desk.resume(plan(*tasks[:2], shared("last", "build", number=3)))
    desk.orchestrate(reset=True)
    desk.execute()
    out.mkdir()
    for name in ("events.jsonl", "execution_state.json", "execution_bundle.json", "task_states", "operator_requests"):
        src = desk.path / name
        (shutil.copytree if src.is_dir() else shutil.copy)(src, out / name)
    state = desk.state()
    for digest in {state.bundle_sha256, *(gone.bundle_sha256 for gone in state.dropped.values())}:
        target = out / "bundles" / f"{digest}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(desk.place.blobs.get(digest))


def test_the_golden_execution_holds_every_event() -> None:
    known = {each.model_fields["type"].default for each in get_args(get_args(ExecutionEvent)[0])}
    beginnings_of_forks = {"execution.forked"}  # They are in test_execution_forks.
    assert set(types(GOLDEN / "events.jsonl")) == known - beginnings_of_forks


def test_the_golden_execution_is_whole() -> None:
    assert eventlog.verify(GOLDEN / "events.jsonl").state == "whole"


def test_the_files_of_the_golden_execution_come_back_with_the_same_bytes(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "events.jsonl", tmp_path)
    place = TargetDirectory(tmp_path, Who("ada@lab", "cli"), unsynced())
    for path in (GOLDEN / "bundles").iterdir():
        assert place.blobs.put(path.read_bytes()) == path.stem
    place.rebuild(check=False)
    for name in PROJECTED:
        assert tree(tmp_path / name) == tree(GOLDEN / name)


def test_the_golden_execution_is_made_by_what_stands_here(tmp_path: Path) -> None:
    write_execution(tmp_path / "w", tmp_path / "golden")
    assert types(tmp_path / "golden/events.jsonl") == types(GOLDEN / "events.jsonl")


def types(path: Path) -> list[str]:
    """Give the types of all events of a log."""
    return [json.loads(line)["type"] for line in path.read_text().splitlines()]


def tree(path: Path) -> dict[str, bytes]:
    """Give the content of a file, or of every file in a directory."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


Arrow: TypeAlias = tuple[str, str, str]
"""From which status to which, and the type of the event that does it."""


def test_the_states_of_tasks_and_questions_in_the_readme_are_those_of_the_fold() -> None:
    tasks, questions = diagrams()
    assert {start for start, _, _ in tasks} == {*get_args(TaskStatus), "[*]"} - {"prompt_emitted"}
    assert {start for start, _, _ in questions} == {*get_args(RequestStatus), "[*]"}
    seen_tasks, seen_questions = seen()
    assert seen_tasks - tasks == set()
    assert seen_questions - questions == set()


def diagrams() -> list[set[Arrow]]:
    """Give the arrows of the two diagrams in the README."""
    text = (ROOT / "merlin_es/targetgen/README.md").read_text()
    drawn = re.findall(r"```mermaid\n(stateDiagram.*?)```", text, re.DOTALL)
    arrows = [re.findall(r"(\S+) --> ([^\s:]+)(?:: (.*))?", each) for each in drawn]
    return [{(start, end, type_) for start, end, label in each for type_ in label.split(", ")} for each in arrows]


def seen() -> tuple[set[Arrow], set[Arrow]]:
    """Give every change of a status in the golden execution, but for what a reset or another plan begins again."""
    tasks: set[Arrow] = set()
    questions: set[Arrow] = set()
    before = ExecutionState()
    place = TargetDirectory(GOLDEN, Who("ada@lab", "cli"), unsynced())
    for recorded in EXECUTION_EVENTS.decode(place.log.read(place.stream or "")):
        after, type_ = evolve(before, recorded), recorded.event.type
        if type_ not in ("execution.reset", "execution.prepared"):
            tasks |= changed(before.tasks, after.tasks, type_)
            questions |= changed(before.requests, after.requests, type_)
        before = after
    return tasks, questions


def changed(before: Mapping[str, Any], after: Mapping[str, Any], type_: str) -> set[Arrow]:
    """Give what an event did to the statuses of all that have one."""
    stood = {id_: before[id_].status if id_ in before else "[*]" for id_ in after}
    return {(stood[id_], each.status, type_) for id_, each in after.items() if stood[id_] != each.status}
