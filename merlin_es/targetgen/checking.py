"""What is wrong with a spec or an overlay? Everything at once, in an order that does not depend on the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final, TypeAlias

from merlin_es.targetgen.names import VARIABLE, is_inside, is_name

Map: TypeAlias = Mapping[str, object]

SCHEMA_VERSION: Final = 1
KINDS: Final = (
    "cpu_only",
    "vector_cpu_extension",
    "matrix_coprocessor",
    "rocc_accelerator",
    "structured_npu",
    "simt_gpu",
    "mixed",
)
RECOVERY_STAGES: Final = ("post_global_optimization", "llvmcpu_codegen", "text_isa_export", "runtime_only")
EXPOSURES: Final = (
    "llvm_intrinsics",
    "llvm_backend_features",
    "custom_exporter",
    "text_isa",
    "hal_runtime",
    "none",
)
ACCESS_MODELS: Final = ("local_device", "remote_device", "cloud_service", "simulator", "board", "lab_hardware")
AVAILABILITY: Final = ("always_local", "lab_hardware", "cloud_token_required", "sdk_install_required")
GATES: Final = ("compile_only", "device_query", "smoke_run", "profile_run")
MODES: Final = ("board", "firesim", "bare-metal", "simulator", "runtime-driver", "host-emulation")

_SECTIONS = (
    "target",
    "platform",
    "execution_model",
    "isa",
    "operations",
    "geometry",
    "memory",
    "numeric",
    "runtime",
    "verification",
    "access",
)
_WITNESSES = ("golden_model", "simulator", "rtl", "perf_counters")


class Findings:
    """Collects what is wrong, one line each; every method looks at one key of one mapping."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, where: str, expected: str) -> None:
        """Note that `where` is not what it has to be."""
        self.lines.append(f"{where}: {expected}")

    def keys(self, where: str, holder: Map, known: Iterable[str]) -> None:
        """Note every key that has no meaning, and the one that was perhaps meant."""
        names = tuple(known)
        for key in holder:
            if key not in names:
                near = get_close_matches(str(key)[:80], names, 1)
                hint = f", did you mean '{near[0]}'?" if near else ""
                self.add(where, f"unexpected key '{key}'{hint}")

    def section(self, holder: Map, key: str, where: str = "root") -> Map:
        """Return a mapping that has to be there, or an empty one."""
        value = holder.get(key)
        if isinstance(value, dict):
            return value
        self.add(f"{where}.{key}", "expected a mapping")
        return {}

    def mapping(self, where: str, holder: Map, key: str, *, empty: tuple[object, ...] = ()) -> Map:
        """Return a mapping that may be absent; what is in `empty` also counts as an empty one."""
        value = holder.get(key, {})
        if isinstance(value, dict):
            return value
        if not any(type(value) is type(each) and value == each for each in empty):
            self.add(f"{where}.{key}", "expected a mapping")
        return {}

    def version(self, holder: Map) -> None:
        """Note a version of the format that is not read here."""
        value = holder.get("schema_version")
        if not _is_integer(value):
            self.add("root.schema_version", "expected an integer")
        elif value != SCHEMA_VERSION:
            self.add("root.schema_version", f"expected {SCHEMA_VERSION}, the version that is read here")

    def text(self, where: str, holder: Map, key: str) -> str | None:
        """Return a text that says something."""
        value = holder.get(key)
        if isinstance(value, str) and value:
            return value
        self.add(f"{where}.{key}", "expected a non-empty string")
        return None

    def name(self, where: str, holder: Map, key: str) -> None:
        """Note a text that could not be a part of a path."""
        value = self.text(where, holder, key)
        if value is not None and not is_name(value):
            self.add(
                f"{where}.{key}",
                "expected a name: letters, digits, '.', '_' and '-', at most 128, first a letter or digit, no '..'",
            )

    def choice(self, where: str, holder: Map, key: str, allowed: Iterable[str]) -> None:
        """Note a text that is none of those that have a meaning."""
        value = self.text(where, holder, key)
        if value is not None and value not in allowed:
            self.add(f"{where}.{key}", f"expected one of {sorted(allowed)}")

    def texts(self, where: str, holder: Map, key: str, default: object = None) -> tuple[str, ...]:
        """Return a list of texts that say something."""
        value = holder.get(key, default)
        if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
            return tuple(value)
        self.add(f"{where}.{key}" if where else key, "expected a list of strings")
        return ()

    def boolean(self, where: str, holder: Map, key: str) -> None:
        """Note what is neither true nor false."""
        if not isinstance(holder.get(key), bool):
            self.add(f"{where}.{key}", "expected a boolean")

    def text_or_null(self, where: str, holder: Map, key: str, expected: str = "expected a string or null") -> None:
        """Note what is there and no text."""
        if not isinstance(holder.get(key), str | None):
            self.add(f"{where}.{key}", expected)

    def some(self, where: str, holder: Map, key: str) -> list[object]:
        """Return a list that has to have something in it."""
        value = holder.get(key)
        if isinstance(value, list) and value:
            return value
        self.add(f"{where}.{key}", "expected a non-empty list")
        return []


