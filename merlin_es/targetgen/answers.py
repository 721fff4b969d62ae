"""What may people do to an execution from outside: answer, retry, make a plan ready anew?"""

from __future__ import annotations

from dataclasses import dataclass

from merlin_es.errors import NotFound, Refused, Usage
from merlin_es.targetgen.gates import effect_of
from projections.events.execution import (
    BackendSwitched,
    ExecutionEvent,
    ExecutionPrepared,
    ExecutionReset,
    QuestionAnswered,
    TaskRetried,
    ValidationChosen,
)
from projections.execution_state import STUCK, ExecutionState, RequestState

_SEE = "`merlin targetgen status` shows where each task stands"


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Somebody chooses an option of a question."""

    request_id: str
    choice: str


def answer(command: AnswerRequest, state: ExecutionState) -> tuple[ExecutionEvent, ...]:
    """Take the first answer that does something; the same again is the same once, another one is refused."""
    request = state.requests.get(command.request_id)
    if request is None:
        asked = ", ".join(state.requests) or "nothing yet"
        raise NotFound(
            f"there is no question {command.request_id!r}: this execution has asked {asked}",
            name=command.request_id,
            among=state.requests,
        )
    if command.choice not in [option.id for option in request.options]:
        options = ", ".join(option.id for option in request.options)
        raise Usage(f"Choice '{command.choice}' is not valid for request {request.id}: choose one of {options}")
    if request.status != "open" and command.choice == request.selected_option:
        return ()
    if request.status == "resolved":
        raise Refused(f"{request.id} {_how(request)}: `merlin targetgen status` shows what is open")
    if request.status == "answered" and effect_of(request.stage, request.selected_option or "") != "pause":
        raise Refused(f"{request.id} {_how(request)}, and the next `execute` applies that: {_SEE}")
    return (QuestionAnswered(request_id=request.id, choice=command.choice),)


def retry(task_id: str | None, state: ExecutionState, *, reconsider: bool = False) -> tuple[ExecutionEvent, ...]:
    """Take up again what is stuck: one task, or all of them; `reconsider` what was decided at their branch gates."""
    if task_id is None:
        stuck = [task.id for task in state.tasks.values() if task.status in STUCK]
        return tuple(TaskRetried(task_id=id_, reconsider=reconsider) for id_ in stuck)
    task = state.tasks.get(task_id)
    if task is None:
        raise NotFound(
            f"there is no task {task_id!r} in this plan: it has {', '.join(state.tasks)}",
            name=task_id or "",
            among=state.tasks,
        )
    if task.status not in STUCK:
        raise Refused(f"{task_id} is {task.status}, so there is nothing to retry: {_SEE}")
    return (TaskRetried(task_id=task_id, reconsider=reconsider),)


def choose_validation(task_id: str, commands: tuple[str, ...], state: ExecutionState) -> tuple[ExecutionEvent, ...]:
    """Have a task that is not done be validated by other commands than the plan's; the same again changes nothing."""
    task = state.tasks.get(task_id)
    if task is None:
        raise NotFound(
            f"there is no task {task_id!r} in this plan: it has {', '.join(state.tasks)}",
            name=task_id or "",
            among=state.tasks,
        )
    if task.validated_with == commands:
        return ()
    if task.status == "completed":
        raise Refused(f"{task_id} is completed, so nothing of it is validated any more: {_SEE}")
    return (ValidationChosen(task_id=task_id, commands=commands),)


def prepare(plan: ExecutionPrepared, state: ExecutionState, *, reset: bool) -> tuple[ExecutionEvent, ...]:
    """Take a plan for an execution that begins; progress is given up only where that is said."""
    _require_own(plan, state)
    if state.has_progress and not reset:
        done = sum(task.status == "completed" for task in state.tasks.values())
        raise Refused(
            f"this execution of {state.target} has progress ({done} of {len(state.tasks)} tasks completed): go on with "
            "`merlin targetgen execute`, or add --reset to begin anew (what happened stays in the log)"
        )
    return (ExecutionReset(), plan) if state.has_progress else resume(plan, state)


def resume(plan: ExecutionPrepared, state: ExecutionState) -> tuple[ExecutionEvent, ...]:
    """Take a plan for an execution that goes on; the same plan again changes nothing."""
    _require_own(plan, state)
    known = (state.bundle_sha256, state.files, state.prompt_backend, state.agent, state.prompts_dir)
    same = known == (plan.bundle_sha256, plan.files, plan.prompt_backend, plan.agent, plan.prompts_dir)
    return () if same else (plan,)


def switch(backend: str, state: ExecutionState) -> tuple[ExecutionEvent, ...]:
    """Have the prompts answered in another way, where there are prompts."""
    if backend == state.prompt_backend:
        return ()
    if "none" in (backend, state.prompt_backend) or backend not in ("manualllm", "provider"):
        raise Usage(f"from {state.prompt_backend} to {backend} needs another plan: give the capability, too")
    return (BackendSwitched(prompt_backend=backend),)


def _require_own(plan: ExecutionPrepared, state: ExecutionState) -> None:
    if state.is_prepared and plan.target != state.target:
        raise Refused(f"this directory belongs to an execution of {state.target}: give another one for {plan.target}")


def _how(request: RequestState) -> str:
    if not request.answers or request.withdrawn:
        return "is not asked any more"
    last = request.answers[-1]
    return f"was answered with {last.choice} by {last.actor} at {last.at}"
