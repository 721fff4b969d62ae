"""How does a document that was found right become the model? Nothing is folded, trimmed, sorted or made unique."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from merlin_es.errors import SpecInvalid
from merlin_es.targetgen.capability import (
    Access,
    Capability,
    ComputeOperation,
    Deployment,
    Execution,
    Exposure,
    Identity,
    Isa,
    Memory,
    Numeric,
    Operations,
    Platform,
    RegisterConstraints,
    Runtime,
    Tiles,
    Verification,
)
from merlin_es.targetgen.checking import capability_findings, overlay_findings

Checked: TypeAlias = Mapping[str, Any]
"""A mapping in which every key is what it has to be."""


def capability(document: object, path: str) -> Capability:
    """Return the target that a spec describes; raises SpecInvalid with everything that is wrong."""
    spec = _mapping(document, path)
    _require(capability_findings(spec), path)
    return Capability(
        schema_version=spec["schema_version"],
        identity=Identity(**_only(spec["target"], "name", "display_name", "vendor", "maturity")),
        platform=_platform(spec["platform"]),
        execution=Execution(**spec["execution_model"]),
        isa=_isa(spec["isa"]),
        operations=_operations(spec["operations"]),
        tiles=_tiles(spec["geometry"]),
        memory=_memory(spec["memory"]),
        numeric=_numeric(spec["numeric"]),
        runtime=_runtime(spec["runtime"]),
        verification=_verification(spec["verification"]),
        access=_access(spec["access"]),
        references=tuple(spec.get("references", ())),
        capability_path=path,
    )


def deployment(document: object, path: str) -> Deployment:
    """Return the deployment that an overlay describes; raises SpecInvalid with everything that is wrong."""
    overlay = _mapping(document, path)
    _require(overlay_findings(overlay), path)
    found = overlay["deployment"]
    return Deployment(
        name=found["name"],
        mode=found["mode"],
        build_profile=found["build_profile"],
        compile_target=found.get("compile_target"),
        compile_hw=found.get("compile_hw"),
        hardware_recipe=found.get("hardware_recipe"),
        chipyard=dict(found.get("chipyard", {})),
        runtime=dict(found.get("runtime", {})),
        extra=dict(found.get("extra", {})),
        source_path=path,
    )


def _mapping(document: object, path: str) -> Checked:
    if isinstance(document, dict):
        return document
    if not document:
        return {}  # An empty file says nothing, and everything is missing.
    raise SpecInvalid(f"{path}: expected a YAML mapping at the document root")


def _require(findings: list[str], path: str) -> None:
    if findings:
        raise SpecInvalid("\n".join([f"{path} failed validation:", *(f"- {line}" for line in findings)]))


def _only(section: Checked, *keys: str) -> dict[str, Any]:
    return {key: section[key] for key in keys}


def _platform(section: Checked) -> Platform:
    return Platform(section["host_isa"], tuple(section["operating_systems"]), tuple(section["environments"]))


def _isa(section: Checked) -> Isa:
    constraints = section["register_constraints"]
    return Isa(
        base=section["base"],
        features=tuple(section["features"]),
        exposure=Exposure(**section["exposure"]),
        state_model=section["state_model"]["kind"],
        register_constraints=RegisterConstraints(
            accumulator_register_file=constraints.get("accumulator_register_file"),
            even_alignment_required=constraints["even_alignment_required"],
            vl_dependent=constraints["vl_dependent"],
        ),
    )


def _operations(section: Checked) -> Operations:
    compute = (
        ComputeOperation(each["name"], each["native"], tuple(each.get("type_triples", ())))
        for each in section["compute"]
    )
    return Operations(tuple(compute), tuple(section["movement"]), tuple(section["synchronization"]))


def _tiles(section: Checked) -> Tiles:
    vector = section.get("vector", {})
    return Tiles(
        compute_array_kind=section.get("compute_array", {}).get("kind"),
        vector_vlen_bits=vector.get("vlen_bits"),
        vector_dlen_bits=vector.get("dlen_bits"),
        native_tile_options=tuple(tuple(tile) for tile in section.get("native_tile_options", ())),
        preferred_tiles=tuple(tuple(tile) for tile in section.get("preferred_tiles", ())),
    )


def _memory(section: Checked) -> Memory:
    return Memory(
        spaces=tuple(section["spaces"]),
        preferred_layouts=dict(section.get("preferred_layouts") or {}),
        packing=dict(section.get("packing") or {}),
    )


def _numeric(section: Checked) -> Numeric:
    return Numeric(
        legal_type_triples=tuple(section["legal_type_triples"]),
        quantization=dict(section.get("quantization", {})),
        rounding_modes=tuple(section["rounding_modes"]),
        saturation=section["saturation"],
    )


def _runtime(section: Checked) -> Runtime:
    driver = section.get("driver", {})
    return Runtime(
        required=section["required"],
        executable_format=section["executable_format"],
        driver_backend_id=driver.get("backend_id"),
        uri_schemes=tuple(driver.get("uri_schemes", ())),
        synchronization=dict(section.get("synchronization", {})),
    )


def _verification(section: Checked) -> Verification:
    return Verification(
        golden_model=dict(section["golden_model"]),
        simulator=dict(section["simulator"]),
        rtl=dict(section["rtl"]),
        perf_counters=dict(section["perf_counters"]),
        tolerances=dict(section.get("tolerances", {})),
    )


def _access(section: Checked) -> Access:
    return Access(
        model=section["model"],
        sdk_requirements=tuple(section["sdk_requirements"]),
        credential_requirements=section["credential_requirements"],
        availability_class=section["availability_class"],
        verification_gates=tuple(section["verification_gates"]),
    )