def capability_findings(document: Map) -> list[str]:
    """Return what is wrong with a capability spec, nothing when it can be planned."""
    findings = Findings()
    findings.keys("root", document, ("schema_version", *_SECTIONS, "references"))
    sections = [findings.section(document, name) for name in _SECTIONS]
    findings.version(document)
    checks = (
        _target,
        _platform,
        _execution,
        _isa,
        _operations,
        _geometry,
        _memory,
        _numeric,
        _runtime,
        _verification,
        _access,
    )
    for check, section in zip(checks, sections, strict=True):
        check(findings, section)
    findings.texts("", document, "references", [])
    return findings.lines


def overlay_findings(document: Map) -> list[str]:
    """Return what is wrong with a deployment overlay, nothing when it can be used."""
    findings = Findings()
    findings.keys("root", document, ("schema_version", "deployment"))
    findings.version(document)
    deployment = findings.section(document, "deployment")
    texts, maps = ("compile_target", "compile_hw", "hardware_recipe"), ("chipyard", "runtime", "extra")
    findings.keys("deployment", deployment, ("name", "mode", "build_profile", *texts, *maps))
    findings.name("deployment", deployment, "name")
    findings.choice("deployment", deployment, "mode", MODES)
    findings.text("deployment", deployment, "build_profile")
    for key in texts:
        findings.text_or_null("deployment", deployment, key)
    recipe = deployment.get("hardware_recipe")
    if isinstance(recipe, str) and recipe and not is_inside(recipe):
        findings.add("deployment.hardware_recipe", "expected a path inside the repository, relative and without '..'")
    for key in maps:
        findings.mapping("deployment", deployment, key)
    return findings.lines


def _target(findings: Findings, target: Map) -> None:
    findings.keys("target", target, ("name", "display_name", "vendor", "maturity"))
    findings.name("target", target, "name")
    for key in ("display_name", "vendor", "maturity"):
        findings.text("target", target, key)


def _platform(findings: Findings, platform: Map) -> None:
    findings.keys("platform", platform, ("host_isa", "operating_systems", "environments"))
    findings.text("platform", platform, "host_isa")
    findings.texts("platform", platform, "operating_systems")
    findings.texts("platform", platform, "environments")


def _execution(findings: Findings, execution: Map) -> None:
    where = "execution_model"
    findings.keys(where, execution, ("kind", "attachment", "submission_model", "compiler_recovery_stage"))
    findings.choice(where, execution, "kind", KINDS)
    findings.text(where, execution, "attachment")
    findings.text(where, execution, "submission_model")
    findings.choice(where, execution, "compiler_recovery_stage", RECOVERY_STAGES)


def _isa(findings: Findings, isa: Map) -> None:
    findings.keys("isa", isa, ("base", "features", "exposure", "state_model", "register_constraints"))
    findings.name("isa", isa, "base")
    findings.texts("isa", isa, "features")
    needs = ("needs_llvm_backend_changes", "needs_new_intrinsics", "needs_new_feature_bits")
    exposure = _inside(isa, "exposure")
    findings.keys("isa.exposure", exposure, ("kind", *needs))
    findings.choice("isa.exposure", exposure, "kind", EXPOSURES)
    for key in needs:
        findings.boolean("isa.exposure", exposure, key)
    state_model = _inside(isa, "state_model")
    findings.keys("isa.state_model", state_model, ("kind",))
    findings.text("isa.state_model", state_model, "kind")
    where, constraints = "isa.register_constraints", _inside(isa, "register_constraints")
    findings.keys(where, constraints, ("accumulator_register_file", "even_alignment_required", "vl_dependent"))
    findings.text_or_null(where, constraints, "accumulator_register_file")
    findings.boolean(where, constraints, "even_alignment_required")
    findings.boolean(where, constraints, "vl_dependent")


