"""Is a real spec carried out as before, but for what is listed here, and to its end, in a repository of its own?"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from merlin_es import bootstrap
from merlin_es.settings import Settings
from merlin_es.targetgen import answers, inputs, orchestration
from merlin_es.targetgen.blueprint import store
from merlin_es.targetgen.bundle import ExecutionTask
from merlin_es.targetgen.executor import Limits
from merlin_es.targetgen.scopes import filled
from projections.execution_state import ExecutionState
from tests.targetgen_data import SHARED, example, example_names, example_paths, needs_shared

ANSWERS = {
    "credential": "credential_ready",
    "device": "device_available",
    "branch_gate": "apply_in_worktree",
}
MOVES_MAX = 40
VARIABLES = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Validations are real, and begin without what they do not need."""

pytestmark = pytest.mark.filterwarnings("ignore:syncing is off:RuntimeWarning")


@dataclass
class Work:
    """A spec that is executed in a workspace with the adapters of every day."""

    workspace: Path
    spec: inputs.Inputs

    def __post_init__(self) -> None:
        self.path = self.workspace / "build/generated/targetgen" / self.spec.capability.identity.name
        self.settings = Settings(self.workspace / "state", self.workspace, "ada@lab", sync=False)
        self.place = bootstrap.target_directory(self.settings, self.path)
        plan = orchestration.blueprint(self.spec, "manualllm", None, None, self.path, self.workspace)
        event = store(plan, self.place.blobs, self.path)
        self.place.change(lambda state: answers.prepare(event, state, reset=False))
        self.tasks = {task.id: task for task in plan.bundle.tasks}

    def execute(self) -> ExecutionState:
        executor = bootstrap.executor(self.settings, self.place, VARIABLES, limits=Limits(60, 60))
        with self.place.executing():
            return executor.execute()

    def answer(self, request_id: str, choice: str) -> None:
        self.place.change(lambda state: answers.answer(answers.AnswerRequest(request_id, choice), state))

    def respond(self, task: ExecutionTask) -> None:
        """Write a response that puts a file where the task may write and its repository is."""
        scope = [path for path in filled(task.write_scope, self.path.name) if path.endswith("/")]
        root = "" if task.repo_root == "." else f"{task.repo_root}/"
        path = next(each for each in scope if each.startswith(root)) + "NOTES.md"
        text = f"This is how it is done.\n\n```markdown path={path}\n# {task.id}\n```\n"
        (self.path / "prompts" / str(task.response_packet)).write_text(text)

    def files(self) -> int:
        """Count the files that there have always been."""
        new = {".executor.lock", "events.jsonl"} | set(self.place.state().files)
        ours = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        return sum(
            not path.startswith("blobs/") and (path not in new or path.startswith(("briefs/", "prompts/")))
            for path in ours
        )


def as_before(work: Work, row: dict[str, Any]) -> Iterator[str]:
    """Take one step of a trace; yield what came out differently."""
    match row["cmd"]:
        case "answer":
            work.answer(row["q"], row["choice"])
            return
        case "write-response":
            [asked] = [each for each in work.tasks.values() if each.response_packet == row["file"]]
            work.respond(asked)
            return
    state = work.execute()
    task, question = state.current_task, state.open_question
    found = {
        "outcome": state.outcome,
        "task": task.id if task else None,
        "stage": (task and task.current_stage) or "none",
        "q": question.id if question else None,
        "statuses": {each.id: each.status for each in state.tasks.values()},
        "files": work.files(),
    }
    for key, value in found.items():
        if row[key] != value:
            yield f"{row['n']}.{key}: {row[key]} → {value}"


W1_GOES_ON = "W1: after `continue_without_mutation` the plan goes on instead of being blocked for ever"
W19_STAGE = "W19: the stage at the top is that of the task, at once and not one call later"


