"""What do orchestrate, execute, answer and status print, and how do scripts see what came of them?"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path

import pytest

from merlin_es import bootstrap, settings
from merlin_es.cli.execution import OUTCOMES
from merlin_es.commands import Reserve
from merlin_es.lease_variables import variables
from merlin_es.targetgen.target_dir import TargetDirectory, Who
from tests.examples import ROOT, unsynced
from tests.targetgen_shell import Done, typed_in

NAME = "nvidia_ada"
TASK = "implement_runtime_hal"
TASKS = ("review_target_spec", "derive_compile_view", TASK, "define_verification_ladder")
RESPONSE = f"Done.\n\n```c path=runtime/src/iree/hal/drivers/{NAME}/api.h\nint x;\n```\n"


class Shell:
    """A workspace without git in which words are typed."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        (top / "pyproject.toml").write_text("")
        self.top, self.typed = top, typed_in(top, monkeypatch, capsys)
        self.path = top / "build/generated/targetgen" / NAME

    def orchestrate(self, *words: str | Path) -> Done:
        return self.typed("orchestrate", "--example", NAME, *words)

    def execute(self, *words: str | Path) -> Done:
        return self.typed("execute", "--from-dir", self.path, *words)

    def answer(self, stage: str, choice: str, *words: str) -> Done:
        return self.typed(
            *words, "answer", "--target-dir", self.path, "--question-id", f"{TASK}-{stage}", "--choice", choice
        )

    def respond(self, text: str = RESPONSE) -> None:
        (self.path / "prompts/prompt_003.response.md").write_text(text)

    def tree(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.path.rglob("*")) if path.is_file()}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.delenv("MERLIN_RUN_ID", raising=False)
    return Shell(tmp_path, monkeypatch, capsys)


def lines(shell: Shell, outcome: str, task: str = "none", stage: str = "none", question: str = "") -> list[str]:
    asked = [f"Open question: {question}"] if question else []
    return [
        f"Executed target: {NAME}",
        "Engine: local",
        f"Outcome: {outcome}",
        f"Current task: {task}",
        f"Current stage: {stage}",
        *asked,
        f"Target directory: {shell.path}",
    ]


def test_every_outcome_has_its_lines_and_its_exit_code(shell: Shell) -> None:
    """W24."""
    assert shell.orchestrate().code == 0
    done = shell.execute()
    assert done.out.splitlines() == lines(shell, "awaiting_operator", TASK, "device", f"{TASK}-device")
    assert done.code == 17
    assert f"--question-id {TASK}-device --choice device_available|device_unavailable|pause_execution" in done.err
    answered = shell.answer("device", "device_available")
    assert answered.out.splitlines() == [
        f"Answered request: {TASK}-device",
        "Selected option: device_available",
        f"Target directory: {shell.path}",
    ]
    done = shell.execute()
    assert done.out.splitlines() == lines(shell, "awaiting_response", TASK, "prompt_emitted")
    assert done.code == 18
    assert "prompt_003.response.md" in done.err
    shell.respond()
    assert shell.execute().code == 17
    shell.answer("branch_gate", "apply_in_worktree")
    done = shell.execute()
    assert done.out.splitlines() == lines(shell, "blocked", TASK, "branch_gate")
    assert done.code == 5
    assert "git" in done.err
    assert shell.execute("--retry", TASK).code == 5
    assert shell.answer("branch_gate", "continue_without_mutation").code == 4
    assert shell.execute("--retry", "--reconsider").code == 17
    assert shell.answer("branch_gate", "continue_without_mutation").code == 0
    assert shell.execute().code == 0


def test_a_plan_that_is_done_ends_with_0(shell: Shell) -> None:
    shell.orchestrate()
    shell.respond()
    shell.execute()
    shell.answer("device", "device_available")
    shell.execute()
    shell.answer("branch_gate", "continue_without_mutation")
    done = shell.execute()
    assert (done.code, done.out.splitlines()) == (0, lines(shell, "completed"))
    assert done.err == ""


def test_json_says_the_same_as_the_lines(shell: Shell) -> None:
    """W24."""
    shell.orchestrate()
    found = json.loads(shell.execute("-o", "json").out)
    assert (found["outcome"], found["current_task"], found["open_question"]) == (
        "awaiting_operator",
        TASK,
        f"{TASK}-device",
    )
    assert list(found["tasks"]) == list(TASKS)
    status = json.loads(shell.typed("status", "--target-dir", shell.path, "-o", "json").out)
    assert status["tasks"] == found["tasks"]
    assert [option["id"] for option in status["requests"][0]["options"]] == [
        "device_available",
        "device_unavailable",
        "pause_execution",
    ]