def _operations(findings: Findings, operations: Map) -> None:
    findings.keys("operations", operations, ("compute", "movement", "synchronization"))
    for index, operation in enumerate(findings.some("operations", operations, "compute")):
        where = f"operations.compute[{index}]"
        if not isinstance(operation, dict):
            findings.add(where, "expected a mapping")
            continue
        findings.keys(where, operation, ("name", "native", "type_triples"))
        findings.text(where, operation, "name")
        findings.boolean(where, operation, "native")
        findings.texts(where, operation, "type_triples", [])
    findings.texts("operations", operations, "movement")
    findings.texts("operations", operations, "synchronization")


def _geometry(findings: Findings, geometry: Map) -> None:
    tiles = ("native_tile_options", "preferred_tiles")
    findings.keys("geometry", geometry, ("compute_array", "vector", *tiles))
    vector = findings.mapping("geometry", geometry, "vector")
    findings.keys("geometry.vector", vector, ("vlen_bits", "dlen_bits"))
    for key in ("vlen_bits", "dlen_bits"):
        if vector.get(key) is not None and not _is_integer(vector[key]):
            findings.add(f"geometry.vector.{key}", "expected an integer")
    array = findings.mapping("geometry", geometry, "compute_array")
    findings.keys("geometry.compute_array", array, ("kind",))
    findings.text_or_null("geometry.compute_array", array, "kind", "expected a string")
    for key in tiles:
        if not _are_tiles(geometry.get(key, [])):
            findings.add(f"geometry.{key}", "expected a list of integer tile lists")


def _memory(findings: Findings, memory: Map) -> None:
    findings.keys("memory", memory, ("spaces", "preferred_layouts", "packing"))
    for index, space in enumerate(findings.some("memory", memory, "spaces")):
        where = f"memory.spaces[{index}]"
        if not isinstance(space, dict):
            findings.add(where, "expected a mapping")
            continue
        findings.text(where, space, "name")
        if "kind" in space:
            findings.text(where, space, "kind")
    for key in ("preferred_layouts", "packing"):
        findings.mapping("memory", memory, key, empty=("", []))


def _numeric(findings: Findings, numeric: Map) -> None:
    findings.keys("numeric", numeric, ("legal_type_triples", "quantization", "rounding_modes", "saturation"))
    findings.texts("numeric", numeric, "legal_type_triples")
    findings.mapping("numeric", numeric, "quantization")
    findings.texts("numeric", numeric, "rounding_modes")
    findings.boolean("numeric", numeric, "saturation")


def _runtime(findings: Findings, runtime: Map) -> None:
    findings.keys("runtime", runtime, ("required", "executable_format", "driver", "synchronization"))
    findings.boolean("runtime", runtime, "required")
    findings.text("runtime", runtime, "executable_format")
    driver = findings.mapping("runtime", runtime, "driver")
    findings.keys("runtime.driver", driver, ("backend_id", "uri_schemes"))
    findings.text_or_null("runtime.driver", driver, "backend_id")
    findings.texts("runtime.driver", driver, "uri_schemes", [])
    findings.mapping("runtime", runtime, "synchronization")


def _verification(findings: Findings, verification: Map) -> None:
    findings.keys("verification", verification, (*_WITNESSES, "tolerances"))
    for key in _WITNESSES:
        witness = findings.section(verification, key, "verification")
        findings.boolean(f"verification.{key}", witness, "available")
    findings.mapping("verification", verification, "tolerances")


def _access(findings: Findings, access: Map) -> None:
    keys = ("model", "sdk_requirements", "credential_requirements", "availability_class", "verification_gates")
    findings.keys("access", access, keys)
    findings.choice("access", access, "model", ACCESS_MODELS)
    findings.texts("access", access, "sdk_requirements")
    credential = findings.text("access", access, "credential_requirements")
    if credential is not None and not VARIABLE.fullmatch(credential):
        findings.add(
            "access.credential_requirements",
            "expected 'none' or what names an environment variable: letters, digits and '_'",
        )
    findings.choice("access", access, "availability_class", AVAILABILITY)
    for gate in findings.texts("access", access, "verification_gates"):
        if gate not in GATES:
            findings.add("access.verification_gates", f"unexpected value '{gate}'")


def _inside(holder: Map, key: str) -> Map:
    """Return a mapping; where there is none, its fields are what is missed."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_tiles(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(tile, list) and tile and all(_is_integer(size) for size in tile) for tile in value
    )
