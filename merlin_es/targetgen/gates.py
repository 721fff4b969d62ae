"""Where does an execution stop and ask, what can be answered, and what does each answer do?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from merlin_es.targetgen.bundle import ExecutionTask
from projections.events.execution import Effect, Option, QuestionAsked
from projections.execution_state import Proposal

Stage = Literal["credential", "device", "branch_gate", "provider_disabled"]
GENERATED_ONLY: Final = "planner_generated_only"
_GATE_LINE: Final = re.compile(r"#\s*runtime verification gate:\s*(\w+)\s*")


@dataclass(frozen=True, slots=True)
class _Answer:
    """One option: what people read, and what it does; `pause` leaves the question open."""

    id: str
    effect: Effect | Literal["pause"]
    label: str
    description: str


_PAUSE = _Answer(
    "pause_execution", "pause", "Wait", "Nothing is done; the question stays open and can be answered at any time."
)

_ANSWERS: Final[Mapping[Stage, tuple[_Answer, ...]]] = {
    "credential": (
        _Answer("credential_ready", "passed", "It is there", "The work may rely on the credential from here on."),
        _Answer("credential_missing", "refused", "It is not there", "Work that needs it is blocked, here and later."),
        _PAUSE,
    ),
    "device": (
        _Answer("device_available", "passed", "The device is there", "The work may use the device from here on."),
        _Answer("device_unavailable", "refused", "There is no device", "The task is blocked until it is retried."),
        _PAUSE,
    ),
    "branch_gate": (
        _Answer(
            "apply_in_worktree",
            "apply",
            "Apply it in a worktree",
            "The changes go to a git worktree on a branch of its own, where the validation commands then run. "
            "Your checkout is not touched.",
        ),
        _Answer(
            "continue_without_mutation",
            "record",
            "Keep the proposal, change nothing",
            "The response is kept as it is, and the plan goes on without it being applied.",
        ),
        _Answer(
            "pause_for_branch_switch", "pause", "Wait", "Nothing is done; the question stays open while you prepare."
        ),
        _Answer("mark_blocked", "blocked", "Stop here", "The task is blocked until it is retried."),
    ),
    "provider_disabled": (
        _Answer(
            "switch_to_manualllm",
            "switch",
            "Answer the prompts by hand",
            "The packets wait as files, and whoever answers puts a response file beside each.",
        ),
        _PAUSE,
    ),
}

_RECOMMENDED: Final[Mapping[Stage, str]] = {
    "credential": "pause_execution",
    "device": "device_available",
    "branch_gate": "apply_in_worktree",
    "provider_disabled": "switch_to_manualllm",
}


def request_id(task_id: str, stage: Stage) -> str:
    """Give the id of the question that a task asks at a stage."""
    return f"{task_id}-{stage}"


def effect_of(stage: str, choice: str) -> Effect | Literal["pause"]:
    """Give what a choice does; what this release has no name for waits, which harms nobody."""
    for known, answers in _ANSWERS.items():
        if known == stage:
            return next((answer.effect for answer in answers if answer.id == choice), "pause")
    return "pause"


def credential_name(requirements: str) -> str | None:
    """Give the environment variable that a spec asks for, in a form that a shell can export; None for none."""
    text = requirements.strip()
    if text.lower() in ("", "none"):
        return None
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    return f"_{name}" if name[:1].isdigit() else name or None


def needs_device(task: ExecutionTask) -> bool:
    """Tell whether the plan says, in a line of its own, that a device has to be asked."""
    gates = (_GATE_LINE.fullmatch(command.strip()) for command in task.validation_commands)
    return task.family == "runtime_hal" and any(gate and gate[1] == "device_query" for gate in gates)


def commands_of(task: ExecutionTask, chosen: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Give the validation commands that can be run: those that somebody has chosen, else the plan's without remarks."""
    if chosen is not None:
        return chosen
    return tuple(command for command in task.validation_commands if not command.lstrip().startswith("#"))


def ask_credential(task: ExecutionTask, name: str, *, refused: bool, is_set: bool) -> QuestionAsked:
    """Ask whether the work may rely on a credential."""
    text = f"Task `{task.id}` needs the credential {name}, "
    if refused:
        text += "which was refused before" + (" and is set now" if is_set else "") + ". May it be relied on?"
    else:
        text += f"and the environment variable {name} is empty or not set. Is it there in another way?"
    return _ask(task, "credential", text, credential=name)


def ask_device(task: ExecutionTask, lease_key: str) -> QuestionAsked:
    """Ask whether there is a device; a lease on `lease_key` would answer, too."""
    text = (
        f"Task `{task.id}` asks a device. Is one there for it? A lease on {lease_key!r} answers by itself: "
        f"`merlin targetgen execute --lease {lease_key}` within a run that holds it."
    )
    return _ask(task, "device", text, lease_key=lease_key)


def ask_branch(task: ExecutionTask, branch: str, proposal: Proposal) -> QuestionAsked:
    """Ask what is to be done with a proposal."""
    what = f"{len(proposal.paths)} changed files" if proposal.paths else "no changed files"
    text = f"The response to task `{task.id}` proposes {what}. What is to be done with it? A worktree is on {branch}."
    return _ask(task, "branch_gate", text)


def ask_provider(task: ExecutionTask) -> QuestionAsked:
    """Ask who answers the prompts, when no agent is configured that could."""
    text = (
        "The prompt backend is `provider`, and no agent is configured: give `--agent-command`, "
        "or answer the prompts by hand?"
    )
    return _ask(task, "provider_disabled", text)


def _ask(
    task: ExecutionTask, stage: Stage, question: str, *, credential: str | None = None, lease_key: str | None = None
) -> QuestionAsked:
    return QuestionAsked(
        request_id=request_id(task.id, stage),
        task_id=task.id,
        stage=stage,
        question=question,
        options=tuple(Option(id=each.id, label=each.label, description=each.description) for each in _ANSWERS[stage]),
        recommended_option=_RECOMMENDED[stage],
        credential=credential,
        lease_key=lease_key,
    )
