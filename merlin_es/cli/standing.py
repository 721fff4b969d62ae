"""How is an execution shown, from the documents that its state files hold?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from projections.fresh import Document, Execution

if TYPE_CHECKING:
    from projections.execution_state import ExecutionState


def documents(state: ExecutionState, bundle: Mapping[str, Any]) -> Execution:
    """Give what the files of an execution say, without what they were folded from; `bundle` may be without tasks."""
    from projections.execution_files import request_json, state_json, task_json

    contracts = {task["id"]: task for task in bundle["tasks"]}
    tasks = {id_: task_json(task, contracts.get(id_, {})) for id_, task in state.tasks.items()}
    requests = [request_json(request, state.target) for _, request in sorted(state.requests.items())]
    as_written = json.loads(json.dumps([state_json(state, tasks), requests], sort_keys=True))
    return Execution(*as_written)


def lines(state: Document, directory: Path) -> list[tuple[str, object]]:
    """Give the lines of `execute`."""
    return [
        ("Executed target", state["target"]),
        ("Engine", "local"),
        ("Outcome", state["outcome"]),
        ("Current task", state["current_task"] or "none"),
        ("Current stage", state["current_stage"] or "none"),
        ("Open question", state["open_question_id"]),
        ("Target directory", directory),
    ]


def advice(state: Document, requests: Sequence[Document], directory: Path) -> Iterator[str]:
    """Say what people can do now."""
    for request in requests:
        if request["status"] == "open":
            options = "|".join(option["id"] for option in request["options"])
            answer = (
                f"merlin targetgen answer --target-dir {directory} --question-id {request['id']} --choice {options}"
            )
            yield f"{request['question']} `{answer}`, then execute again"
    for id_ in state["task_order"]:
        task = state["tasks"][id_]
        if task["message"]:
            yield f"{id_}: {task['message']}"
        elif task["status"] == "awaiting_response":
            yield f"{task['prompt_file']} waits for its response in {task['expected_response_file']}"


def summary(state: Document, directory: Path) -> dict[str, Any]:
    """Give what programs want to know of an execution."""
    tasks = {id_: state["tasks"][id_] for id_ in state["task_order"]}
    return {
        "target": state["target"],
        "workflow": state["workflow"],
        "prompt_backend": state["prompt_backend"],
        "engine": "local",
        "outcome": state["outcome"],
        "current_task": state["current_task"],
        "current_stage": state["current_stage"],
        "open_question": state["open_question_id"],
        "open_questions": state["open_questions"],
        "tasks": {id_: task["status"] for id_, task in tasks.items()},
        "messages": {id_: task["message"] for id_, task in tasks.items() if task["message"]},
        "target_directory": str(directory),
    }


def status_lines(state: Document, requests: Sequence[Document]) -> Iterator[str]:
    """Give the lines of `status`: those of old, and then what can be answered."""
    yield f"Target: {state['target']}"
    yield f"Workflow: {state['workflow']}"
    yield f"Prompt backend: {state['prompt_backend']}"
    yield f"Current task: {state['current_task'] or 'none'}"
    yield f"Current stage: {state['current_stage'] or 'none'}"
    yield f"Open question: {state['open_question_id'] or 'none'}"
    yield from ("", "Tasks:")
    for id_ in state["task_order"]:
        task = state["tasks"][id_]
        stage, adapter = task["current_stage"] or "none", task["execution_adapter"]
        yield f"- {id_}: {task['status']} (stage={stage}, adapter={adapter})"
    if not requests:
        return
    yield from ("", "Operator requests:")
    for each in requests:
        chosen = each["selected_option"] or "none"
        about = f"task={each['task_id']}, recommended={each['recommended_option']}, selected={chosen}"
        yield f"- {each['id']}: {each['status']} ({about})"
    for each in requests:
        if each["status"] == "open":
            yield from ("", f"{each['id']}: {each['question']}")
            yield from (f"  {option['id']}: {option['label']}. {option['description']}" for option in each["options"])
