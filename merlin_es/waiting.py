"""What does an execution of a plan wait for, as its state file says?

Runs of the workflow `targetgen_execute` are such executions. The file is read as it is, which costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from projections.fresh import read_document
from projections.layout import EXECUTION_STATE

WORKFLOW: Final = "targetgen_execute"
_FIELDS: Final = ("outcome", "current_task", "current_stage", "open_question_id", "open_questions")


def execution(workflow: str, target_dir: str) -> Mapping[str, Any] | None:
    """Give where the execution stands that a run of this workflow is for; None for runs of other kinds."""
    if workflow != WORKFLOW:
        return None
    document = read_document(Path(target_dir) / EXECUTION_STATE)
    if document is None:
        return None
    message = None
    match document:
        case {"current_task": str(current), "tasks": dict(tasks)} if isinstance(tasks.get(current), dict):
            message = tasks[current].get("message")
    return standing(document, message)


def standing(document: Mapping[str, Any], message: str | None) -> Mapping[str, Any]:
    """Give of `execution_state.json` where the execution stands; `message` is that of its current task."""
    return {name: document.get(name) for name in _FIELDS} | {"message": message}


def advice(workflow: str, target_dir: str) -> str:
    """Say why an execution has stopped, and what to do, so that it stays true when that was done; else nothing."""
    found = execution(workflow, target_dir) or {}
    again = f"then run `merlin targetgen execute --engine ray --from-dir {target_dir}` again"
    match found.get("outcome"):
        case "awaiting_operator":
            question = found["open_question_id"]
            shown = f"`merlin targetgen status --target-dir {target_dir}` shows the options"
            return f"it stopped to ask {question}: {shown}; answer it, {again}"
        case "awaiting_response":
            return f"it stopped for the response to the prompt of {found['current_task']}: write it, {again}"
        case "blocked":
            return f"{found['current_task']} was blocked: {found['message']}"
    return ""
