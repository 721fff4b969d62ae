"""Do we plan what the tool before us planned, but for the differences that are listed here one by one?"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merlin_es.errors import SpecInvalid
from merlin_es.targetgen import normalising, planning
from merlin_es.targetgen.names import lower, title
from merlin_es.targetgen.yaml_text import parse
from tests.targetgen_data import SHARED, example, example_names, example_paths, needs_shared, rows
from tests.targetgen_shell import tree, typed_in

pytestmark = needs_shared

MUTATIONS: dict[str, Any] = {
    "null": None,
    "int": 7,
    "str": "zzz",
    "empty_str": "",
    "list": [],
    "map": {},
    "true": True,
    "list_of_int": [1],
    "float": 1.5,
}

STRICTER: list[tuple[str, Callable[[list[str], str], bool]]] = [
    ("the version of the format is compared, and true is no number", lambda path, _how: path == ["schema_version"]),
    ("true is no size of a tile", lambda path, how: path[:1] == ["geometry"] and how == "true"),
    ("a memory space is a mapping with a name", lambda path, _how: path[:2] == ["memory", "spaces"]),
    ("a register file is a text or null", lambda path, _how: path[-1:] == ["accumulator_register_file"]),
]
"""What passed there and is an error here, each with why (weakness W28)."""


def test_every_mutation_of_a_document_gives_the_same_errors_in_the_same_order() -> None:
    for row in rows("validation.jsonl"):
        expected, errors = row["expected"], findings(row)
        if "errors" in expected:
            assert errors == expected["errors"], row
        elif "crash" in expected:
            assert errors == [f"{'.'.join(row['path'])}: expected a mapping"], row
        elif errors:
            assert any(applies(row["path"], row["mutation"]) for _why, applies in STRICTER), (row, errors)


def test_every_combination_of_four_fields_is_classified_alike() -> None:
    for row in rows("classification.jsonl"):
        document = template("capability")
        document["execution_model"]["kind"] = row["kind"]
        document["execution_model"]["compiler_recovery_stage"] = row["recovery_stage"]
        document["isa"]["exposure"]["kind"] = row["exposure"]
        document["runtime"]["required"] = row["runtime_required"]
        plan = planning.plan(normalising.capability(document, "c.yaml"))
        found = plan.as_json()["support_plan.json"]
        for key in ("target_families", "integration_styles", "primary_integration", "required_layers"):
            assert found[key] == row[key], row
        assert [[task.id, list(task.depends_on)] for task in plan.tasks] == row["tasks"]


def test_every_random_spec_has_the_same_plan_tasks_and_views() -> None:
    for row in rows("plans.jsonl"):
        compare(row["capability"], row["overlay"], row["expected"])


@pytest.mark.parametrize("name", example_names() or ["none"])
def test_every_real_spec_gives_the_same_documents_files_and_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, oracle = typed_in(tmp_path, monkeypatch, capsys), example(name)
    spec, overlay = example_paths(name)
    for verb in ("plan", "generate", "orchestrate", "orchestrate-none", "stage-mutation"):
        directory = tmp_path / verb
        backend = ("--prompt-backend", "none") if verb == "orchestrate-none" else ()
        words = (verb.removesuffix("-none"), spec, "--overlay", overlay, "--out-dir", directory, *backend)
        rehearsed = typed("--dry-run", *words)
        assert (rehearsed.code, directory.exists()) == (0, False), rehearsed
        done = typed(*words)
        assert done.code == 0, done
        assert [path for path in sorted(tree(directory / name)) if not is_of_the_log(path)] == oracle["files"][verb]
        if verb in oracle["stdout"]:
            lines = oracle["stdout"][verb].replace(f"<root>/{name}/{verb}.out", str(directory))
            assert done.out.rstrip() == lines.rstrip()
        before = tree(directory)
        assert typed(*words) == done
        assert tree(directory) == before, "the same inputs, the same bytes"
    validated = typed("validate", spec, "--overlay", overlay)
    assert validated.out.rstrip() == oracle["stdout"]["validate"].rstrip()
    staged = tmp_path / "stage-mutation" / name
    compare_scaffold(staged, oracle)
    document, deployment = parse(spec.read_text(), "c"), parse(overlay.read_text(), "o")
    assert isinstance(document, dict)
    assert isinstance(deployment, dict)
    compare(document, deployment, oracle, str(spec), str(overlay))


def is_of_the_log(path: str) -> bool:
    """Whether a file holds the past of an execution, of which there was none before."""
    return path in (".executor.lock", "events.jsonl") or path.startswith("blobs/")


def compare_scaffold(directory: Path, oracle: dict[str, Any]) -> None:
    """Compare the lists of a scaffold and of a proposal with an oracle."""
    made = json.loads((directory / "generation_bundle.json").read_text())
    kept = ("repo_path", "category", "task_ids")
    assert [{key: each[key] for key in kept} for each in made["files"]] == [
        {key: each[key] for key in kept} for each in oracle["scaffold"]
    ]
    assert all(Path(each["staged_path"]).is_file() for each in made["files"])
    proposed = json.loads((directory / "mutation" / "mutation_bundle.json").read_text())
    for key in ("blocking_gates", "branch_name"):
        assert proposed[key] == oracle["mutation"][key]
    wanted = oracle["mutation"]["candidates"]
    assert [{key: each[key] for key in wanted[0]} for each in proposed["candidates"]] == wanted
    assert all(Path(each["staged_path"]).is_file() for each in proposed["candidates"])
    assert len(proposed["next_steps"]) == 4


def compare(
    document: dict[str, Any],
    overlay: dict[str, Any] | None,
    expected: dict[str, Any],
    spec: str = "spec/capability.yaml",
    overlay_path: str = "spec/overlay.yaml",
) -> None:
    """Compare a plan with an oracle from which the differences that are meant were taken."""
    capability = normalising.capability(document, spec)
    deployment = normalising.deployment(overlay, overlay_path) if overlay else None
    made = planning.plan(capability, deployment).as_json()
    wanted = as_meant(copy.deepcopy(expected), document, overlay)
    for stage in made["support_plan.json"]["verification_manifest"]["stages"]:
        assert stage.pop("rationale")
    assert made["support_plan.json"] == wanted["support_plan"]
    assert made["compile_view.yaml"] == wanted["compile_view"]
    assert made.get("deployment_view.yaml") == wanted["deployment_view"]
    tasks = [structure(task) for task in made["task_graph.json"]]
    for task, oracle in zip(tasks, wanted["task_graph"], strict=True):
        ours, theirs = task.pop("artifacts_in"), oracle.pop("artifacts_in")
        assert ours == [spec, overlay_path][: len(theirs)]
    assert tasks == wanted["task_graph"]


def structure(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task without its sentences, as the oracle has it."""
    counts = {key: len(task[key]) for key in ("actions", "acceptance_checks", "handoff_contract")}
    paths = list(dict.fromkeys(each["value"] for each in task["evidence"]))
    kept = {key: value for key, value in task.items() if key not in (*counts, "title", "evidence")}
    return {**kept, "counts": counts, "evidence_paths": paths}