def test_status_has_the_lines_of_old_and_then_what_can_be_answered(shell: Shell) -> None:
    shell.orchestrate()
    before = shell.typed("status", "--target-dir", shell.path).out.splitlines()
    assert before == [
        f"Target: {NAME}",
        "Workflow: evidence_first_target_enablement",
        "Prompt backend: manualllm",
        "Current task: none",
        "Current stage: none",
        "Open question: none",
        "",
        "Tasks:",
        *(f"- {task}: planned (stage=none, adapter={adapter(task)})" for task in TASKS),
    ]
    shell.execute()
    after = shell.typed("status", "--target-dir", shell.path).out.splitlines()
    assert after[3:6] == [f"Current task: {TASK}", "Current stage: device", f"Open question: {TASK}-device"]
    assert after[10] == f"- {TASK}: awaiting_operator (stage=device, adapter=runtime_hal)"
    assert after[12:15] == [
        "",
        "Operator requests:",
        f"- {TASK}-device: open (task={TASK}, recommended=device_available, selected=none)",
    ]
    assert [line.split(":")[0].strip() for line in after[17:]] == [
        "device_available",
        "device_unavailable",
        "pause_execution",
    ]


def test_status_says_the_same_from_fresh_files_and_from_the_log(shell: Shell) -> None:
    shell.orchestrate()
    shell.execute()
    for words in ((), ("-o", "json")):
        fresh = shell.typed("status", "--target-dir", shell.path, *words)
        kept = (shell.path / "execution_state.json").read_bytes()
        (shell.path / "execution_state.json").unlink()
        assert shell.typed("status", "--target-dir", shell.path, *words) == fresh
        (shell.path / "execution_state.json").write_bytes(kept)


def test_files_that_are_lost_or_edited_are_rebuilt(shell: Shell) -> None:
    shell.orchestrate()
    shell.execute()
    before = shell.tree()
    (shell.path / f"task_states/{TASK}.json").write_text("{}")
    (shell.path / "execution_state.json").unlink()
    checked = shell.typed("rebuild", "--target-dir", shell.path, "--check")
    assert checked.code == 4
    assert f"edited  task_states/{TASK}.json" in checked.out
    assert shell.typed("rebuild", "--target-dir", shell.path).code == 0
    assert shell.tree() == before
    assert shell.typed("rebuild", "--target-dir", shell.path, "--check").code == 0


def adapter(task: str) -> str:
    return "runtime_hal" if task == TASK else "merlin_local"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(shell: Shell) -> None:
    """W23."""
    rehearsed = shell.typed("--dry-run", "execute", "--example", NAME)
    assert rehearsed.code == 0
    assert rehearsed.out.splitlines()[-1] == "Next step: produce_outputs review_target_spec"
    assert not shell.path.exists()
    shell.orchestrate()
    shell.execute()
    before = shell.tree()
    assert (
        shell.typed("--dry-run", "execute", "--from-dir", shell.path).out.splitlines()[-1]
        == "Next step: none, it waits"
    )
    assert shell.answer("device", "device_available", "--dry-run").code == 0
    assert shell.answer("device", "nonsense", "--dry-run").code == 2
    assert shell.typed("--dry-run", "orchestrate", "--example", NAME).code == 4
    assert shell.tree() == before


def test_resume_begins_nothing(shell: Shell) -> None:
    """W23."""
    done = shell.typed("execute", "--example", NAME, "--resume")
    assert done.code == 3
    assert "holds no execution" in done.err
    assert not shell.path.exists()
    assert shell.typed("execute", "--example", NAME).code == 17
    assert shell.typed("execute", "--example", NAME, "--resume").code == 17


def test_execute_begins_what_was_not_orchestrated(shell: Shell) -> None:
    assert shell.typed("execute", "--example", NAME).code == 17
    assert (shell.path / "briefs/01-review_target_spec.md").is_file()
    assert (shell.path / "support_plan.json").is_file()


def test_prompts_go_where_prompts_dir_says_also_later(shell: Shell) -> None:
    """W12, W23."""
    shell.orchestrate("--prompts-dir", "post")
    shell.execute()
    shell.answer("device", "device_available")
    assert shell.execute().code == 18
    assert (shell.top / "post/prompt_003.md").is_file()
    assert not (shell.path / "prompts").exists()
    assert shell.execute("--prompts-dir", "other").code == 18
    assert (shell.top / "other/prompt_003.md").is_file()
    (shell.top / "other/prompt_003.response.md").write_text(RESPONSE)
    assert shell.execute().code == 17
    assert shell.typed("execute", "--example", NAME).code == 17
    assert json.loads((shell.path / "execution_bundle.json").read_bytes())["prompts_dir"] == str(shell.top / "other")


def test_the_directory_is_named_after_the_target_whatever_the_spec_lies_in(shell: Shell) -> None:
    """W7."""
    (shell.top / "some dir").mkdir()
    spec = (ROOT / "merlin_es/targetgen/examples" / NAME / "capability.yaml").read_text()
    (shell.top / "some dir/capability.yaml").write_text(spec)
    first = shell.typed("execute", "some dir/capability.yaml")
    assert f"Target directory: {shell.path}" in first.out
    again = shell.typed("execute", "some dir/capability.yaml")
    assert again.out == first.out
    assert [path.name for path in shell.path.parent.iterdir()] == [NAME]


