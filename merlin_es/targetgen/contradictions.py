"""Which parts of a spec do not fit together, although each is right by itself? A plan is made all the same."""

from __future__ import annotations

from collections.abc import Iterator

from merlin_es.targetgen.capability import Capability
from merlin_es.targetgen.classification import FALLBACK, chosen_styles, needs_llvm


def contradictions(capability: Capability) -> tuple[str, ...]:
    """Return what somebody should look at before work begins, one line each."""
    return (*_of_the_integration(capability), *_of_the_runtime(capability), *_of_the_overlay(capability))


def _of_the_integration(capability: Capability) -> Iterator[str]:
    execution, exposure, styles = capability.execution, capability.isa.exposure, chosen_styles(capability)
    if not styles:
        yield (
            f"execution_model, isa.exposure and runtime ask for no style of integration: it is planned as {FALLBACK}; "
            "give an exposure or a recovery stage if that is not meant"
        )
    if execution.compiler_recovery_stage == "text_isa_export" and "structured_text_isa" not in styles:
        yield (
            "execution_model.compiler_recovery_stage is text_isa_export, and nothing exports a text ISA: "
            "isa.exposure.kind would be text_isa or custom_exporter"
        )
    if execution.kind == "cpu_only" and exposure.kind == "hal_runtime":
        yield "execution_model.kind is cpu_only and isa.exposure.kind is hal_runtime: a CPU alone needs no driver"
    if needs_llvm(exposure) and styles and "llvm_ukernel" not in styles:
        yield f"isa.exposure asks for changes of LLVM, and no task makes them, as {' and '.join(styles)} need none"


def _of_the_runtime(capability: Capability) -> Iterator[str]:
    runtime, has_driver = capability.runtime, "runtime_hal" in chosen_styles(capability)
    if has_driver and not runtime.driver_backend_id:
        yield "a runtime driver is to be built, and runtime.driver.backend_id does not say what it is called"
    if runtime.driver_backend_id and not has_driver:
        yield f"runtime.driver.backend_id is {runtime.driver_backend_id}, and nothing asks for a runtime driver"
    if "device_query" in capability.access.verification_gates and not has_driver:
        yield "access.verification_gates has device_query, which only a runtime driver could answer"


def _of_the_overlay(capability: Capability) -> Iterator[str]:
    deployment, environments = capability.deployment, capability.platform.environments
    if deployment and deployment.mode not in (*environments, "host-emulation"):
        known = " and ".join(environments) or "nothing"
        yield f"the overlay {deployment.name} is for {deployment.mode}, and platform.environments names {known}"
