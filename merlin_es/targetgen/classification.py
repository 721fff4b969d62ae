"""What kind of target is it, how is it integrated, and where does that touch the compiler?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from merlin_es.targetgen.bundle import MODE
from merlin_es.targetgen.capability import Capability, Exposure

FAMILIES: Final = {
    "vector_cpu_extension": "rvv_cpu_extension",
    "matrix_coprocessor": "riscv_vendor_matrix_extension",
    "rocc_accelerator": "rocc_accelerator",
    "structured_npu": "structured_npu_text_isa",
    "simt_gpu": "simt_gpu_hal",
    "mixed": "mixed_cpu_accelerator",
    "cpu_only": "cpu_only",
}
"""Execution model to family of targets."""

LAYERS: Final = {
    "post_global_plugin": ("merlin_compiler_plugin", "target_dialect"),
    "structured_text_isa": ("schedule_and_isa_export",),
    "runtime_hal": ("runtime_hal_driver",),
    "llvm_ukernel": ("llvm_backend_or_intrinsics", "ukernel_tile_model"),
}
"""What each style of integration is built of; the order is that in which styles are listed."""

PRIMARY_FIRST: Final = ("runtime_hal", "structured_text_isa", "post_global_plugin", "llvm_ukernel")
FALLBACK: Final = "llvm_ukernel"


@dataclass(frozen=True)
class PatchSurface:
    """A part of the compiler or the runtime that has to be edited, and why."""

    surface: str
    reasons: tuple[str, ...]
    execution_mode: str = MODE


@dataclass(frozen=True)
class Classification:
    """What follows from a spec alone. `styles` is never empty."""

    families: tuple[str, ...]
    styles: tuple[str, ...]
    primary: str
    layers: tuple[str, ...]
    surfaces: tuple[PatchSurface, ...]


def classify(capability: Capability) -> Classification:
    """Return where a target belongs."""
    styles = chosen_styles(capability) or (FALLBACK,)
    layers = ["canonical_spec", "planner", "task_graph", "verification_manifest"]
    if capability.deployment:
        layers.append("deployment_overlay")
    layers += [layer for style, added in LAYERS.items() if style in styles for layer in added]
    return Classification(
        families=(FAMILIES[capability.execution.kind],),
        styles=styles,
        primary=next(style for style in PRIMARY_FIRST if style in styles),
        layers=tuple(layers),
        surfaces=tuple(_surfaces(capability, styles)),
    )


def chosen_styles(capability: Capability) -> tuple[str, ...]:
    """Return the styles that something in the spec asks for, none when nothing does."""
    kind, stage = capability.execution.kind, capability.execution.compiler_recovery_stage
    exposure = capability.isa.exposure.kind
    fires = {
        "post_global_plugin": stage == "post_global_optimization",
        "structured_text_isa": kind == "structured_npu" or exposure in ("text_isa", "custom_exporter"),
        "runtime_hal": capability.runtime.required or kind == "simt_gpu" or exposure == "hal_runtime",
        "llvm_ukernel": exposure in ("llvm_intrinsics", "llvm_backend_features") or stage == "llvmcpu_codegen",
    }
    return tuple(style for style in LAYERS if fires[style])


def needs_llvm(exposure: Exposure) -> bool:
    """Whether anything of LLVM itself has to change."""
    return exposure.needs_llvm_backend_changes or exposure.needs_new_intrinsics or exposure.needs_new_feature_bits


def _surfaces(capability: Capability, styles: tuple[str, ...]) -> Iterator[PatchSurface]:
    exposure, deployment = capability.isa.exposure, capability.deployment
    if "llvm_ukernel" in styles:
        needs = {
            "backend_feature_bits_or_instruction_patterns": exposure.needs_llvm_backend_changes,
            "llvm_intrinsic_surface": exposure.needs_new_intrinsics,
            "target_feature_bits": exposure.needs_new_feature_bits,
        }
        if needs_llvm(exposure):
            yield PatchSurface("llvm", tuple(reason for reason, needed in needs.items() if needed))
        if capability.tiles.preferred_tiles or capability.memory.packing:
            yield PatchSurface("iree", ("cpu_encoding_models", "ukernel_tile_selection", "pack_unpack_selection"))
    if deployment and deployment.mode == "bare-metal":
        yield PatchSurface("iree_runtime", ("bare_metal_runtime_validation",))
