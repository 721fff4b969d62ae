"""How does an execution begin? Every task planned, nothing done, nothing asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from merlin_es.targetgen.bundle import ExecutionBundle, ExecutionTask
from merlin_es.targetgen.tasks import TaskNode

State: TypeAlias = dict[str, Any]


def task_state(task: TaskNode | ExecutionTask) -> State:
    """Return the state of a task that nobody has begun, as `task_states/<task>.json` has it."""
    return {
        "status": "planned",
        "repo_root": task.repo_root,
        "execution_adapter": task.execution_adapter,
        "mutation_policy": task.mutation_policy,
        "artifacts_in": list(task.artifacts_in),
        "artifacts_out": list(task.artifacts_out),
        "validation_commands": list(task.validation_commands),
        "credential_requirements": task.credential_requirements,
        "handoff_contract": list(task.handoff_contract),
        "current_stage": None,
        "attempt_count": 0,
        "opened_at": None,
        "updated_at": None,
        "open_question_id": None,
        "response_file": None,
        "proposal_summary": None,
        "branch_gate_required": False,
        "live_mutation_enabled": False,
        "logs": [],
        "validation_results": [],
        "diff_summary": [],
    }


def execution_state(bundle: ExecutionBundle) -> State:
    """Return the state of an execution that nobody has begun, as `execution_state.json` has it."""
    tasks: Sequence[ExecutionTask] = bundle.tasks
    states: Mapping[str, State] = {task.id: dict(task.execution_state) for task in tasks}
    return {
        "target": bundle.target,
        "workflow": bundle.workflow,
        "prompt_backend": bundle.prompt_backend,
        "task_order": [task.id for task in tasks],
        "tasks": states,
        "current_task": None,
        "current_stage": None,
        "live_mutation_enabled": False,
        "open_question_id": None,
    }
