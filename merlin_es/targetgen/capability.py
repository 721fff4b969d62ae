"""What is known of a target? The normalised model; its field names are also those that prompt templates use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Identity:
    """Which target it is."""

    name: str
    display_name: str
    vendor: str
    maturity: str


@dataclass(frozen=True)
class Platform:
    """What the target is attached to."""

    host_isa: str
    operating_systems: tuple[str, ...]
    environments: tuple[str, ...]


@dataclass(frozen=True)
class Execution:
    """How work reaches the target, and where the compiler finds it."""

    kind: str
    attachment: str
    submission_model: str
    compiler_recovery_stage: str


@dataclass(frozen=True)
class Exposure:
    """Through what the compiler reaches the instructions."""

    kind: str
    needs_llvm_backend_changes: bool
    needs_new_intrinsics: bool
    needs_new_feature_bits: bool


@dataclass(frozen=True)
class RegisterConstraints:
    """What the register allocator has to know."""

    accumulator_register_file: str | None
    even_alignment_required: bool
    vl_dependent: bool


@dataclass(frozen=True)
class Isa:
    """The instructions."""

    base: str
    features: tuple[str, ...]
    exposure: Exposure
    state_model: str
    register_constraints: RegisterConstraints


@dataclass(frozen=True)
class ComputeOperation:
    """One thing that the target computes."""

    name: str
    native: bool
    type_triples: tuple[str, ...]


@dataclass(frozen=True)
class Operations:
    """What the target can do."""

    compute: tuple[ComputeOperation, ...]
    movement: tuple[str, ...]
    synchronization: tuple[str, ...]


@dataclass(frozen=True)
class Tiles:
    """In which shapes it computes."""

    compute_array_kind: str | None
    vector_vlen_bits: int | None
    vector_dlen_bits: int | None
    native_tile_options: tuple[tuple[int, ...], ...]
    preferred_tiles: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Memory:
    """Where its data lies."""

    spaces: tuple[Any, ...]
    preferred_layouts: Mapping[str, Any]
    packing: Mapping[str, Any]


@dataclass(frozen=True)
class Numeric:
    """What its numbers are."""

    legal_type_triples: tuple[str, ...]
    quantization: Mapping[str, Any]
    rounding_modes: tuple[str, ...]
    saturation: bool


@dataclass(frozen=True)
class Runtime:
    """What has to run beside the host's program."""

    required: bool
    executable_format: str
    driver_backend_id: str | None
    uri_schemes: tuple[str, ...]
    synchronization: Mapping[str, Any]


@dataclass(frozen=True)
class Verification:
    """What its results can be compared with; each is a mapping with `available`."""

    golden_model: Mapping[str, Any]
    simulator: Mapping[str, Any]
    rtl: Mapping[str, Any]
    perf_counters: Mapping[str, Any]
    tolerances: Mapping[str, Any]


@dataclass(frozen=True)
class Access:
    """Who gets at it, and with what."""

    model: str
    sdk_requirements: tuple[str, ...]
    credential_requirements: str
    availability_class: str
    verification_gates: tuple[str, ...]


@dataclass(frozen=True)
class Deployment:
    """An overlay: one way to deploy the target. `source_path` is the overlay as it was typed."""

    name: str
    mode: str
    build_profile: str
    compile_target: str | None
    compile_hw: str | None
    hardware_recipe: str | None
    chipyard: Mapping[str, Any]
    runtime: Mapping[str, Any]
    extra: Mapping[str, Any]
    source_path: str


@dataclass(frozen=True)
class Capability:
    """A target as its spec describes it. `capability_path` is the spec as it was typed."""

    schema_version: int
    identity: Identity
    platform: Platform
    execution: Execution
    isa: Isa
    operations: Operations
    tiles: Tiles
    memory: Memory
    numeric: Numeric
    runtime: Runtime
    verification: Verification
    access: Access
    references: tuple[str, ...]
    capability_path: str
    deployment: Deployment | None = None
