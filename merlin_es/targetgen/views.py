"""What do the compiler and the deployment need to know of a target? Two small documents, derived and never edited."""

from __future__ import annotations

from typing import Any

from merlin_es.targetgen.capability import Capability, Deployment


def compile_view(capability: Capability, styles: tuple[str, ...]) -> dict[str, Any]:
    """Return what `compile_view.yaml` says; the keys in the order in which they are written."""
    name, deployment, host = capability.identity.name, capability.deployment, capability.platform.host_isa
    hardware = (deployment.compile_hw if deployment else None) or "default"
    features = ",".join(capability.isa.features)
    is_riscv = host.startswith("riscv")
    return {
        "target_name": (deployment.compile_target if deployment else None) or name,
        "default_hw": hardware,
        "generic": [f"--iree-llvmcpu-target-triple={host}-unknown-linux-gnu"] if is_riscv else [],
        "targets": {hardware: [f"--iree-llvmcpu-target-cpu-features={features}"] if features else []},
        "plugin_flags": [f"--iree-plugin={name.replace('_', '-')}"] if "post_global_plugin" in styles else [],
    }


def deployment_view(deployment: Deployment) -> dict[str, Any]:
    """Return what `deployment_view.yaml` says."""
    return {
        "name": deployment.name,
        "mode": deployment.mode,
        "build_profile": deployment.build_profile,
        "compile_target": deployment.compile_target,
        "compile_hw": deployment.compile_hw,
        "hardware_recipe": deployment.hardware_recipe,
        "chipyard": dict(deployment.chipyard),
        "runtime": dict(deployment.runtime),
        "extra": dict(deployment.extra),
    }
