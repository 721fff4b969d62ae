"""What is written when a scaffold is generated, and what is proposed when a mutation is staged? Documents and trees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from merlin_es.targetgen.documents import dumps
from merlin_es.targetgen.planning import Plan
from merlin_es.targetgen.scaffold import ScaffoldFile

TREE: Final = "generated/tree"
PROPOSED: Final = "mutation/proposed_tree"
BUNDLE: Final = "generation_bundle.json"
MUTATION: Final = "mutation/mutation_bundle.json"
OPTIONAL: Final = ("deployment_view.yaml", "inputs/overlay.yaml")
"""Files that an overlay brings, and that go when it goes."""

BLOCKING_GATES: Final = ("branch_switch_required", "manual_review_required", "validation_not_run")
_NEXT_STEPS = (
    "Read every file of the proposed tree.",
    "Take the proposal over in a worktree on the branch that is named here, never in your checkout.",
    "Run the validation commands of each task there.",
    "Have somebody else look at the diff before it is merged.",
)


@dataclass(frozen=True)
class Snapshot:
    """The texts that a plan was made from."""

    capability: str
    overlay: str | None


def generated_files(
    plan: Plan, files: Sequence[ScaffoldFile], snapshot: Snapshot, target_dir: str
) -> Mapping[str, str]:
    """Return every file that `generate` writes, by its path in the target directory."""
    return {
        **plan.files(),
        **{f"{TREE}/{each.repo_path}": each.body for each in files},
        "inputs/capability.yaml": snapshot.capability,
        **({} if snapshot.overlay is None else {"inputs/overlay.yaml": snapshot.overlay}),
        BUNDLE: dumps(_generation_bundle(plan, files, target_dir)),
        "generation_summary.md": _summary(plan, files, snapshot),
    }


def proposed_files(plan: Plan, files: Sequence[ScaffoldFile], target_dir: str) -> Mapping[str, str]:
    """Return every file that `stage-mutation` writes besides, by its path in the target directory."""
    found, name = candidates(plan, files), branch(plan)
    bundle = {
        "target": plan.target,
        "branch_name": name,
        "worktree_root": f"{target_dir}/mutation/worktree_root",
        "generated_root": f"{target_dir}/{TREE}",
        "proposed_root": f"{target_dir}/{PROPOSED}",
        "candidates": [
            {
                "repo_path": each.repo_path,
                "staged_path": f"{target_dir}/{PROPOSED}/{each.repo_path}",
                "action": "create_or_edit",
                "rationale": each.rationale,
                "task_ids": list(each.task_ids),
                "mutation_policy": policy,
                "sha256": _digest(each.body),
            }
            for each, policy in found
        ],
        "blocking_gates": list(BLOCKING_GATES),
        "next_steps": list(_NEXT_STEPS),
    }
    return {
        **{f"{PROPOSED}/{each.repo_path}": each.body for each, _policy in found},
        MUTATION: dumps(bundle),
        "mutation/proposal_brief.md": _proposal(plan, name, target_dir, found),
        "mutation/worktree_plan.md": _worktree_plan(plan, name, found),
    }


def branch(plan: Plan) -> str:
    """Return the branch on which a proposal is taken over."""
    return f"targetgen/{plan.target}-staged"


def candidates(plan: Plan, files: Sequence[ScaffoldFile]) -> tuple[tuple[ScaffoldFile, str], ...]:
    """Return each file that edits sources, with the policy of the first task that asks for it."""
    policies = {task.id: task.mutation_policy for task in plan.tasks if task.is_mutating}
    return tuple(
        (each, next(policies[task_id] for task_id in each.task_ids if task_id in policies))
        for each in files
        if policies.keys() & set(each.task_ids)
    )


def is_as_written(text: str, digest: object) -> bool:
    """Whether a file is still what a bundle says that was written."""
    return _digest(text) == digest


def _generation_bundle(plan: Plan, files: Sequence[ScaffoldFile], target_dir: str) -> dict[str, Any]:
    return {
        "target": plan.target,
        "primary_integration": plan.classification.primary,
        "integration_styles": list(plan.classification.styles),
        "generated_root": f"{target_dir}/{TREE}",
        "files": [
            {
                "repo_path": each.repo_path,
                "staged_path": f"{target_dir}/{TREE}/{each.repo_path}",
                "category": each.category,
                "rationale": each.rationale,
                "task_ids": list(each.task_ids),
                "sha256": _digest(each.body),
            }
            for each in files
        ],
    }


def _summary(plan: Plan, files: Sequence[ScaffoldFile], snapshot: Snapshot) -> str:
    inputs = ["inputs/capability.yaml", *(["inputs/overlay.yaml"] if snapshot.overlay is not None else [])]
    return _page(
        f"# Scaffold of {plan.capability.identity.display_name}",
        "",
        f"- Target: `{plan.target}`",
        f"- Primary integration: `{plan.classification.primary}`",
        f"- Styles: {', '.join(f'`{style}`' for style in plan.classification.styles)}",
        "",
        f"`{TREE}` is derived: each file lies in it where it would lie in the repository. Nothing reads it from here,",
        "and generating again writes it anew.",
        "",
        "## Files",
        "",
        *(f"- `{each.repo_path}` ({', '.join(each.task_ids)})" for each in files),
        "",
        "## Derived from",
        "",
        *(f"- `{name}`" for name in inputs),
        "",
        "## Next",
        "",
        "`merlin targetgen stage-mutation` lays out what would be proposed as a change of the repository.",
    )


def _proposal(plan: Plan, name: str, target_dir: str, found: Sequence[tuple[ScaffoldFile, str]]) -> str:
    return _page(
        f"# Proposal for {plan.capability.identity.display_name}",
        "",
        f"- Branch: `{name}`",
        f"- Proposed tree: `{target_dir}/{PROPOSED}`",
        f"- Files: {len(found)}",
        "",
        "Nothing of the repository was changed. Before any of it is:",
        "",
        *(f"- `{gate}`" for gate in BLOCKING_GATES),
        "",
        "## Candidates",
        "",
        *(f"- `{each.repo_path}` ({policy}): {each.rationale}" for each, policy in found),
    )


def _worktree_plan(plan: Plan, name: str, found: Sequence[tuple[ScaffoldFile, str]]) -> str:
    ids = {task_id for each, _policy in found for task_id in each.task_ids}
    roots = dict.fromkeys(task.repo_root for task in plan.tasks if task.id in ids)
    return _page(
        f"# Worktrees for {plan.capability.identity.display_name}",
        "",
        "One worktree for each repository that would be changed; the checkouts stay as they are.",
        "",
        *(f"- `git -C {root} worktree add <directory> -b {name}`" for root in roots),
        "",
        "`merlin targetgen execute` does this by itself when its branch gate is answered with `apply_in_worktree`.",
    )


def _page(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