def test_an_edited_spec_is_taken_over_when_the_execution_goes_on(shell: Shell) -> None:
    """W13."""
    spec = shell.top / "capability.yaml"
    text = (ROOT / "merlin_es/targetgen/examples" / NAME / "capability.yaml").read_text()
    spec.write_text(text)
    assert shell.typed("execute", spec).code == 17
    assert "device_query" in text
    spec.write_text(text.replace("device_query", "profile_run"))
    assert shell.typed("execute", spec).code == 18
    state = json.loads((shell.path / f"task_states/{TASK}.json").read_bytes())
    assert not any("device_query" in command for command in state["validation_commands"])


def test_progress_is_kept_unless_somebody_says_reset(shell: Shell) -> None:
    """W10."""
    shell.orchestrate()
    shell.execute()
    refused = shell.orchestrate()
    assert refused.code == 4
    assert "--reset" in refused.err
    assert shell.orchestrate("--reset").code == 0
    assert "task.completed" in (shell.path / "events.jsonl").read_text()


def test_a_second_execute_is_refused_and_the_first_one_named(shell: Shell) -> None:
    shell.orchestrate()
    with TargetDirectory(shell.path, Who("eve@lab", "cli"), unsynced()).executing():
        done = shell.execute()
        assert done.code == 4
        assert "is being executed by eve@lab, process" in done.err
        assert shell.orchestrate("--reset").code == 4
    assert shell.execute("--wait").code == 17


def test_an_answer_is_taken_while_somebody_executes(shell: Shell) -> None:
    """W6."""
    shell.orchestrate()
    shell.execute()
    with TargetDirectory(shell.path, Who("eve@lab", "cli"), unsynced()).executing():
        assert shell.answer("device", "device_available").code == 0
    assert shell.execute().code == 18


def test_the_first_answer_wins(shell: Shell) -> None:
    shell.orchestrate()
    shell.execute()
    assert shell.answer("device", "device_available").code == 0
    assert shell.answer("device", "device_available").code == 0
    late = shell.answer("device", "device_unavailable")
    assert late.code == 4
    assert "was answered with device_available by" in late.err
    assert shell.answer("devise", "device_available").code == 3
    assert "there is no question '" in shell.answer("devise", "device_available").err
    assert "Choice 'x' is not valid for request" in shell.answer("device", "x").err


def test_a_lease_answers_for_the_device_while_it_is_held(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.orchestrate()
    leases = bootstrap.leases(settings.load(None, os.environ, shell.top))
    [lease] = leases.reserve(Reserve(f"claim-{secrets.token_hex(5)}", "ada", bootstrap.now(), keys=("board-7",)))
    for name, value in variables([lease]).items():
        monkeypatch.setenv(name, value)
    assert shell.execute("--lease", "board-8").code == 17
    leases.release(lease.lease_id, owner="ada")
    assert shell.execute("--lease", "board-7").code == 17, "it has been given back"
    [again] = leases.reserve(Reserve(f"claim-{secrets.token_hex(5)}", "ada", bootstrap.now(), keys=("board-7",)))
    for name, value in variables([again]).items():
        monkeypatch.setenv(name, value)
    assert shell.execute("--lease", "board-7").code == 18


def test_the_run_that_executes_is_what_events_belong_to(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.orchestrate()
    monkeypatch.setenv("MERLIN_RUN_ID", "nvidia_ada-20261125000000-abcdef01")
    shell.execute()
    last = json.loads((shell.path / "events.jsonl").read_text().splitlines()[-1])
    assert last["corr"] == "nvidia_ada-20261125000000-abcdef01"


def test_an_agent_command_answers_the_prompts(shell: Shell) -> None:
    """W11."""
    script = shell.top / "agent.sh"
    script.write_text(f"cat > \"$2\" <<'END'\n{RESPONSE}END\n")
    shell.orchestrate("--prompt-backend", "provider")
    assert shell.execute().code == 17
    assert shell.execute("--agent-command", f"sh {script} {{prompt_file}} {{response_file}}").code == 17
    shell.answer("device", "device_available")
    done = shell.execute("--agent-command", f"sh {script} {{prompt_file}} {{response_file}}")
    assert f"Open question: {TASK}-branch_gate" in done.out


def test_where_there_is_nothing_the_message_says_what_makes_something(shell: Shell) -> None:
    for verb in (("execute", "--from-dir"), ("status", "--target-dir")):
        done = shell.typed(*verb, "nowhere")
        assert done.code == 3
        assert "merlin targetgen orchestrate CAPABILITY" in done.err
    assert shell.typed("execute").code == 2
    assert shell.typed("execute", "a", "b", "c").code == 2


def test_the_exit_codes_are_those_of_the_readme() -> None:
    text = (ROOT / "merlin_es/targetgen/README.md").read_text()
    documented = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)`", text, re.MULTILINE)}
    assert documented == OUTCOMES
