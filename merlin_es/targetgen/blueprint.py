"""How does a plan get into a target directory, so that all of it can be brought back from there?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import eventlog
from merlin_es.targetgen.bundle import ExecutionBundle, bundle_json
from merlin_es.targetgen.documents import dumps
from merlin_es.targetgen.target_dir import TargetDirectory
from projections.events.execution import ExecutionPrepared, PlannedTask
from projections.execution_state import ExecutionState

_NO_CONTRACT: Final = frozenset(
    {
        "title",
        "evidence",
        "artifacts_in",
        "artifacts_out",
        "tool_profile",
        "prompt",
        "prompt_bundle",
        "execution_state",
        "response_packet",
    }
)
"""What may change of a task without it having to be done again; how a spec was addressed is part of `artifacts_in`."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that an execution needs of a plan: the bundle, and texts by file name.

    `documents` are what the planning tasks declare as their outputs. `capability` and `overlay` are as they were typed.
    """

    bundle: ExecutionBundle
    briefs: Mapping[str, str]
    packets: Mapping[str, str]
    documents: Mapping[str, str]
    capability: str | None = None
    overlay: str | None = None


def store(plan: Blueprint, blobs: eventlog.BlobStore, target_dir: Path) -> ExecutionPrepared:
    """Keep the whole plan as blobs, and give the event that names them."""
    return _event(plan, target_dir, lambda text: blobs.put(text.encode()))


def outline(plan: Blueprint, target_dir: Path) -> ExecutionPrepared:
    """Give the event that `store` would, and keep nothing."""
    return _event(plan, target_dir, lambda text: hashlib.sha256(text.encode()).hexdigest())


def relocated(state: ExecutionState, place: TargetDirectory, prompts_dir: Path) -> ExecutionPrepared:
    """Give the plan that is executed, with its packets and responses in another directory."""
    document = {**place.bundle_document(state.bundle_sha256), "prompts_dir": str(prompts_dir)}
    return ExecutionPrepared(
        target=state.target,
        workflow=state.workflow,
        prompt_backend=state.prompt_backend,
        agent=state.agent,
        prompts_dir=None if prompts_dir == place.path / "prompts" else str(prompts_dir),
        bundle_sha256=place.blobs.put(dumps(document).encode()),
        tasks=tuple(
            PlannedTask(id=task.id, depends_on=task.depends_on, contract=task.contract) for task in state.tasks.values()
        ),
        files=dict(state.files),
        capability=state.capability,
        overlay=state.overlay,
    )


def _event(plan: Blueprint, target_dir: Path, keep: Callable[[str], str]) -> ExecutionPrepared:
    bundle, document = plan.bundle, bundle_json(plan.bundle)
    files = {f"briefs/{name}": text for name, text in plan.briefs.items()}
    files |= {f"prompts/{name}": text for name, text in plan.packets.items()}
    files |= dict(plan.documents)
    if bundle.provider_config:
        files["provider_backend.json"] = dumps(dict(bundle.provider_config))
    beside = str(target_dir / "prompts")
    return ExecutionPrepared(
        target=bundle.target,
        workflow=bundle.workflow,
        prompt_backend=bundle.prompt_backend,
        agent=bundle.agent,
        prompts_dir=None if bundle.prompts_dir in (None, beside) else bundle.prompts_dir,
        bundle_sha256=keep(dumps(document)),
        tasks=tuple(
            PlannedTask(id=task["id"], depends_on=tuple(task["depends_on"]), contract=_contract(task))
            for task in document["tasks"]
        ),
        files={path: keep(text) for path, text in sorted(files.items())},
        capability=plan.capability,
        overlay=plan.overlay,
    )


def _contract(task: Mapping[str, Any]) -> str:
    asked = {name: value for name, value in task.items() if name not in _NO_CONTRACT}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
