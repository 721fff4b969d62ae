"""What is the plan for a target, and how far can each step of its verification be taken today?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from merlin_es.targetgen.capability import Capability
from merlin_es.targetgen.classification import Classification, PatchSurface

DERIVED: Final = (
    "support_plan.json",
    "task_graph.json",
    "verification_manifest.json",
    "execution_bundle.json",
    "execution_state.json",
    "briefs/",
    "compile_view.yaml",
)
_DEVICE_MODES = ("board", "firesim", "simulator", "runtime-driver")
"""Overlays that bring the device, or what stands for it."""

_STAGES = (
    ("spec_validation", "The spec and the overlay are checked before anything is derived from them."),
    ("planner_validation", "Plan, task graph and views are derived again and have to come out the same."),
    ("compiler_structural", "The compiler knows the target: it is registered, and its passes and dialects are found."),
    ("lowering_codegen", "Small programs are lowered for the target, and what comes out is looked at."),
    ("runtime_smoke", "One small program runs through the runtime from beginning to end."),
    ("numerical_parity", "Results are compared with the golden model within the tolerances of the spec."),
    ("simulator_or_hardware", "The same programs run on the device, or on what simulates it."),
    ("performance_characterization", "Counters of the device say what its time goes into."),
)


@dataclass(frozen=True)
class Stage:
    """One step of the verification ladder; `status` is ready, planned or not_applicable."""

    level: int
    name: str
    status: str
    rationale: str


@dataclass(frozen=True)
class Ladder:
    """All steps, from the spec to performance."""

    target: str
    maturity: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class SupportPlan:
    """What `support_plan.json` says."""

    schema_version: int
    target: str
    display_name: str
    vendor: str
    maturity: str
    target_families: tuple[str, ...]
    integration_styles: tuple[str, ...]
    primary_integration: str
    required_layers: tuple[str, ...]
    derived_artifacts: tuple[str, ...]
    patch_surfaces: tuple[PatchSurface, ...]
    deployment_profile: str | None
    verification_manifest: Ladder
    task_node_ids: tuple[str, ...]


def ladder(capability: Capability, styles: tuple[str, ...]) -> Ladder:
    """Return the verification ladder of a target."""
    statuses = _statuses(capability, styles)
    stages = tuple(Stage(level, name, statuses[name], rationale) for level, (name, rationale) in enumerate(_STAGES))
    return Ladder(capability.identity.name, capability.identity.maturity, stages)


def support_plan(capability: Capability, found: Classification, task_ids: tuple[str, ...]) -> SupportPlan:
    """Return the plan of a target whose tasks have these ids."""
    identity, deployment = capability.identity, capability.deployment
    return SupportPlan(
        schema_version=1,
        target=identity.name,
        display_name=identity.display_name,
        vendor=identity.vendor,
        maturity=identity.maturity,
        target_families=found.families,
        integration_styles=found.styles,
        primary_integration=found.primary,
        required_layers=found.layers,
        derived_artifacts=(*DERIVED, *(("deployment_view.yaml",) if deployment else ())),
        patch_surfaces=found.surfaces,
        deployment_profile=deployment.name if deployment else None,
        verification_manifest=ladder(capability, found.styles),
        task_node_ids=task_ids,
    )


def as_json(value: object) -> Any:  # noqa: ANN401  whatever JSON has for it
    """Return a plan, a ladder or a list of tasks as its file holds it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _statuses(capability: Capability, styles: tuple[str, ...]) -> Mapping[str, str]:
    verification, deployment = capability.verification, capability.deployment
    compiles = set(styles) & {"post_global_plugin", "structured_text_isa", "llvm_ukernel"}
    has_device = (
        verification.simulator["available"]
        or verification.rtl["available"]
        or "board" in capability.platform.environments
        or (deployment is not None and deployment.mode in _DEVICE_MODES)
    )
    return {
        "spec_validation": "ready",
        "planner_validation": "ready",
        "compiler_structural": "ready" if compiles else "not_applicable",
        "lowering_codegen": "ready" if compiles else "not_applicable",
        "runtime_smoke": _ready(capability.runtime.required or deployment is not None),
        "numerical_parity": _ready(verification.golden_model["available"]),
        "simulator_or_hardware": _ready(has_device),
        "performance_characterization": _ready(verification.perf_counters["available"]),
    }


def _ready(is_ready: bool) -> str:
    return "ready" if is_ready else "planned"