def as_meant(expected: dict[str, Any], document: dict[str, Any], overlay: dict[str, Any] | None) -> dict[str, Any]:
    """Return an oracle as it would be had the weaknesses been mended."""
    deployment = overlay["deployment"] if overlay else {}
    # W31: the flag that the compiler really has.
    view = expected["compile_view"]
    view["targets"] = {
        hardware: [flag.replace("--target-isa-features=", "--iree-llvmcpu-target-cpu-features=") for flag in flags]
        for hardware, flags in view["targets"].items()
    }
    # W33: an overlay that brings a device or a simulator makes that stage ready.
    if deployment.get("mode") in ("board", "firesim", "simulator", "runtime-driver"):
        expected["support_plan"]["verification_manifest"]["stages"][6]["status"] = "ready"
    for task in expected["task_graph"]:
        for key in ("write_scope", "artifacts_out"):
            task[key] = [mended for path in task[key] if (mended := scope_as_meant(path, document, deployment))]
    return expected


def scope_as_meant(path: str, document: dict[str, Any], deployment: dict[str, Any]) -> str | None:
    """Return a path that is one (W32), of the LLVM target that is meant, or none when LLVM stays as it is (W34)."""
    name, base, exposure = document["target"]["name"], document["isa"]["base"], document["isa"]["exposure"]
    if "llvm-project" in path:
        if not any(
            exposure[f"needs_{what}"] for what in ("llvm_backend_changes", "new_intrinsics", "new_feature_bits")
        ):
            return None
        return path.replace("/Target/RISCV/", f"/Target/{'RISCV' if base.startswith('riscv') else title(base)}/")
    if path == "build_tools/hardware/<recipe>.yaml":
        return deployment.get("hardware_recipe") or f"build_tools/hardware/{name}.yaml"
    spelled = lower(name) if path.startswith("runtime/") else name
    return path.replace("<target>", spelled).replace("<Target>", title(name))


def findings(row: dict[str, Any]) -> list[str]:
    """Return what we find wrong with the document of a row."""
    document = mutated(template(row["document"]), row["path"], row["mutation"])
    make = normalising.capability if row["document"] == "capability" else normalising.deployment
    try:
        make(document, "d.yaml")
    except SpecInvalid as error:
        first, *lines = str(error).splitlines()
        assert first == "d.yaml failed validation:"
        return [line.removeprefix("- ") for line in lines]
    return []


def template(document: str) -> dict[str, Any]:
    """Return one of the two filled-in templates."""
    name = {"capability": "capability_spec.yaml", "overlay": "deployment_overlay.yaml"}[document]
    found = parse((SHARED / "schema" / name).read_text(), name)
    assert isinstance(found, dict)
    return found


def mutated(document: Any, path: list[str] | None, how: str) -> Any:  # noqa: ANN401  whatever YAML has
    """Return a document with the value at one path replaced or removed."""
    if how == "empty_document" or not path:
        return {} if how == "empty_document" else MUTATIONS[how]
    holder = document
    for part in path[:-1]:
        holder = holder[int(part) if isinstance(holder, list) else part]
    last: Any = int(path[-1]) if isinstance(holder, list) else path[-1]
    if how == "delete":
        del holder[last]
    else:
        holder[last] = copy.deepcopy(MUTATIONS[how])
    return document
