"""What is the next thing to do in an execution? The one place that knows, live and after a crash alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from merlin_es.targetgen import gates
from merlin_es.targetgen.bundle import ExecutionBundle, ExecutionTask
from merlin_es.targetgen.ports import HeldLease
from projections.events.execution import (
    BackendSwitched,
    CredentialFound,
    DeviceLeased,
    Effect,
    ExecutionEvent,
    ProposalRecorded,
    QuestionPaused,
    QuestionResolved,
    QuestionShared,
    Step,
    StepStarted,
    TaskBlocked,
    TaskCompleted,
    TaskPreflighted,
)
from projections.execution_state import STUCK, ExecutionState, RequestState, TaskState

GENERATED: Final = "build/generated/"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the world when the decision is taken.

    `roots` has for each repository root where it is and whether it is there, `responses` the digest of each response
    file by the task that it answers, `lease` what this run holds on `lease_key`.
    """

    roots: Mapping[str, tuple[str, bool]]
    artifacts: Mapping[str, bool]
    credentials: frozenset[str] = frozenset()
    responses: Mapping[str, str] = field(default_factory=dict)
    lease_key: str | None = None
    lease: HeldLease | None = None
    has_agent: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do outside. It was recorded before that it is wanted, and doing it again does no harm."""

    step: Step | Literal["deliver"]
    task_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """Either events to record, or one thing to do; neither when the execution has to wait for somebody."""

    events: tuple[ExecutionEvent, ...] = ()
    act: Act | None = None

    def __bool__(self) -> bool:
        return bool(self.events) or self.act is not None


WAIT: Final = Move()


def branch_of(state: ExecutionState) -> str:
    """Give the branch that proposals are applied on: that of the target, or one of its own for a fork."""
    return f"targetgen/{state.target}-staged{f'-{state.fork}' if state.fork else ''}"


def decide(state: ExecutionState, bundle: ExecutionBundle, seen: Seen) -> Move:
    """Give the next move: for the first task, in the order of the plan, that can go on.

    A task that is stuck or waits keeps nobody waiting but those that depend on it.
    """
    if not state.delivered:
        return Move(act=Act("deliver"))
    if state.prompt_backend == "provider" or _open_provider_question(state):
        move, goes_on = _provider(state, bundle, seen)
        if move or not goes_on:
            return move
    for task in bundle.tasks:
        now = state.tasks[task.id]
        if now.status == "completed" or now.status in STUCK or not _is_reached(now, state):
            continue
        if move := _move(task, now, state, seen):
            return move
    return WAIT


def _is_reached(task: TaskState, state: ExecutionState) -> bool:
    before = (state.tasks[id_] for id_ in task.depends_on if id_ in state.tasks)
    return all(each.status == "completed" for each in before)


def _move(task: ExecutionTask, now: TaskState, state: ExecutionState, seen: Seen) -> Move:
    match now.status:
        case "planned":
            return Move((_preflight(task, seen),))
        case "preflight_ready":
            return _credential(task, now, state, seen) or _device(task, now, state, seen) or _begin(task, now, state)
        case "awaiting_operator":
            return _question(task, now, state, seen)
        case "awaiting_response" | "prompt_emitted":
            return _response(now, state, seen)
        case "proposal_ready" | "validating":
            return _proposal(task, now, state, seen)
        case _:
            return WAIT


def _preflight(task: ExecutionTask, seen: Seen) -> TaskPreflighted:
    root, is_there = seen.roots[task.repo_root]
    lines = [f"PASS repo_root_exists {root}" if is_there else f"FAIL repo_root_missing {root}"]
    for path in task.artifacts_in:
        if path.startswith(GENERATED):
            lines.append(f"SKIP generated_artifact_check {path}")
        else:
            lines.append(f"PASS artifact_exists {path}" if seen.artifacts[path] else f"SKIP artifact_not_found {path}")
    return TaskPreflighted(task_id=task.id, passed=is_there, results=tuple(lines))


def _credential(task: ExecutionTask, now: TaskState, state: ExecutionState, seen: Seen) -> Move:
    """Ask for a credential once an execution; what was refused is asked for again only after a retry."""
    name = gates.credential_name(task.credential_requirements)
    verdict = state.credentials.get(name or "")
    if name is None or "credential" in now.passed or verdict == "granted":
        return WAIT
    is_set = name in seen.credentials
    if verdict == "refused":
        if not now.asks_again:
            reason = f"the credential {name} was refused: `execute --retry {task.id}` asks for it again"
            return Move((TaskBlocked(task_id=task.id, stage="credential", reason=reason),))
    elif is_set:
        return Move((CredentialFound(task_id=task.id, name=name),))
    for request in state.requests.values():
        if request.credential == name and request.status != "resolved":
            return Move((QuestionShared(request_id=request.id, task_id=task.id),))
    return Move((gates.ask_credential(task, name, refused=verdict == "refused", is_set=is_set),))


def _device(task: ExecutionTask, now: TaskState, state: ExecutionState, seen: Seen) -> Move:
    if not gates.needs_device(task) or "device" in now.passed:
        return WAIT
    if task.id in state.devices_refused and not now.asks_again:
        reason = f"the device was refused: `execute --retry {task.id}` asks for it again"
        return Move((TaskBlocked(task_id=task.id, stage="device", reason=reason),))
    if seen.lease is not None:
        return Move((_leased(task, seen.lease_key, seen.lease),))
    return Move((gates.ask_device(task, seen.lease_key or state.target),))


def _leased(task: ExecutionTask, key: str | None, lease: HeldLease) -> DeviceLeased:
    return DeviceLeased(task_id=task.id, lease_key=key, lease_id=lease.lease_id, fence=lease.fence)


def _begin(task: ExecutionTask, now: TaskState, state: ExecutionState) -> Move:
    """Do what needs nobody's word, or hand the prompt out."""
    if task.mutation_policy == gates.GENERATED_ONLY:
        return _want(now, "produce_outputs")
    if state.prompt_backend == "none" or task.prompt_packet is None:
        reason = (
            "the prompt backend is `none`, so nobody can be asked: orchestrate or execute the capability again with "
            f"`--prompt-backend manualllm`, then `execute --retry {task.id}`"
        )
        return Move((TaskBlocked(task_id=task.id, stage="prompt_backend_disabled", reason=reason),))
    return _want(now, "emit_prompt")


