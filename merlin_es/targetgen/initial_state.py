"""How does an execution begin? Every task planned, nothing done, nothing asked."""

from __future__ import annotations

from typing import Any, TypeAlias

from merlin_es.targetgen.bundle import ExecutionTask
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
