"""Which files are the state of an execution, written out? `merlin_es` reads none of them; people and programs do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from eventlog import Head
from eventlog.names import is_stream
from projections.events.execution import EXECUTION_EVENTS, ExecutionEvent
from projections.execution import evolve
from projections.execution_state import ExecutionState, RequestState, TaskState
from projections.fresh import EXECUTION_FOLD
from projections.layout import (
    EXECUTION_BUNDLE,
    EXECUTION_DIRECTORIES,
    EXECUTION_STATE,
    OPERATOR_REQUESTS,
    TASK_STATES,
    execution_id_of,
)
from projections.projection import Files, Folds, Projection

Document: TypeAlias = Mapping[str, Any]
BundleOf: TypeAlias = Callable[[str], Document]
"""Gives the bundle of a digest, as JSON has it."""

SCHEMA_VERSION: Final = 1
_CONTRACT: Final = (
    "repo_root",
    "execution_adapter",
    "mutation_policy",
    "artifacts_in",
    "artifacts_out",
    "validation_commands",
    "credential_requirements",
    "handoff_contract",
)
"""What a task state repeats of its task."""


def execution_projection(bundle_of: BundleOf) -> Projection[ExecutionState, ExecutionEvent]:
    """Give the projection of an execution's stream; the bundles are taken from `bundle_of`."""

    def files(_stream: str, state: ExecutionState, head: Head) -> Files:
        return execution_files(state, head, bundle_of) if state.is_prepared else {}

    return Projection(EXECUTION_FOLD, EXECUTION_EVENTS, ExecutionState(), evolve, files)


def execution_folds(bundle_of: BundleOf) -> Folds:
    """Give what is folded in a target directory."""
    projection = execution_projection(bundle_of)
    return Folds(
        has=lambda stream: execution_id_of(stream) is not None,
        projection_of=lambda _stream: projection,
        all_files=projection.files,
        main=lambda _stream: EXECUTION_STATE,
        owns=lambda _stream, name: (
            name in (EXECUTION_BUNDLE, EXECUTION_STATE) or name.partition("/")[0] in EXECUTION_DIRECTORIES
        ),
    )


def execution_files(state: ExecutionState, head: Head, bundle_of: BundleOf) -> Files:
    """Give every file that the stream ever wrote, by its path in the target directory; the last has the stamp.

    Requests come before the state that names them, so nobody is ever sent to a question that is not there. What an
    event calls by a name that cannot be one of a file has none: a log does not choose where is written.
    """
    bundle = bundle_of(state.bundle_sha256)
    tasks = {id_: task_json(task, _task_of(bundle, id_)) for id_, task in state.tasks.items()}
    documents: dict[str, object] = {}
    for id_, gone in state.dropped.items():
        was = task_json(gone.task, _task_of(bundle_of(gone.bundle_sha256), id_))
        documents[f"{TASK_STATES}/{id_}.json"] = _stamped(was | {"dropped": True}, gone.task.seq)
    for id_, task in tasks.items():
        documents[f"{TASK_STATES}/{id_}.json"] = _stamped(task, state.tasks[id_].seq)
    for id_, request in state.requests.items():
        documents[f"{OPERATOR_REQUESTS}/{id_}.json"] = _stamped(request_json(request, state.target), request.seq)
    changed = max((task.seq for task in state.tasks.values()), default=state.seq)
    documents[EXECUTION_BUNDLE] = _stamped(_with_states(bundle, tasks, state), changed)
    stamp = {"seq": head.seq, "h": head.h, "fold": EXECUTION_FOLD}
    documents[EXECUTION_STATE] = state_json(state, tasks) | {"as_of": stamp}
    return {path: _bytes(document) for path, document in documents.items() if is_stream(path)}


