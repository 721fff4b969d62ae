"""What has to be done for a target, in which order, where, and how is it seen that it is done?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from merlin_es.targetgen import words
from merlin_es.targetgen.bundle import Evidence
from merlin_es.targetgen.capability import Capability
from merlin_es.targetgen.classification import needs_llvm
from merlin_es.targetgen.names import lower, title

GENERATED: Final = "build/generated/targetgen"
IREE: Final = "third_party/iree_bar"
LLVM: Final = f"{IREE}/third_party/llvm-project"
SHARED: Final = "shared"
PLANNER_ONLY: Final = "planner_generated_only"

_POLICIES = {
    "llvm_submodule": "llvm_submodule_edit",
    "iree_submodule": "iree_submodule_edit",
    "runtime_hal": "runtime_driver_edit",
    "merlin_local": "merlin_local_edit",
}
_RUN = "conda run -n merlin-dev uv run"
_PYTEST = f"{_RUN} pytest tests/targetgen/test_targetgen.py"
_PLAN = f"{_RUN} tools/merlin.py targetgen plan <capability> [--overlay <overlay>]"
_BUILD = f"{_RUN} tools/merlin.py build --profile vanilla --cmake-target install"


@dataclass(frozen=True)
class TaskNode:
    """One task of the graph, as `task_graph.json` has it."""

    id: str
    title: str
    phase: str
    family: str
    depends_on: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    actions: tuple[str, ...]
    write_scope: tuple[str, ...]
    acceptance_checks: tuple[str, ...]
    repo_root: str
    execution_adapter: str
    mutation_policy: str
    artifacts_in: tuple[str, ...]
    artifacts_out: tuple[str, ...]
    validation_commands: tuple[str, ...]
    credential_requirements: str
    handoff_contract: tuple[str, ...]

    @property
    def is_mutating(self) -> bool:
        """Whether it edits sources, and so needs somebody's agreement."""
        return self.mutation_policy != PLANNER_ONLY


def task_graph(capability: Capability, styles: tuple[str, ...]) -> tuple[TaskNode, ...]:
    """Return the tasks in the order in which they are executed."""
    return tuple(_node(capability, *place) for place in _places(capability, styles))


def _places(capability: Capability, styles: tuple[str, ...]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield id, phase, family and dependencies of each task: a chain, and beside it the overlay."""
    yield "review_target_spec", "planning", SHARED, ()
    yield "derive_compile_view", "planning", SHARED, ("review_target_spec",)
    if capability.deployment:
        yield "derive_deployment_overlay", "deployment", SHARED, ("review_target_spec",)
    last = "derive_compile_view"
    for style in styles:
        yield f"implement_{style}", "runtime" if style == "runtime_hal" else "compiler", style, (last,)
        last = f"implement_{style}"
    yield "define_verification_ladder", "verification", SHARED, (last,)


def _node(capability: Capability, task_id: str, phase: str, family: str, depends_on: tuple[str, ...]) -> TaskNode:
    adapter, scope, deployment = _adapter(capability, family), write_scope(capability, task_id), capability.deployment
    checks: tuple[str, ...] = words.CHECKS[task_id]
    if family == "llvm_ukernel" and capability.isa.register_constraints.even_alignment_required:
        checks = (*checks, words.EVEN_ALIGNMENT)
    return TaskNode(
        id=task_id,
        title=words.TITLES[task_id],
        phase=phase,
        family=family,
        depends_on=depends_on,
        evidence=_evidence(capability, task_id),
        actions=words.ACTIONS[task_id],
        write_scope=scope,
        acceptance_checks=checks,
        repo_root={"llvm_submodule": LLVM, "iree_submodule": IREE}.get(adapter, "."),
        execution_adapter=adapter,
        mutation_policy=PLANNER_ONLY if family == SHARED else _POLICIES[adapter],
        artifacts_in=(capability.capability_path, *((deployment.source_path,) if deployment else ())),
        artifacts_out=(*scope, f"{GENERATED}/{capability.identity.name}/task_states/{task_id}.json"),
        validation_commands=tuple(_commands(capability, phase, family)),
        credential_requirements=_credential(capability, family),
        handoff_contract=(*words.HANDOFF, *words.HANDOFF_OF.get(family, ())),
    )


def write_scope(capability: Capability, task_id: str) -> tuple[str, ...]:
    """Return the files, and the directories with a slash behind them, that a task may write: paths, no patterns."""
    name, base = capability.identity.name, capability.isa.base
    spelled, driver = title(name), f"runtime/src/iree/hal/drivers/{lower(name)}/"
    derived, dialect = f"{GENERATED}/{name}", f"compiler/src/merlin/Dialect/{spelled}/"
    llvm = (f"{LLVM}/llvm/lib/Target/{llvm_target(base)}/", f"{LLVM}/llvm/include/llvm/IR/")
    scopes: dict[str, tuple[str, ...]] = {
        "review_target_spec": (f"{derived}/support_plan.json", f"{derived}/verification_manifest.json"),
        "derive_compile_view": (f"{derived}/compile_view.yaml", f"models/{name}.yaml"),
        "derive_deployment_overlay": (f"{derived}/deployment_view.yaml", recipe_path(capability)),
        "implement_post_global_plugin": (f"compiler/plugins/target/{spelled}/", dialect),
        "implement_structured_text_isa": (dialect, f"compiler/src/merlin/Translation/{spelled}/"),
        "implement_runtime_hal": (driver, f"{driver}registration/"),
        "implement_llvm_ukernel": (
            f"{IREE}/compiler/src/iree/compiler/Codegen/",
            f"{IREE}/runtime/src/iree/builtins/ukernel/",
            *(llvm if needs_llvm(capability.isa.exposure) else ()),
        ),
        "define_verification_ladder": (f"{derived}/verification_manifest.json", f"{derived}/task_graph.json"),
    }
    return scopes[task_id]


def recipe_path(capability: Capability) -> str:
    """Return where the recipe of the deployment lies, or would lie."""
    deployment = capability.deployment
    return (
        deployment.hardware_recipe if deployment else None
    ) or f"build_tools/hardware/{capability.identity.name}.yaml"


def llvm_target(base: str) -> str:
    """Return the directory that LLVM has for an instruction set."""
    return "RISCV" if base.startswith("riscv") else title(base)


def _adapter(capability: Capability, family: str) -> str:
    if family == "runtime_hal":
        return "runtime_hal"
    if family == "llvm_ukernel":
        return "llvm_submodule" if capability.isa.exposure.needs_llvm_backend_changes else "iree_submodule"
    return "merlin_local"


def _credential(capability: Capability, family: str) -> str:
    is_needed = family == "runtime_hal" or capability.access.model == "cloud_service"
    return capability.access.credential_requirements if is_needed else "none"


def _commands(capability: Capability, phase: str, family: str) -> Iterator[str]:
    yield _PYTEST
    if phase == "planning":
        yield _PLAN
    if family != SHARED:
        yield _BUILD
    if family == "runtime_hal":
        for gate in capability.access.verification_gates:
            yield f"# runtime verification gate: {gate}"


def _evidence(capability: Capability, task_id: str) -> tuple[Evidence, ...]:
    """Return what to read, each path once, with the first reason that was found for it."""
    deployment = capability.deployment
    found = dict((*words.EVIDENCE, *words.EVIDENCE_OF.get(task_id, ())))
    for path in capability.references:
        found.setdefault(path, words.REFERENCED)
    if deployment and deployment.hardware_recipe:
        found.setdefault(deployment.hardware_recipe, words.RECIPE)
    return tuple(Evidence("repo_path", path, reason) for path, reason in found.items())