def _question(task: ExecutionTask, now: TaskState, state: ExecutionState, seen: Seen) -> Move:
    """Let an answer have its effect, or find that it is not needed any more."""
    request = state.requests[now.open_question_id or ""]
    if request.status == "answered" and request.selected_option is not None:
        return Move(_apply(request, request.selected_option))
    if request.credential is not None and request.credential in seen.credentials:
        if state.credentials.get(request.credential) != "refused":
            found = CredentialFound(task_id=task.id, name=request.credential)
            return Move((found, _resolved(request, "credential_ready", "passed")))
    elif request.stage == "device" and seen.lease is not None:
        leased = _leased(task, seen.lease_key, seen.lease)
        return Move((leased, _resolved(request, "device_available", "passed")))
    elif request.stage == "branch_gate" and _is_news(now, seen):
        return _want(now, "read_response", seen.responses[task.id])
    return WAIT


def _apply(request: RequestState, choice: str) -> tuple[ExecutionEvent, ...]:
    effect = gates.effect_of(request.stage, choice)
    if effect == "pause":
        return (QuestionPaused(request_id=request.id, choice=choice),)
    resolved = _resolved(request, choice, effect)
    return (resolved, BackendSwitched(prompt_backend="manualllm")) if effect == "switch" else (resolved,)


def _resolved(request: RequestState, choice: str, effect: Effect) -> QuestionResolved:
    return QuestionResolved(request_id=request.id, choice=choice, effect=effect)


def _response(now: TaskState, state: ExecutionState, seen: Seen) -> Move:
    if _is_news(now, seen):
        return _want(now, "read_response", seen.responses[now.id])
    if state.prompt_backend == "provider" and seen.has_agent and not now.agent_ran and now.id not in seen.responses:
        return _want(now, "run_agent")
    return WAIT


def _is_news(now: TaskState, seen: Seen) -> bool:
    """Tell whether there is a response that was not read yet."""
    digest = seen.responses.get(now.id)
    known = (now.proposal.sha256 if now.proposal else None, now.refused_sha256)
    return digest is not None and digest not in known


def _proposal(task: ExecutionTask, now: TaskState, state: ExecutionState, seen: Seen) -> Move:
    """Take a proposal as far as was decided at the branch gate."""
    assert now.proposal is not None  # noqa: S101  there is one in every status that leads here
    if _is_news(now, seen):
        return _want(now, "read_response", seen.responses[now.id])
    if now.decision is None:
        return Move((gates.ask_branch(task, branch_of(state), now.proposal),))
    commands = gates.commands_of(task, now.validated_with)
    if now.decision == "record":
        recorded = ProposalRecorded(task_id=task.id, response_sha256=now.proposal.sha256, deferred=commands)
        return Move((recorded, TaskCompleted(task_id=task.id, how="proposal_recorded")))
    if now.checkout is None:
        return _want(now, "prepare_worktree")
    if now.applied_sha256 != now.proposal.sha256:
        return _want(now, "apply_changes", now.proposal.sha256)
    if len(now.checks) < len(commands):
        return _want(now, "run_validation", str(len(now.checks) + 1))
    return Move((TaskCompleted(task_id=task.id, how="validated" if commands else "applied"),))


def _want(now: TaskState, step: Step, detail: str = "") -> Move:
    """Record that a step is wanted; where that is recorded already, take it."""
    if now.step == f"{step} {detail}".rstrip():
        return Move(act=Act(step, now.id, detail))
    return Move((StepStarted(task_id=now.id, step=step, detail=detail),))


def _open_provider_question(state: ExecutionState) -> RequestState | None:
    asked = (request for request in state.requests.values() if request.stage == "provider_disabled")
    return next((request for request in asked if request.status != "resolved"), None)


def _provider(state: ExecutionState, bundle: ExecutionBundle, seen: Seen) -> tuple[Move, bool]:
    """Without an agent, ask before anything else who answers the prompts; the second value says whether to go on."""
    request = _open_provider_question(state)
    if request is not None and request.status == "answered" and request.selected_option is not None:
        return Move(_apply(request, request.selected_option)), False
    if seen.has_agent or state.prompt_backend != "provider":
        if request is not None:
            return Move((_resolved(request, "agent_configured", "switch"),)), False
        return WAIT, True
    if request is not None:
        return WAIT, False
    asking = ("planned", "preflight_ready", "awaiting_response")
    first = next((task for task in bundle.tasks if state.tasks[task.id].status in asking), None)
    return (Move((gates.ask_provider(first),)), False) if first else (WAIT, True)