@needs_shared
@pytest.mark.parametrize("name", example_names())
def test_a_real_spec_is_executed_as_before_up_to_where_that_had_no_way_on(tmp_path: Path, name: str) -> None:
    trace = example(name)["trace_plain_clone"]
    work = Work(tmp_path, inputs.read(*(inputs.typed(str(path), tmp_path) for path in example_paths(name))))
    decided = next((row["n"] for row in trace if row.get("choice") == "continue_without_mutation"), 10**6)
    differences = {}
    for row in trace:
        for difference in as_before(work, row):
            if row["n"] > decided:
                differences[difference] = W1_GOES_ON
            else:
                assert difference == "1.stage: none → preflight"
                differences[difference] = W19_STAGE
    goes_on = {
        "gemmini_mx": ("implement_llvm_ukernel", "preflight_failed", "blocked"),
        "npu_ucb": ("implement_structured_text_isa", "awaiting_response", "awaiting_response"),
        "nvidia_vulkan_ada": (None, None, "completed"),
        "radiance_muon": (None, None, "completed"),
        "saturn_opu_v128": ("implement_llvm_ukernel", "preflight_failed", "blocked"),
        "spacemit_x60_xsmtvdot": ("implement_llvm_ukernel", "preflight_failed", "blocked"),
    }
    state = work.place.state()
    task = state.current_task
    assert (task and task.id, task and task.status, state.outcome) == goes_on[name]
    assert set(differences.values()) == ({W19_STAGE} if decided == 10**6 else {W1_GOES_ON})


def repository(top: Path) -> None:
    """Make a git repository whose validation commands really run, with two others below it."""
    for path in (".", "third_party/iree_bar", "third_party/iree_bar/third_party/llvm-project"):
        directory = top / path
        (directory / "tests/targetgen").mkdir(parents=True)
        (directory / "tools").mkdir()
        check = "from pathlib import Path\n\n\ndef test_it():\n    assert list(Path().rglob('NOTES.md'))\n"
        (directory / "tests/targetgen/test_targetgen.py").write_text(check)
        (directory / "tools/merlin.py").write_text("import sys\n\nprint('built', sys.argv)\n")
        (directory / ".gitignore").write_text("/third_party/\n/build/\n/blobs/\n")
        git(directory, "init", "-q")
        git(directory, "add", "-A")
        git(directory, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")


def git(directory: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=directory, capture_output=True, text=True, check=True).stdout


SHIPPED = inputs.example_names()


@pytest.mark.parametrize("name", [*SHIPPED, *example_names()])
def test_a_spec_is_carried_out_to_its_end_with_validations_that_run(tmp_path: Path, name: str) -> None:
    repository(tmp_path)
    spec = (
        inputs.read(inputs.example(name), None)
        if name in SHIPPED
        else inputs.read(*(inputs.typed(str(path), SHARED) for path in example_paths(name)))
    )
    work = Work(tmp_path, spec)
    validated = False
    for _ in range(MOVES_MAX):
        state = work.execute()
        if state.outcome == "completed":
            break
        task, question = state.current_task, state.open_question
        assert task is not None
        assert state.outcome != "blocked", task.message
        if question is not None:
            keeps = question.stage == "branch_gate" and validated
            work.answer(question.id, "continue_without_mutation" if keeps else ANSWERS[question.stage])
            validated |= question.stage == "branch_gate"
        else:
            work.respond(work.tasks[task.id])
    assert state.outcome == "completed"
    how = [task.completed_how for task in state.tasks.values() if task.decision is not None]
    assert how[0] == "validated"
    done = next(task for task in state.tasks.values() if task.decision == "apply")
    assert [check.exit_code for check in done.checks] == [0, 0]
    assert b"1 passed" in work.place.blobs.get(done.checks[0].output_sha256)
    assert done.checkout is not None
    root = tmp_path / work.tasks[done.id].repo_root
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "log", "--oneline", f"targetgen/{work.path.name}-staged").count("\n") == 2
    planned = [each for each in work.tasks.values() if each.mutation_policy == "planner_generated_only"]
    for path in [path for each in planned for path in each.write_scope if path.startswith("build/generated/")]:
        assert (tmp_path / path).is_file()
