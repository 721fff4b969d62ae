"""Does a plan follow from its spec, rule by rule, and where the tool before us was wrong, is it right now?"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from merlin_es.errors import SpecInvalid
from merlin_es.targetgen.checking import EXPOSURES, KINDS, RECOVERY_STAGES
from merlin_es.targetgen.classification import FAMILIES, LAYERS, PRIMARY_FIRST
from merlin_es.targetgen.planning import Plan
from merlin_es.targetgen.scaffold import ScaffoldFile, scaffold, views_in_the_repository
from merlin_es.targetgen.tasks import TaskNode
from merlin_es.targetgen.yaml_text import parse
from tests.targetgen_data import overlay, planned, spec

NO_LLVM: dict[str, Any] = {
    f"isa__exposure__needs_{what}": False for what in ("llvm_backend_changes", "new_intrinsics", "new_feature_bits")
}


def ids(plan: Plan) -> list[str]:
    return [task.id for task in plan.tasks]


def task(plan: Plan, task_id: str) -> TaskNode:
    return next(each for each in plan.tasks if each.id == task_id)


def status(plan: Plan, level: int) -> str:
    return plan.support.verification_manifest.stages[level].status


def bodies(files: tuple[ScaffoldFile, ...]) -> dict[str, str]:
    return {each.repo_path: each.body for each in files}


def test_every_combination_has_one_family_styles_in_order_and_a_chain_of_tasks() -> None:
    seen = set()
    for kind, stage, exposure, required in product(KINDS, RECOVERY_STAGES, EXPOSURES, (True, False)):
        made = planned(
            spec(
                execution_model__kind=kind,
                execution_model__compiler_recovery_stage=stage,
                isa__exposure__kind=exposure,
                runtime__required=required,
            )
        )
        found = made.classification
        assert found.families == (FAMILIES[kind],)
        assert found.styles == tuple(style for style in LAYERS if style in found.styles) != ()
        assert found.primary == next(style for style in PRIMARY_FIRST if style in found.styles)
        assert [each.depends_on for each in made.tasks[2:]] == [(each.id,) for each in made.tasks[1:-1]]
        seen.add(found.styles)
    assert len(seen) == 15


@pytest.mark.parametrize(
    ("changes", "styles"),
    [
        (
            {"execution_model__compiler_recovery_stage": "post_global_optimization"},
            ("post_global_plugin", "llvm_ukernel"),
        ),
        ({"execution_model__kind": "structured_npu"}, ("structured_text_isa", "llvm_ukernel")),
        ({"runtime__required": True}, ("runtime_hal", "llvm_ukernel")),
        (
            {"isa__exposure__kind": "none", "execution_model__compiler_recovery_stage": "runtime_only"},
            ("llvm_ukernel",),
        ),
        ({"isa__exposure__kind": "custom_exporter"}, ("structured_text_isa", "llvm_ukernel")),
    ],
)
def test_styles_are_chosen_by_rules_that_do_not_know_each_other(
    changes: dict[str, Any], styles: tuple[str, ...]
) -> None:
    assert planned(spec(**changes)).classification.styles == styles


def test_an_overlay_adds_a_layer_a_leaf_and_a_view_and_changes_no_style() -> None:
    bare, deployed = planned(spec()), planned(spec(), overlay())
    assert set(ids(deployed)) - set(ids(bare)) == {"derive_deployment_overlay"}
    assert not any("derive_deployment_overlay" in each.depends_on for each in deployed.tasks)
    assert "deployment_overlay" in deployed.support.required_layers
    assert deployed.support.derived_artifacts == (*bare.support.derived_artifacts, "deployment_view.yaml")
    assert deployed.classification.styles == bare.classification.styles


def test_patch_surfaces_say_why() -> None:
    made = planned(spec(), overlay("gemmini"))
    assert [(each.surface, each.reasons) for each in made.support.patch_surfaces] == [
        (
            "llvm",
            ("backend_feature_bits_or_instruction_patterns", "llvm_intrinsic_surface", "target_feature_bits"),
        ),
        ("iree", ("cpu_encoding_models", "ukernel_tile_selection", "pack_unpack_selection")),
        ("iree_runtime", ("bare_metal_runtime_validation",)),
    ]
    plain = spec(**NO_LLVM, geometry__preferred_tiles=[], memory__packing={})
    assert planned(plain).support.patch_surfaces == ()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("board", "ready"),
        ("firesim", "ready"),
        ("simulator", "ready"),
        ("runtime-driver", "ready"),
        ("bare-metal", "planned"),
        ("host-emulation", "planned"),
    ],
)
def test_an_overlay_that_brings_a_device_makes_its_stage_ready(mode: str, expected: str) -> None:
    made = planned(spec("nvidia_ada"), overlay(deployment__mode=mode))
    assert status(made, 6) == expected


def test_a_target_without_a_compiler_part_has_no_stages_for_one() -> None:
    made = planned(spec("nvidia_ada"))
    assert [status(made, level) for level in range(8)] == [
        *("ready", "ready", "not_applicable", "not_applicable", "ready", "ready", "planned", "ready")
    ]


@pytest.mark.parametrize(
    ("changes", "deployment", "part"),
    [
        (
            {"isa__exposure__kind": "none", "execution_model__compiler_recovery_stage": "runtime_only"},
            None,
            "ask for no style of integration: it is planned as llvm_ukernel",
        ),
        ({"execution_model__compiler_recovery_stage": "text_isa_export"}, None, "nothing exports a text ISA"),
        (
            {"execution_model__kind": "cpu_only", "isa__exposure__kind": "hal_runtime"},
            None,
            "a CPU alone needs no driver",
        ),
        ({"execution_model__kind": "simt_gpu"}, None, "runtime.driver.backend_id does not say what it is called"),
        ({"runtime__driver__backend_id": "x"}, None, "nothing asks for a runtime driver"),
        ({"access__verification_gates": ["device_query"]}, None, "only a runtime driver could answer"),
        (
            {"isa__exposure__kind": "text_isa", "execution_model__compiler_recovery_stage": "text_isa_export"},
            None,
            "asks for changes of LLVM, and no task makes them",
        ),
        ({}, overlay("nvidia_ada"), "the overlay workstation is for runtime-driver"),
    ],
)
def test_what_does_not_fit_together_is_noted_and_planned_all_the_same(
    changes: dict[str, Any], deployment: dict[str, Any] | None, part: str
) -> None:
    made = planned(spec(**changes), deployment)
    assert any(part in note for note in made.notes), made.notes
    assert made.tasks


def test_a_write_scope_names_paths_and_the_scaffold_stays_within_it() -> None:
    for name in ("saturn_opu", "spacemit_x60", "gemmini", "nvidia_ada"):
        made = planned(spec(name, target__name=f"{name}-x"), overlay(name))
        files = scaffold(made, {})
        for each in made.tasks:
            assert not any(sign in path for path in (*each.write_scope, *each.artifacts_out) for sign in "<>()")
        for file in files:
            scopes = [scope for task_id in file.task_ids for scope in task(made, task_id).write_scope]
            assert any(
                file.repo_path == scope or (scope.endswith("/") and file.repo_path.startswith(scope))
                for scope in scopes
            )


def test_llvm_is_only_in_scope_where_it_has_to_change_and_then_as_its_own_target() -> None:
    none = task(planned(spec(**NO_LLVM)), "implement_llvm_ukernel")
    assert (none.repo_root, none.execution_adapter) == ("third_party/iree_bar", "iree_submodule")
    assert not any("llvm-project" in path for path in none.write_scope)
    assert not any("llvm-project" in each.repo_path for each in scaffold(planned(spec(**NO_LLVM)), {}))
    other = task(planned(spec(isa__base="x86_64")), "implement_llvm_ukernel")
    assert any(path.endswith("/llvm/lib/Target/X8664/") for path in other.write_scope)
    assert other.repo_root.endswith("/llvm-project")


def test_a_credential_is_wanted_for_the_driver_and_by_a_cloud_for_everything() -> None:
    changes: dict[str, Any] = {"access__credential_requirements": "token", "runtime__required": True}
    wanting = {each.id for each in planned(spec(**changes)).tasks if each.credential_requirements == "token"}
    assert wanting == {"implement_runtime_hal"}
    cloud = planned(spec(**changes, access__model="cloud_service"))
    assert {each.credential_requirements for each in cloud.tasks} == {"token"}


def test_evidence_names_each_path_once() -> None:
    made = planned(spec(references=["tools/compile.py", "x.md", "x.md"]), overlay("spacemit_x60"))
    for each in made.tasks:
        paths = [found.value for found in each.evidence]
        assert len(paths) == len(set(paths))
        assert paths[-2:] == ["x.md", "build_tools/hardware/spacemit_x60.yaml"]


def test_the_compile_view_has_the_flag_that_the_compiler_has() -> None:
    view = planned(spec(), overlay()).as_json()["compile_view.yaml"]
    assert list(view) == ["target_name", "default_hw", "generic", "targets", "plugin_flags"]
    assert view["targets"] == {"OPU": ["--iree-llvmcpu-target-cpu-features=+m,+a,+f,+d,+c,+v,+zvl128b,+xopu"]}
    assert view["generic"] == ["--iree-llvmcpu-target-triple=riscv64-unknown-linux-gnu"]
    bare = planned(spec("nvidia_ada", isa__features=[])).as_json()["compile_view.yaml"]
    assert (bare["target_name"], bare["targets"], bare["generic"]) == ("nvidia_ada", {"default": []}, [])


def test_a_plan_has_the_same_bytes_each_time() -> None:
    assert planned(spec(), overlay()).files() == planned(spec(), overlay()).files()


def test_a_file_of_two_tasks_holds_what_both_have_to_say() -> None:
    made = planned(spec("gemmini", isa__exposure__kind="text_isa"))
    shared = [each for each in scaffold(made, {}) if len(each.task_ids) == 2]
    assert {each.repo_path.rpartition("/")[2] for each in shared} == {"README.md", "CMakeLists.txt"}
    for each in shared:
        assert each.task_ids == ("implement_post_global_plugin", "implement_structured_text_isa")
    cmake = next(each.body for each in shared if each.repo_path.endswith("CMakeLists.txt"))
    assert "GemminiRecovery" in cmake
    assert "GemminiScheduling" in cmake


def test_what_people_wrote_is_kept_whole_and_what_is_derived_stands_behind_it_as_comment() -> None:
    made = planned(spec("spacemit_x60"), overlay("spacemit_x60"))
    model, recipe = views_in_the_repository(made)
    handwritten = "# by hand\nboard: k1\nsubmodules: [a]\n"
    files = bodies(scaffold(made, {recipe: handwritten}))
    assert files[recipe].startswith(handwritten)
    assert parse(files[recipe], "r") == {"board": "k1", "submodules": ["a"]}
    assert "# mode: board" in files[recipe]
    again = bodies(scaffold(made, {recipe: files[recipe]}))
    assert again[recipe] == files[recipe], "promoted and generated again, it does not grow"
    assert parse(files[model], "m") == made.as_json()["compile_view.yaml"]


def test_code_is_indented_as_it_is_written_and_names_nothing_that_is_not_there() -> None:
    for name in ("saturn_opu", "gemmini", "nvidia_ada"):
        for each in scaffold(planned(spec(name)), {}):
            first = each.body.splitlines()[0]
            assert first == first.lstrip()
            assert each.body.endswith("\n")
            assert "add_subdirectory" not in each.body
            assert each.body.count("{") == each.body.count("}")
            assert each.body.count("(") == each.body.count(")")
    gemmini = bodies(scaffold(planned(spec("gemmini")), {}))
    intrinsics = next(body for path, body in gemmini.items() if "Intrinsics" in path)
    assert 'TargetPrefix = "riscv"' in intrinsics
    driver = bodies(scaffold(planned(spec("nvidia_ada")), {}))["runtime/src/iree/hal/drivers/nvidia_ada/api.h"]
    assert '#include "iree/hal/api.h"' in driver
    assert "#ifndef MERLIN_TARGETGEN_NVIDIA_ADA_API_H_" in driver


def test_a_recipe_that_would_be_a_directory_too_is_refused() -> None:
    with pytest.raises(SpecInvalid, match="models would be a file and hold models/saturn_opu"):
        scaffold(planned(spec(), overlay(deployment__hardware_recipe="models")), {})
