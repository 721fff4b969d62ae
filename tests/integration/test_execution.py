"""Does an execution do what the contract says, and none of what was wrong before (W1 and so on)?"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from merlin_es.errors import NotFound, Refused, Usage
from merlin_es.targetgen import answers
from merlin_es.targetgen.ports import HeldLease
from projections.events.execution import TaskRetried
from tests.execution_examples import (
    GOOD,
    TARGET,
    Desk,
    ScriptedAgent,
    device,
    plan,
    shared,
    task,
    through_the_gate,
)

GATE = "build-branch_gate"


def document(path: Path) -> dict[str, object]:
    found = json.loads(path.read_bytes())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "w")


def test_an_execution_completes_by_answers_and_responses_alone(desk: Desk) -> None:
    """W1."""
    assert through_the_gate(desk).outcome == "completed"
    state = document(desk.path / "execution_state.json")
    assert (state["current_task"], state["current_stage"], state["open_question_id"]) == (None, None, None)
    assert (desk.path / "mutation/worktree/src/a.txt").read_text() == "all right\n"
    assert not (desk.workspace / "src").exists()
    assert desk.validation.ran == ["check it"]


def test_what_is_completed_is_not_done_again(desk: Desk) -> None:
    through_the_gate(desk)
    before = desk.types()
    assert desk.execute().outcome == "completed"
    assert desk.types() == before
    assert desk.validation.ran == ["check it"]


def test_a_proposal_that_is_only_kept_lets_the_plan_go_on(desk: Desk) -> None:
    """W1."""
    desk.execute()
    desk.respond(3)
    desk.execute()
    desk.answer(GATE, "continue_without_mutation")
    assert desk.execute().outcome == "completed"
    build = desk.task("build")
    assert (build.completed_how, build.recorded, build.deferred) == ("proposal_recorded", True, ("check it",))
    assert desk.validation.ran == []
    results = document(desk.path / "task_states/build.json")["validation_results"]
    assert isinstance(results, list)
    assert "DEFERRED validation_command check it" in results


@pytest.mark.parametrize("named", ["build", True])
def test_a_failed_preflight_is_left_by_a_retry(tmp_path: Path, named: str | bool) -> None:
    """W2."""
    desk = Desk(tmp_path / "w", plan(shared("review"), task("build", "review", number=2, repo_root="third_party/x")))
    assert desk.execute().outcome == "blocked"
    assert desk.task("build").preflight[0] == f"FAIL repo_root_missing {desk.workspace}/third_party/x"
    assert "third_party/x: bring that there, then `execute --retry build`" in (desk.task("build").message or "")
    assert desk.execute().outcome == "blocked"
    (desk.workspace / "third_party/x").mkdir(parents=True)
    assert desk.execute().outcome == "blocked"
    assert desk.execute(retry=named).outcome == "awaiting_response"
    assert desk.task("build").attempt_count == 2


def test_a_blocked_task_is_left_by_a_retry(desk: Desk) -> None:
    """W2."""
    desk.execute()
    desk.respond(3)
    desk.execute()
    desk.answer(GATE, "mark_blocked")
    assert desk.execute().outcome == "blocked"
    assert desk.execute().outcome == "blocked"
    assert desk.execute(retry="build").outcome == "awaiting_operator"
    assert desk.state().requests[GATE].status == "open"
    desk.answer(GATE, "apply_in_worktree")
    assert desk.execute().outcome == "completed"


def test_a_retry_of_what_is_not_stuck_is_refused(desk: Desk) -> None:
    desk.execute()
    with pytest.raises(Refused, match="build is awaiting_response"):
        desk.execute(retry="build")
    with pytest.raises(NotFound, match="no task 'built'"):
        desk.execute(retry="built")
    before = desk.types()
    desk.execute(retry=True)
    assert desk.types() == before


@pytest.mark.parametrize(
    ("requirements", "stage", "pause", "go"),
    [
        ("api_token", "credential", "pause_execution", "credential_ready"),
        ("none", "device", "pause_execution", "device_available"),
    ],
)
def test_a_pause_pauses(tmp_path: Path, requirements: str, stage: str, pause: str, go: str) -> None:
    """W3."""
    make = device if stage == "device" else task
    desk = Desk(tmp_path / "w", plan(make("build", credential_requirements=requirements)))
    desk.execute()
    question = f"build-{stage}"
    for _ in range(2):
        desk.answer(question, pause)
        assert desk.execute().outcome == "awaiting_operator"
        request = desk.state().requests[question]
        assert (request.status, request.selected_option) == ("open", None)
    assert [answer.choice for answer in request.answers] == [pause, pause]
    desk.answer(question, pause)
    desk.answer(question, go)  # A pause can be overruled before it was applied, too.
    assert desk.execute().outcome == "awaiting_response"


def test_a_pause_at_the_branch_gate_pauses(desk: Desk) -> None:
    """W3."""
    desk.execute()
    desk.respond(3)
    desk.execute()
    desk.answer(GATE, "pause_for_branch_switch")
    assert desk.execute().outcome == "awaiting_operator"
    assert desk.execute().outcome == "awaiting_operator"
    desk.answer(GATE, "apply_in_worktree")
    assert desk.execute().outcome == "completed"


@pytest.mark.parametrize("reset", [False, True])
def test_a_refused_credential_stays_refused_until_somebody_answers_otherwise(tmp_path: Path, reset: bool) -> None:
    """W4."""
    desk = Desk(tmp_path / "w", plan(task("build", credential_requirements="api_token")))
    desk.execute()
    desk.answer("build-credential", "credential_missing")
    assert desk.execute().outcome == "blocked"
    desk.secrets.names.add("API_TOKEN")
    if reset:
        desk.orchestrate(reset=True)
    assert desk.execute().outcome == "blocked"
    with pytest.raises(Refused, match="answered with credential_missing by ada@lab"):
        desk.answer("build-credential", "credential_ready")
    assert desk.execute(retry=True).outcome == "awaiting_operator"
    assert "which was refused before and is set now" in desk.state().requests["build-credential"].question
    desk.answer("build-credential", "credential_ready")
    assert desk.execute().outcome == "awaiting_response"


@pytest.mark.parametrize("reset", [False, True])
def test_a_refused_device_stays_refused_until_somebody_answers_otherwise(tmp_path: Path, reset: bool) -> None:
    """W4."""
    desk = Desk(tmp_path / "w", plan(device("build")))
    desk.execute()
    desk.answer("build-device", "device_unavailable")
    assert desk.execute().outcome == "blocked"
    if reset:
        desk.orchestrate(reset=True)
        assert desk.execute().outcome == "blocked"
    assert desk.execute(retry="build").outcome == "awaiting_operator"
    desk.answer("build-device", "device_available")
    assert desk.execute().outcome == "awaiting_response"


def test_a_response_is_never_written(desk: Desk) -> None:
    """W5."""
    desk.execute()
    path = desk.respond(3, "draft v1, bad")
    desk.execute()
    desk.respond(3, "final v2\nsrc/a.txt: x\n")
    for _ in range(2):
        desk.execute()
    desk.orchestrate(reset=True)
    desk.execute()
    assert path.read_text() == "final v2\nsrc/a.txt: x\n"
    assert desk.task("build").proposal is not None


def test_an_answer_that_comes_while_somebody_executes_is_not_lost(desk: Desk) -> None:
    """W6."""
    desk.execute()
    desk.respond(3)
    desk.execute()
    mine = desk.opened()
    _, head = mine.at_head()  # An executor that has looked, and has not written yet.
    desk.answer(GATE, "apply_in_worktree", "bob@lab")
    assert not mine.append([TaskRetried(task_id="build")], head)
    assert desk.state().requests[GATE].answers[-1].actor == "bob@lab"
    assert desk.execute().outcome == "completed"


def test_a_target_directory_may_have_any_name_and_be_renamed(desk: Desk) -> None:
    """W7."""
    desk.execute()
    desk.respond(3)
    elsewhere = desk.path.with_name("renamed")
    desk.path.rename(elsewhere)
    desk.path = elsewhere
    assert desk.execute().outcome == "awaiting_operator"
    desk.answer(GATE, "apply_in_worktree")
    assert desk.execute().outcome == "completed"
    assert [path.name for path in elsewhere.parent.iterdir()] == ["renamed"]


def test_a_question_is_on_disk_before_the_state_that_names_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """W9."""
    written: list[str] = []
    rename = Path.rename

    def noted(self: Path, target: Path) -> Path:
        written.append(target.name)
        return rename(self, target)

    desk.execute()
    desk.respond(3)
    monkeypatch.setattr(Path, "rename", noted)
    desk.execute()
    asked = written.index(f"{GATE}.json")
    assert asked < written.index("execution_state.json", asked)
    (desk.path / f"operator_requests/{GATE}.json").unlink()
    assert desk.execute().outcome == "awaiting_operator"
    assert document(desk.path / f"operator_requests/{GATE}.json")["status"] == "open"


def test_progress_is_given_up_only_where_that_is_said(desk: Desk) -> None:
    """W10."""
    desk.execute()
    desk.respond(3)
    desk.execute()
    with pytest.raises(Refused, match=r"has progress \(2 of 4 tasks completed\).*--reset"):
        desk.orchestrate()
    before = desk.types()
    desk.orchestrate(reset=True)
    assert desk.types() == [*before, "execution.reset", "execution.prepared", "execution.files_delivered"]
    assert set(desk.statuses().values()) == {"planned"}
    request = desk.state().requests[GATE]
    assert (request.status, request.withdrawn) == ("resolved", True)
    with pytest.raises(Refused, match="is not asked any more"):
        desk.answer(GATE, "apply_in_worktree")
    assert desk.execute().outcome == "awaiting_operator"  # The response is there already, and the question is new.
    assert desk.state().requests[GATE].status == "open"
    desk.answer(GATE, "apply_in_worktree")
    assert desk.execute().outcome == "completed"


def test_orchestrating_the_same_plan_again_before_anything_was_done_is_once(desk: Desk) -> None:
    before = desk.types()
    desk.orchestrate()
    assert desk.types() == before


def test_a_directory_belongs_to_one_target(desk: Desk) -> None:
    other = plan()
    other = replace(other, bundle=replace(other.bundle, target="other"))
    with pytest.raises(Refused, match="belongs to an execution of tiny"):
        desk.orchestrate(other)


def test_without_an_agent_the_provider_backend_asks_and_the_answer_applies(tmp_path: Path) -> None:
    """W11."""
    desk = Desk(tmp_path / "w", plan(backend="provider"))
    assert desk.execute().outcome == "awaiting_operator"
    question = "review-provider_disabled"
    assert desk.state().current_task is not None
    desk.answer(question, "pause_execution")
    assert desk.execute().outcome == "awaiting_operator"
    desk.answer(question, "switch_to_manualllm")
    assert desk.execute().outcome == "awaiting_response"
    assert desk.state().prompt_backend == "manualllm"
    assert document(desk.path / "execution_bundle.json")["prompt_backend"] == "manualllm"


def test_an_agent_that_is_configured_later_answers_the_question_about_it(tmp_path: Path) -> None:
    """W11."""
    desk = Desk(tmp_path / "w", plan(backend="provider"))
    desk.execute()
    desk.agent = ScriptedAgent()
    assert desk.execute().outcome == "awaiting_operator"
    assert desk.state().requests["review-provider_disabled"].status == "resolved"
    assert desk.task("build").proposal is not None


def test_an_agent_answers_each_packet_once(tmp_path: Path) -> None:
    agent = ScriptedAgent()
    desk = Desk(tmp_path / "w", plan(backend="provider"), agent=agent)
    assert desk.execute().outcome == "awaiting_operator"
    desk.answer(GATE, "apply_in_worktree")
    assert desk.execute().outcome == "completed"
    assert agent.ran == 1


def test_an_agent_that_fails_blocks_its_task_until_a_retry(tmp_path: Path) -> None:
    agent = ScriptedAgent(says=None)
    desk = Desk(tmp_path / "w", plan(backend="provider"), agent=agent)
    assert desk.execute().outcome == "blocked"
    assert desk.execute().outcome == "blocked"
    assert agent.ran == 1
    assert "ended with exit code 3 and left no response" in (desk.task("build").message or "")
    agent.says = GOOD
    assert desk.execute(retry="build").outcome == "awaiting_operator"
    assert agent.ran == 2


def test_an_agent_does_not_run_where_a_response_lies_already(tmp_path: Path) -> None:
    agent = ScriptedAgent()
    desk = Desk(tmp_path / "w", plan(backend="provider"), agent=agent)
    desk.respond(3, "mine\nsrc/a.txt: mine\n")
    desk.execute()
    assert agent.ran == 0
    assert desk.task("build").proposal is not None


def test_packets_and_responses_lie_where_prompts_dir_says(tmp_path: Path) -> None:
    """W12."""
    desk = Desk(tmp_path / "w", plan(prompts_dir=str(tmp_path / "post")))
    assert desk.execute().outcome == "awaiting_response"
    assert (tmp_path / "post/prompt_003.md").is_file()
    assert not (desk.path / "prompts").exists()
    (tmp_path / "post/prompt_003.response.md").write_text(GOOD)
    assert desk.execute().outcome == "awaiting_operator"


def test_what_is_asked_of_a_task_comes_from_the_plan_and_not_from_the_past(tmp_path: Path) -> None:
    """W13."""
    desk = Desk(tmp_path / "w", plan(shared("review"), device("build", "review", number=2)))
    assert desk.execute().outcome == "awaiting_operator"
    desk.resume(plan(shared("review"), task("build", "review", number=2)))
    state = document(desk.path / "task_states/build.json")
    assert state["validation_commands"] == ["check it"]
    assert state["status"] == "awaiting_response"
    assert desk.state().requests["build-device"].withdrawn
    assert desk.statuses()["review"] == "completed"


def test_a_task_that_the_plan_has_no_longer_is_dropped_and_may_come_back(desk: Desk) -> None:
    """W13."""
    desk.execute()
    desk.resume(plan(shared("review", number=1), task("build", "review", number=2)))
    assert list(desk.statuses()) == ["review", "build"]
    assert document(desk.path / "task_states/ladder.json")["dropped"] is True
    desk.resume(plan())
    assert list(desk.statuses()) == ["review", "leaf", "build", "ladder"]
    assert "dropped" not in document(desk.path / "task_states/ladder.json")


def test_files_of_a_later_or_broken_release_are_never_read(desk: Desk) -> None:
    """W14."""
    desk.execute()
    path = desk.path / "execution_state.json"
    state = document(path)
    path.write_text(json.dumps({**state, "unknown": 1, "tasks": {"x": {"y": 2}}}))
    (desk.path / "task_states/build.json").write_text("{half a fi")
    (desk.path / "operator_requests/x.json").write_text("[]")
    assert desk.execute().outcome == "awaiting_response"
    assert document(path) == state
    assert state["schema_version"] == 1


def test_a_planning_task_is_completed_when_its_outputs_are_there(tmp_path: Path) -> None:
    """W15."""
    desk = Desk(tmp_path / "w")
    desk.execute()
    assert (desk.path / "review.json").read_text() == '{"ok": true}\n'
    assert set(desk.task("review").outputs) == {"review.json"}
    incomplete = plan(shared("review"))
    broken = Desk(tmp_path / "v", type(incomplete)(incomplete.bundle, incomplete.briefs, incomplete.packets, {}))
    assert broken.execute().outcome == "blocked"
    assert "nothing in it makes that" in (broken.task("review").message or "")


@pytest.mark.parametrize("text", ["", "bad", "etc/passwd: x\n"])
def test_a_response_that_cannot_be_used_is_refused_and_says_why(desk: Desk, text: str) -> None:
    """W16."""
    desk.execute()
    desk.respond(3, text)
    assert desk.execute().outcome == "awaiting_response"
    before = desk.types()
    assert before[-1] == "response.refused"
    assert desk.execute().outcome == "awaiting_response"
    assert desk.types() == before  # The same bytes are not read twice.
    assert desk.task("build").response_errors
    desk.respond(3)
    assert desk.execute().outcome == "awaiting_operator"
    assert desk.task("build").response_errors == ()


def test_a_response_that_does_not_apply_can_be_mended_without_another_question(desk: Desk) -> None:
    assert through_the_gate(desk, text="src/a.txt: conflict\n").outcome == "awaiting_response"
    assert desk.task("build").response_errors == ("src/a.txt does not fit",)
    desk.respond(3)
    assert desk.execute().outcome == "completed"


def test_a_response_that_changes_while_the_question_is_open_is_read_again(desk: Desk) -> None:
    desk.execute()
    desk.respond(3, "one\nsrc/a.txt: 1\n")
    desk.execute()
    desk.respond(3, "two\nsrc/a.txt: 2\n")
    assert desk.execute().outcome == "awaiting_operator"
    proposal = desk.task("build").proposal
    assert proposal is not None
    assert proposal.summary.startswith("two")
    desk.answer(GATE, "apply_in_worktree")
    desk.respond(3, "three\nsrc/a.txt: 3\n")  # What nobody has said yes to is not applied.
    assert desk.execute().outcome == "awaiting_operator"
    assert not (desk.path / "mutation/worktree/src/a.txt").exists()


def test_only_the_line_of_the_plan_opens_the_device_gate(tmp_path: Path) -> None:
    """W17."""
    commands = ("echo device_query", "# a remark on device_query")
    desk = Desk(tmp_path / "w", plan(device("build", validation_commands=commands)))
    assert desk.execute().outcome == "awaiting_response"


def test_a_credential_is_asked_for_once_an_execution(tmp_path: Path) -> None:
    """W18."""
    tasks = [task(name, number=number, credential_requirements="AI-hub token") for number, name in enumerate("abc", 1)]
    desk = Desk(tmp_path / "w", plan(*tasks))
    desk.execute()
    assert list(desk.state().requests) == ["a-credential"]
    assert desk.state().requests["a-credential"].credential == "AI_HUB_TOKEN"
    assert set(desk.statuses().values()) == {"awaiting_operator"}
    desk.answer("a-credential", "credential_ready")
    desk.execute()
    assert set(desk.statuses().values()) == {"awaiting_response"}
    assert list(desk.state().requests) == ["a-credential"]


def test_a_credential_that_is_set_asks_nobody(tmp_path: Path) -> None:
    """W18."""
    desk = Desk(tmp_path / "w", plan(task("build", credential_requirements="ai-hub-token")))
    assert desk.execute().outcome == "awaiting_operator"
    desk.secrets.names.add("AI_HUB_TOKEN")
    assert desk.execute().outcome == "awaiting_response"
    assert desk.state().requests["build-credential"].status == "resolved"


def test_results_say_the_newest_of_each_and_attempts_are_counted_as_attempts(desk: Desk) -> None:
    """W19."""
    desk.validation.codes = [7, 0]
    assert through_the_gate(desk).outcome == "blocked"
    for _ in range(3):
        desk.execute()
    state = document(desk.path / "task_states/build.json")
    assert state["validation_results"] == [
        f"PASS repo_root_exists {desk.workspace}",
        "PASS artifact_exists spec.yaml",
        "FAIL validation_command check it (exit 7, 0.5 s)",
    ]
    assert state["attempt_count"] == 1
    desk.execute(retry=True)
    state = document(desk.path / "task_states/build.json")
    assert state["attempt_count"] == 2
    assert state["validation_results"][-1] == "PASS validation_command check it (exit 0, 0.5 s)"  # type: ignore[index]


def test_the_state_says_where_it_stands_at_once(tmp_path: Path) -> None:
    """W19."""
    desk = Desk(tmp_path / "w", plan(task("build", repo_root="missing")))
    desk.execute()
    state = document(desk.path / "execution_state.json")
    assert (state["current_task"], state["current_stage"]) == ("build", "preflight")


def test_a_failed_validation_is_retried_in_the_worktree_as_it_is(desk: Desk) -> None:
    desk.validation.codes = [1]
    assert through_the_gate(desk).outcome == "blocked"
    assert desk.statuses()["build"] == "validation_failed"
    mended = desk.path / "mutation/worktree/src/a.txt"
    mended.write_text("mended by hand\n")
    assert desk.execute(retry="build").outcome == "completed"
    assert mended.read_text() == "mended by hand\n"
    assert desk.validation.ran == ["check it", "check it"]


def test_what_was_decided_about_a_proposal_can_be_reconsidered(desk: Desk) -> None:
    """W1."""
    desk.validation.codes = [1]
    through_the_gate(desk)
    assert "--reconsider" in (desk.task("build").message or "")
    assert desk.execute(retry="build", reconsider=True).outcome == "awaiting_operator"
    desk.answer(GATE, "continue_without_mutation")
    assert desk.execute().outcome == "completed"
    assert desk.task("build").completed_how == "proposal_recorded"


def test_a_failed_validation_is_mended_by_another_response(desk: Desk) -> None:
    desk.validation.codes = [1]
    through_the_gate(desk)
    desk.respond(3, "src/a.txt: better\n")
    assert desk.execute(retry=True).outcome == "completed"
    assert (desk.path / "mutation/worktree/src/a.txt").read_text() == "better\n"


def test_a_worktree_that_is_gone_is_made_and_filled_again(desk: Desk) -> None:
    desk.validation.codes = [1]
    through_the_gate(desk)
    shutil.rmtree(desk.path / "mutation")
    assert desk.execute(retry=True).outcome == "completed"
    assert (desk.path / "mutation/worktree/src/a.txt").read_text() == "all right\n"


def test_only_files_that_say_something_else_are_written(desk: Desk) -> None:
    """W20."""
    desk.execute()
    desk.respond(3)

    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in desk.path.rglob("*.json")}

    before = files()
    desk.execute()
    after = files()
    changed = {path.name for path, known in after.items() if before.get(path) != known}
    assert changed == {"build.json", f"{GATE}.json", "execution_bundle.json", "execution_state.json"}
    desk.execute()
    assert files() == after


def test_the_three_places_that_say_a_state_say_the_same(desk: Desk) -> None:
    """W20."""
    desk.execute()
    bundle, state = document(desk.path / "execution_bundle.json"), document(desk.path / "execution_state.json")
    for each in bundle["tasks"]:  # type: ignore[attr-defined]
        alone = document(desk.path / f"task_states/{each['id']}.json")
        del alone["as_of"]
        assert each["execution_state"] == alone == state["tasks"][each["id"]]  # type: ignore[index]


def test_a_packet_that_was_edited_is_kept_and_noted(desk: Desk) -> None:
    """W21."""
    packet = desk.path / "prompts/prompt_003.md"
    packet.write_text("# my own words\n")
    desk.execute()
    assert packet.read_text() == "# my own words\n"
    assert desk.task("build").prompt_edited
    noted = desk.task("build").prompt_sha256
    assert noted is not None
    assert desk.place.blobs.get(noted) == b"# my own words\n"
    desk.orchestrate(reset=True)
    assert packet.read_text() == "# my own words\n"
    assert set(desk.state().kept) == {"prompts/prompt_003.md"}


def test_a_packet_of_ours_follows_the_plan_and_one_that_is_gone_comes_back(desk: Desk) -> None:
    """W21."""
    changed = plan()
    packets = dict(changed.packets) | {"prompt_003.md": "# Prompt: something else\n"}
    desk.resume(type(changed)(changed.bundle, changed.briefs, packets, changed.documents, changed.capability))
    assert (desk.path / "prompts/prompt_003.md").read_text() == "# Prompt: something else\n"
    desk.orchestrate(reset=True)
    assert (desk.path / "prompts/prompt_003.md").read_text() == "# Prompt: Do build\n"
    (desk.path / "prompts/prompt_003.md").unlink()
    desk.execute()
    assert (desk.path / "prompts/prompt_003.md").read_text() == "# Prompt: Do build\n"


def test_a_task_that_is_stuck_stops_only_those_that_depend_on_it(tmp_path: Path) -> None:
    """W22."""
    tasks = (
        task("stuck", number=1, repo_root="missing"),
        shared("after", "stuck", number=2),
        task("other", number=3),
        task("third", number=4),
    )
    desk = Desk(tmp_path / "w", plan(*tasks))
    assert desk.execute().outcome == "awaiting_response"
    assert desk.statuses() == {
        "stuck": "preflight_failed",
        "after": "planned",
        "other": "awaiting_response",
        "third": "awaiting_response",
    }
    assert document(desk.path / "execution_state.json")["current_task"] == "other"
    desk.respond(4)
    assert desk.execute().outcome == "awaiting_response"
    assert desk.statuses()["third"] == "awaiting_operator"


def test_a_lease_that_the_run_holds_answers_for_the_device(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w", plan(device("build")))
    assert desk.execute().outcome == "awaiting_operator"
    assert desk.state().requests["build-device"].lease_key == TARGET
    assert "--lease tiny" in desk.state().requests["build-device"].question
    desk.leases.leases = {"board-7": HeldLease("lease-0123456789", "42")}
    assert desk.execute(lease="board-8").outcome == "awaiting_operator"
    assert desk.execute(lease="board-7").outcome == "awaiting_response"
    [leased] = [event for event in desk.place.log.read(desk.place.stream or "") if event.type == "task.device_leased"]
    assert (leased.data["lease_key"], leased.data["lease_id"], leased.data["fence"]) == (
        "board-7",
        "lease-0123456789",
        "42",
    )
    assert desk.state().requests["build-device"].status == "resolved"


def test_without_a_backend_a_task_is_blocked_until_there_is_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w", plan(backend="none"))
    assert desk.execute().outcome == "blocked"
    build = desk.task("build")
    assert build.current_stage == "prompt_backend_disabled"
    assert desk.resume(plan()).outcome == "awaiting_response"


def test_answering_twice_is_once_and_otherwise_is_refused(desk: Desk) -> None:
    desk.execute()
    desk.respond(3)
    desk.execute()
    desk.answer(GATE, "apply_in_worktree")
    before = desk.types()
    desk.answer(GATE, "apply_in_worktree", "bob@lab")
    assert desk.types() == before
    with pytest.raises(Refused, match="was answered with apply_in_worktree by ada@lab"):
        desk.answer(GATE, "mark_blocked", "bob@lab")
    desk.execute()
    with pytest.raises(Refused, match="was answered with apply_in_worktree by ada@lab"):
        desk.answer(GATE, "mark_blocked")
    before = desk.types()
    desk.answer(GATE, "apply_in_worktree")
    assert desk.types() == before


def test_what_cannot_be_answered_says_what_can(desk: Desk) -> None:
    desk.execute()
    with pytest.raises(NotFound, match="there is no question 'nothing'"):
        desk.answer("nothing", "x")
    desk.respond(3)
    desk.execute()
    with pytest.raises(Usage, match=f"Choice 'x' is not valid for request {GATE}: choose one of apply_in_worktree"):
        desk.answer(GATE, "x")


def _execute_when_told(path: Path, top: Path, at_work: object, go: object) -> None:
    desk = Desk.__new__(Desk)
    desk.path, desk.workspace = path, top
    with desk.opened("eve@lab").executing():
        at_work.set()  # type: ignore[attr-defined]
        go.wait(60)  # type: ignore[attr-defined]


def test_one_at_a_time_executes_and_the_other_one_is_told_who(desk: Desk) -> None:
    forked = multiprocessing.get_context("fork")
    at_work, go = forked.Event(), forked.Event()
    other = forked.Process(target=_execute_when_told, args=(desk.path, desk.workspace, at_work, go))
    other.start()
    try:
        assert at_work.wait(60)
        with pytest.raises(Refused, match=rf"is being executed by eve@lab, process {other.pid} on .*--wait"):
            desk.execute()
    finally:
        go.set()
        other.join(60)
    assert (desk.path / ".executor.lock").is_file()
    assert desk.execute().outcome == "awaiting_response"


def test_everything_says_in_which_run_it_was_done(desk: Desk) -> None:
    desk.place = desk.opened(run_id="tiny-20261125000000-abcdef01")
    with desk.place.executing():
        desk.executor().execute()
    events = list(desk.place.log.read(desk.place.stream or ""))
    assert {event.corr for event in events[3:]} == {"tiny-20261125000000-abcdef01"}


def test_a_task_is_validated_by_what_somebody_chose(desk: Desk) -> None:
    desk.validation.codes = [1]
    assert through_the_gate(desk).outcome == "blocked"
    chosen = ("first check", "second check")
    desk.place.change(partial(answers.choose_validation, "build", chosen))
    before = desk.types()
    desk.place.change(partial(answers.choose_validation, "build", chosen))
    assert desk.types() == before, "asked twice is asked once"
    assert document(desk.path / "task_states/build.json")["validated_with"] == list(chosen)
    assert desk.execute(retry=True).outcome == "completed"
    assert desk.validation.ran == ["check it", *chosen]
    with pytest.raises(Refused, match="build is completed"):
        desk.place.change(partial(answers.choose_validation, "build", ("third check",)))
    with pytest.raises(NotFound, match="no task 'built'"):
        desk.place.change(partial(answers.choose_validation, "built", chosen))


def test_a_chosen_validation_outlives_another_plan_and_a_reset(desk: Desk) -> None:
    desk.place.change(partial(answers.choose_validation, "build", ("my check",)))
    desk.orchestrate(reset=True)
    assert desk.task("build").validated_with == ("my check",)


def test_the_progress_of_a_tool_that_kept_no_log_is_not_written_over(tmp_path: Path) -> None:
    """W10."""
    path = tmp_path / "w/out" / TARGET / "execution_state.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"tasks": {"review": {"status": "completed"}}}')
    with pytest.raises(Refused, match="there is no log beside it"):
        Desk(tmp_path / "w")
    assert path.read_text() == '{"tasks": {"review": {"status": "completed"}}}'
    path.write_text('{"tasks": {"review": {"status": "planned"}}}')
    assert Desk(tmp_path / "w").execute().outcome == "awaiting_response"
