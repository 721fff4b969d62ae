"""Where does the execution of a plan stand? The fold of its log that becomes the state files of a target directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, assert_never

from projections.events.execution import (
    AgentEnded,
    BackendSwitched,
    ChangesApplied,
    CredentialFound,
    DeviceLeased,
    ExecutionEvent,
    ExecutionForked,
    ExecutionLogRepaired,
    ExecutionPrepared,
    ExecutionReset,
    FilesDelivered,
    OutputsProduced,
    PlannedTask,
    PromptEmitted,
    ProposalRecorded,
    QuestionAnswered,
    QuestionAsked,
    QuestionPaused,
    QuestionResolved,
    QuestionShared,
    ResponseAccepted,
    ResponseRefused,
    StepStarted,
    TaskBlocked,
    TaskCompleted,
    TaskPreflighted,
    TaskRetried,
    ValidationChosen,
    ValidationEnded,
    WorktreePrepared,
)
from projections.events.recorded import Recorded
from projections.execution_state import (
    Answer,
    Check,
    Checkout,
    Choice,
    Dropped,
    ExecutionState,
    Proposal,
    RequestState,
    TaskState,
    TaskStatus,
)


def evolve(state: ExecutionState, recorded: Recorded[ExecutionEvent]) -> ExecutionState:
    """Apply one event. Never refuses: it has already happened."""
    state = _evolve(state, recorded, at(recorded.time))
    return replace(state, seq=recorded.seq)


def at(time: str) -> str:
    """Give the time of an event as these files have always had it."""
    return time.removesuffix("Z") + "+00:00"


def _evolve(state: ExecutionState, recorded: Recorded[ExecutionEvent], now: str) -> ExecutionState:
    event, seq = recorded.event, recorded.seq
    match event:
        case ExecutionPrepared():
            return _prepared(state, event, now, seq)
        case ExecutionForked(name=name):
            return replace(state, fork=name)
        case ExecutionReset():
            return _reset(state, now, seq)
        case FilesDelivered(kept=kept):
            return replace(state, delivered=True, kept=kept)
        case BackendSwitched(prompt_backend=backend):
            return replace(state, prompt_backend=backend)
        case QuestionAsked() | QuestionAnswered() | QuestionPaused() | QuestionResolved():
            return _question(state, event, recorded, now)
        case CredentialFound(name=name):
            state = replace(state, credentials={**state.credentials, name: "granted"})
            return _task(state, event.task_id, lambda task: _found(task, event), now, seq)
        case ExecutionLogRepaired():
            return state
        case TaskRetried() | ResponseAccepted() | ResponseRefused():
            state = _task(state, event.task_id, lambda task: _evolve_task(task, event, now), now, seq)
            return _withdraw(state, now, seq)
        case _:
            return _task(state, event.task_id, lambda task: _evolve_task(task, event, now), now, seq)


TaskEvent = (
    StepStarted
    | TaskPreflighted
    | OutputsProduced
    | TaskBlocked
    | TaskRetried
    | TaskCompleted
    | QuestionShared
    | DeviceLeased
    | PromptEmitted
    | AgentEnded
    | ResponseAccepted
    | ResponseRefused
    | ProposalRecorded
    | WorktreePrepared
    | ChangesApplied
    | ValidationChosen
    | ValidationEnded
)


def _evolve_task(task: TaskState, event: TaskEvent, now: str) -> TaskState:
    """Apply an event to the task that it is about."""
    if not isinstance(event, StepStarted):
        task = replace(task, step=None)
    match event:
        case StepStarted(step=step, detail=detail):
            running: TaskStatus = "validating" if step in ("apply_changes", "run_validation") else task.status
            return replace(task, step=f"{step} {detail}".rstrip(), status=running)
        case TaskPreflighted(passed=passed, results=results):
            status: TaskStatus = "preflight_ready" if passed else "preflight_failed"
            task = _moved(replace(task, preflight=results, attempt_count=task.attempt_count + 1), status, "preflight")
            failed = "; ".join(line for line in results if line.startswith("FAIL"))
            message = None if passed else f"{failed}: bring that there, then `execute --retry {task.id}`"
            return replace(task, opened_at=task.opened_at or now, message=message)
        case OutputsProduced(outputs=outputs, deferred=deferred):
            return replace(task, outputs=outputs, deferred=deferred)
        case TaskBlocked(stage=stage, reason=reason):
            return _logged(replace(_moved(task, "blocked", stage), message=reason), now, f"blocked: {reason}")
        case TaskRetried(reconsider=reconsider):
            return _logged(_retried(task, reconsider=reconsider), now, "retried")
        case TaskCompleted(how=how):
            done = replace(_moved(task, "completed", "completed"), completed_how=how, message=None)
            return _logged(done, now, f"completed: {how}")
        case QuestionShared(request_id=request_id):
            return replace(_moved(task, "awaiting_operator", "credential"), open_question_id=request_id)
        case DeviceLeased(lease_id=lease_id):
            return _logged(_through(task, "device"), now, f"the device is held under {lease_id}")
        case PromptEmitted():
            return _emitted(task, event, now)
        case AgentEnded(answered=answered, exit_code=code):
            return _logged(replace(task, agent_ran=True), now, f"agent exit {code}, answered: {answered}")
        case ResponseAccepted(sha256=sha256, path=path, summary=summary, paths=paths):
            decision = task.decision if task.applied_sha256 or task.refused_sha256 else None
            task = replace(task, proposal=Proposal(sha256, path, summary, paths), response_errors=(), message=None)
            task = replace(task, refused_sha256=None, decision=decision)
            return _logged(_moved(task, "proposal_ready", "proposal_review"), now, f"response accepted: {path}")
        case ResponseRefused(sha256=sha256, errors=errors, path=path):
            task = replace(task, refused_sha256=sha256, response_errors=errors, proposal=None, open_question_id=None)
            task = replace(task, message=f"{path}: " + "; ".join(errors))
            return _logged(_moved(task, "awaiting_response", "prompt_emitted"), now, f"response refused: {path}")
        case ProposalRecorded(deferred=deferred):
            return _logged(replace(task, recorded=True, deferred=deferred), now, "the proposal is kept, not applied")
        case WorktreePrepared(path=path, branch=branch, base=base, kept=kept):
            applied = task.applied_sha256 if kept else None
            task = replace(task, checkout=Checkout(path, branch, base), applied_sha256=applied)
            return _logged(task, now, f"worktree {path} on {branch}")
        case ChangesApplied(response_sha256=sha256, diff_summary=summary, diff_sha256=diff):
            task = replace(task, applied_sha256=sha256, diff_summary=summary, diff_sha256=diff, checks=())
            return _logged(_moved(task, "validating", "validation"), now, f"applied {len(summary)} changes")
        case ValidationChosen(commands=commands):
            task = replace(task, validated_with=commands, checks=())
            return _logged(task, now, f"to be validated by: {'; '.join(commands)}")
        case ValidationEnded():
            return _validated(task, event, now)
        case _:
            assert_never(event)


def _question(
    state: ExecutionState,
    event: QuestionAsked | QuestionAnswered | QuestionPaused | QuestionResolved,
    recorded: Recorded[ExecutionEvent],
    now: str,
) -> ExecutionState:
    match event:
        case QuestionAsked():
            return _asked(state, event, now, recorded.seq)
        case QuestionAnswered(request_id=request_id, choice=choice):
            request = state.requests[request_id]
            answers = (*request.answers, Answer(choice, recorded.actor, now))
            request = replace(request, status="answered", selected_option=choice, answers=answers)
        case QuestionPaused(request_id=request_id):
            request = replace(state.requests[request_id], status="open", selected_option=None)
        case QuestionResolved(request_id=request_id, choice=choice):
            request = replace(state.requests[request_id], status="resolved", selected_option=choice)
            state = _resolved(state, event, now, recorded.seq)
        case _:
            assert_never(event)
    request = replace(request, updated_at=now, seq=recorded.seq)
    return replace(state, requests={**state.requests, request_id: request})


def _asked(state: ExecutionState, event: QuestionAsked, now: str, seq: int) -> ExecutionState:
    before = state.requests.get(event.request_id)
    request = RequestState(
        id=event.request_id,
        task_id=event.task_id,
        stage=event.stage,
        question=event.question,
        options=tuple(Choice(option.id, option.label, option.description) for option in event.options),
        recommended_option=event.recommended_option,
        created_at=now,
        updated_at=now,
        answers=before.answers if before else (),
        credential=event.credential,
        lease_key=event.lease_key,
        seq=seq,
    )

    def waiting(task: TaskState) -> TaskState:
        task = replace(_moved(task, "awaiting_operator", event.stage), open_question_id=request.id)
        return replace(task, asks_again=False)

    state = replace(state, requests={**state.requests, request.id: request})
    return _task(state, event.task_id, waiting, now, seq)


def _resolved(state: ExecutionState, event: QuestionResolved, now: str, seq: int) -> ExecutionState:
    """Let the answer have its effect on every task that waits for it."""
    request = state.requests[event.request_id]
    if request.credential is not None:
        verdict: Literal["granted", "refused"] = "granted" if event.effect == "passed" else "refused"
        state = replace(state, credentials={**state.credentials, request.credential: verdict})
    if request.stage == "device":
        refused = state.devices_refused - {request.task_id}
        state = replace(state, devices_refused=refused | {request.task_id} if event.effect == "refused" else refused)
    for task in state.tasks.values():
        if task.open_question_id == request.id:
            state = _task(state, task.id, lambda each: _answered(each, request, event), now, seq)
    return state


def _answered(task: TaskState, request: RequestState, event: QuestionResolved) -> TaskState:
    match event.effect:
        case "passed":
            return _through(task, request.stage)
        case "switch":
            emitted = task.prompt_path is not None
            return _moved(task, "awaiting_response", "prompt_emitted") if emitted else _moved(task, "planned", None)
        case "apply" | "record":
            return replace(_moved(task, "proposal_ready", "branch_gate"), decision=event.effect)
        case "refused" | "blocked":
            message = f"{event.choice} was answered at {request.id}: `execute --retry {task.id}` asks again"
            return replace(_moved(task, "blocked", request.stage), message=message)
        case _:
            assert_never(event.effect)


def _found(task: TaskState, event: CredentialFound) -> TaskState:
    text = f"credential {event.name} is set"
    return replace(_through(task, "credential"), logs=(*task.logs, text))


def _through(task: TaskState, gate: str) -> TaskState:
    return replace(_moved(task, "preflight_ready", "preflight"), passed=task.passed | {gate})


def _emitted(task: TaskState, event: PromptEmitted, now: str) -> TaskState:
    task = replace(
        _moved(task, "awaiting_response", "prompt_emitted"),
        prompt_path=event.path,
        response_path=event.response_path,
        prompt_sha256=event.sha256,
        prompt_edited=event.edited,
    )
    return _logged(task, now, f"prompt emitted: {event.path}" + (" (edited by hand, kept)" if event.edited else ""))


def _validated(task: TaskState, event: ValidationEnded, now: str) -> TaskState:
    check = Check(
        number=event.number,
        command=event.command,
        passed=event.passed,
        exit_code=event.exit_code,
        duration_s=event.duration_s,
        timed_out=event.timed_out,
        output_sha256=event.output_sha256,
    )
    task = replace(task, checks=(*task.checks, check))
    if event.passed:
        return _moved(task, "validating", "validation")
    why = "took too long" if event.timed_out else f"ended with exit code {event.exit_code}"
    text = f"validation {event.number} {why}: {event.command}"
    message = (
        f"{text} (output: blob {event.output_sha256}); mend the response, or what is in {task.worktree}, then "
        f"`execute --retry {task.id}`; with --reconsider it asks again what is to be done with the proposal"
    )
    return _logged(replace(_moved(task, "validation_failed", "validation"), message=message), now, text)


def _retried(task: TaskState, *, reconsider: bool) -> TaskState:
    """Go back to where the task can go on from; a worktree stays, with what was applied in it."""
    if reconsider:
        task = replace(task, decision=None)
    task = replace(task, message=None, open_question_id=None, agent_ran=False, checkout=None, asks_again=True)
    if task.status == "validation_failed" and not reconsider:
        return replace(_moved(task, "validating", "validation"), checks=(), attempt_count=task.attempt_count + 1)
    if task.proposal is not None:
        return replace(_moved(task, "proposal_ready", "proposal_review"), attempt_count=task.attempt_count + 1)
    return _moved(task, "planned", None)


def _prepared(state: ExecutionState, event: ExecutionPrepared, now: str, seq: int) -> ExecutionState:
    """Take over the plan. A task whose contract is the same stays where it is; any other begins, or begins again."""
    tasks = {each.id: _carried(state.tasks.get(each.id), each, now, seq) for each in event.tasks}
    gone = {id_: Dropped(task, state.bundle_sha256) for id_, task in state.tasks.items() if id_ not in tasks}
    dropped = {id_: each for id_, each in {**state.dropped, **gone}.items() if id_ not in tasks}
    written = {
        path: state.written.get(path, frozenset()) | ({event.files[path]} if path in event.files else frozenset())
        for path in {**state.written, **event.files}
    }
    state = replace(
        state,
        target=event.target,
        workflow=event.workflow,
        prompt_backend=event.prompt_backend,
        agent=event.agent,
        prompts_dir=event.prompts_dir,
        bundle_sha256=event.bundle_sha256,
        capability=event.capability,
        overlay=event.overlay,
        files=event.files,
        written=written,
        delivered=False,
        tasks=tasks,
        dropped=dropped,
    )
    return _withdraw(state, now, seq)


def _carried(task: TaskState | None, planned: PlannedTask, now: str, seq: int) -> TaskState:
    if task is None:
        return TaskState(planned.id, planned.contract, planned.depends_on, seq=seq)
    if task.contract == planned.contract or task.status == "completed":
        return replace(task, contract=planned.contract, depends_on=planned.depends_on)
    begun = TaskState(planned.id, planned.contract, planned.depends_on, attempt_count=task.attempt_count, seq=seq)
    begun = replace(begun, opened_at=task.opened_at, updated_at=now, checkout=task.checkout, logs=task.logs)
    begun = replace(begun, validated_with=task.validated_with)
    return _logged(begun, now, "the plan asks for something else now: begun again")


def _reset(state: ExecutionState, now: str, seq: int) -> ExecutionState:
    """Begin anew, except that what was refused stays refused; a worktree stays, too."""
    tasks = {
        task.id: TaskState(
            task.id,
            task.contract,
            task.depends_on,
            checkout=task.checkout,
            validated_with=task.validated_with,
            seq=seq,
        )
        for task in state.tasks.values()
    }
    refused = {name: verdict for name, verdict in state.credentials.items() if verdict == "refused"}
    state = replace(state, tasks=tasks, credentials=refused, resets=state.resets + 1, delivered=False)
    return _withdraw(state, now, seq)


def _withdraw(state: ExecutionState, now: str, seq: int) -> ExecutionState:
    """Close the questions that no task waits for any more."""
    wanted = {task.open_question_id for task in state.tasks.values()}
    requests = {
        id_: request
        if request.status == "resolved" or id_ in wanted
        else replace(request, status="resolved", withdrawn=True, updated_at=now, seq=seq)
        for id_, request in state.requests.items()
    }
    return replace(state, requests=requests)


def _task(
    state: ExecutionState, task_id: str, change: Callable[[TaskState], TaskState], now: str, seq: int
) -> ExecutionState:
    task = state.tasks.get(task_id)
    if task is None:  # The plan has changed since, and has this task no longer.
        return state
    return replace(state, tasks={**state.tasks, task_id: replace(change(task), updated_at=now, seq=seq)})


def _moved(task: TaskState, status: TaskStatus, stage: str | None) -> TaskState:
    return replace(task, status=status, current_stage=stage, open_question_id=None)


def _logged(task: TaskState, now: str, text: str) -> TaskState:
    return replace(task, logs=(*task.logs, f"{now} {text}"))