def state_json(state: ExecutionState, tasks: Mapping[str, Document]) -> dict[str, Any]:
    """Give `execution_state.json`, without the stamp."""
    current, question = state.current_task, state.open_question
    return {
        "schema_version": SCHEMA_VERSION,
        "target": state.target,
        "workflow": state.workflow,
        "prompt_backend": state.prompt_backend,
        "task_order": list(state.tasks),
        "tasks": tasks,
        "current_task": current.id if current else None,
        "current_stage": current.current_stage if current else None,
        "live_mutation_enabled": any(task.decision == "apply" for task in state.tasks.values()),
        "open_question_id": question.id if question else None,
        "requests_count": len(state.requests),
        "open_questions": [request.id for request in state.requests.values() if request.status == "open"],
        "outcome": state.outcome,
    }


def task_json(task: TaskState, contract: Document) -> dict[str, Any]:
    """Give a task state: what is asked of the task, and how far it has got."""
    return {name: contract.get(name) for name in _CONTRACT} | {
        "status": task.status,
        "current_stage": task.current_stage,
        "attempt_count": task.attempt_count,
        "opened_at": task.opened_at,
        "updated_at": task.updated_at,
        "open_question_id": task.open_question_id,
        "response_file": task.proposal.path if task.proposal else None,
        "proposal_summary": task.proposal.summary if task.proposal else None,
        "branch_gate_required": task.proposal is not None and task.decision is None and task.status != "completed",
        "live_mutation_enabled": task.decision == "apply",
        "logs": list(task.logs),
        "validation_results": validation_results(task),
        "diff_summary": list(task.diff_summary),
        "schema_version": SCHEMA_VERSION,
        "message": task.message,
        "completed_how": task.completed_how,
        "outputs": dict(task.outputs),
        "prompt_file": task.prompt_path,
        "prompt_edited": task.prompt_edited,
        "expected_response_file": task.response_path,
        "response_sha256": task.proposal.sha256 if task.proposal else None,
        "response_errors": list(task.response_errors),
        "proposed_paths": list(task.proposal.paths) if task.proposal else [],
        "mutation": task.decision,
        "worktree": task.worktree,
        "worktree_branch": task.checkout.branch if task.checkout else None,
        "diff_sha256": task.diff_sha256,
        "validated_with": None if task.validated_with is None else list(task.validated_with),
        "validation_outputs": [check.output_sha256 for check in task.checks],
    }


def validation_results(task: TaskState) -> list[str]:
    """Give what was looked for and what was run, one line each, the newest state of each and no history."""
    ran = [
        f"{'PASS' if check.passed else 'FAIL'} validation_command {check.command} "
        f"({'timed out' if check.timed_out else f'exit {check.exit_code}'}, {check.duration_s:.1f} s)"
        for check in task.checks
    ]
    return [*task.preflight, *ran, *(f"DEFERRED validation_command {command}" for command in task.deferred)]


def request_json(request: RequestState, target: str) -> dict[str, Any]:
    """Give a request as its file has it, without the stamp."""
    return {
        "schema_version": SCHEMA_VERSION,
        "id": request.id,
        "target": target,
        "task_id": request.task_id,
        "stage": request.stage,
        "question": request.question,
        "options": [
            {"id": option.id, "label": option.label, "description": option.description} for option in request.options
        ],
        "recommended_option": request.recommended_option,
        "status": request.status,
        "selected_option": request.selected_option,
        "created_at": request.created_at,
        "updated_at": request.updated_at,
        "answers": [{"choice": each.choice, "actor": each.actor, "at": each.at} for each in request.answers],
        "credential": request.credential,
        "lease_key": request.lease_key,
        "withdrawn": request.withdrawn,
    }


def _with_states(bundle: Document, tasks: Mapping[str, Document], state: ExecutionState) -> dict[str, object]:
    """Put the states into the bundle, where readers have always found them."""
    with_states = [{**task, "execution_state": tasks.get(task["id"])} for task in bundle["tasks"]]
    return {**bundle, "prompt_backend": state.prompt_backend, "tasks": with_states}


def _task_of(bundle: Document, task_id: str) -> Document:
    found: Document = next((task for task in bundle["tasks"] if task["id"] == task_id), {})
    return found


def _stamped(document: Mapping[str, object], seq: int) -> dict[str, object]:
    """Say which event changed a file last; the chain value stands in `execution_state.json`."""
    return {**document, "as_of": {"seq": seq, "fold": EXECUTION_FOLD}}


def _bytes(document: object) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()
