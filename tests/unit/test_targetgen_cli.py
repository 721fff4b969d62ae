"""What does `merlin targetgen` print, write and refuse, for a user, a script and an attacker?"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from merlin_es.targetgen.documents import dumps
from merlin_es.targetgen.inputs import EXAMPLES
from tests.examples import ROOT
from tests.targetgen_data import overlay, spec
from tests.targetgen_shell import Typed, tree, typed_in

FIRESIM = ("--example", "saturn_opu", "--overlay", "firesim")
VERBS = ("validate", "plan", "generate", "explain", "orchestrate", "stage-mutation")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return typed_in(tmp_path, monkeypatch, capsys)


def below(top: Path, name: str = "saturn_opu") -> Path:
    return top / "build" / "generated" / "targetgen" / name


def put(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(document))
    return path


def test_each_verb_prints_the_lines_of_the_contract(typed: Typed, tmp_path: Path) -> None:
    out = below(tmp_path)
    expected = {
        "validate": ["Validated capability spec: saturn_opu", "Validated deployment overlay: firesim"],
        "plan": [
            "Planned target: saturn_opu",
            "Primary integration: llvm_ukernel",
            "Task count: 5",
            f"Output directory: {out}",
        ],
        "generate": [
            "Generated target scaffold: saturn_opu",
            "Primary integration: llvm_ukernel",
            "Generated scaffold files: 6",
            f"Generated root: {out}/generated/tree",
            f"Generation summary: {out}/generation_summary.md",
            f"Output directory: {out}",
        ],
        "orchestrate": [
            "Prepared execution bundle for: saturn_opu",
            "Workflow: evidence_first_target_enablement",
            "Prompt backend: manualllm",
            "Brief count: 5",
            f"Execution state file: {out}/execution_state.json",
            "Prompt packet count: 5",
            f"Prompts directory: {out}/prompts",
            f"Output directory: {out}",
        ],
        "stage-mutation": [
            "Staged mutation bundle for: saturn_opu",
            "Mode: non-live",
            "Mutation candidates: 4",
            "Proposed branch: targetgen/saturn_opu-staged",
            f"Proposed tree: {out}/mutation/proposed_tree",
            f"Proposal brief: {out}/mutation/proposal_brief.md",
            f"Target directory: {out}",
        ],
    }
    shortened = {"generate": [2, 3, 4], "stage-mutation": [2, 3, 4, 5]}
    for verb, lines in expected.items():
        rehearsed = typed("--dry-run", verb, *FIRESIM)
        kept = [line for number, line in enumerate(lines) if number not in shortened.get(verb, [])]
        assert (rehearsed.code, rehearsed.out.splitlines()) == (0, kept)
        assert verb == "plan" or not out.exists() or verb != "validate"
        done = typed(verb, *FIRESIM)
        assert (done.code, done.out.splitlines()) == (0, lines)


def test_a_rehearsal_writes_nothing(typed: Typed, tmp_path: Path) -> None:
    for verb in VERBS:
        assert typed("--dry-run", verb, *FIRESIM).code == 0
    assert tree(tmp_path) == {}


def test_explain_is_a_page_with_eleven_facts_and_two_lists(typed: Typed) -> None:
    lines = typed("explain", "--example", "gemmini").out.splitlines()
    assert [line.partition(":")[0] for line in lines[:11]] == [
        "Target",
        "Vendor",
        "Maturity",
        "Access model",
        "SDK requirements",
        "Credential requirements",
        "Families",
        "Integrations",
        "Primary integration",
        "Required layers",
        "Deployment overlay",
    ]
    assert lines[0] == "Target: Gemmini 16x16 (gemmini)"
    assert lines[7] == "Integrations: post_global_plugin, llvm_ukernel"
    assert (lines[10], lines[11], lines[12]) == ("Deployment overlay: none", "", "Derived artifacts:")
    assert lines[-6:-4] == ["Planned task order:", "- Review the capability spec [shared]"]


def test_each_verb_has_its_result_as_json(typed: Typed) -> None:
    found = {verb: json.loads(typed(verb, *FIRESIM, "-o", "json").out) for verb in VERBS}
    assert all(each["target"] == "saturn_opu" for each in found.values())
    assert found["validate"]["overlay"] == "firesim"
    assert found["validate"]["missing_paths"] == ["docs/hardware_backends/overview.md", "models/saturn_opu.yaml"]
    assert found["plan"]["task_count"] == 5
    assert found["orchestrate"]["prompt_packet_count"] == 5
    assert found["stage-mutation"]["mutation_candidates"] == 4
    assert [each["id"] for each in found["explain"]["tasks"]] == found["explain"]["task_node_ids"]


def test_a_spec_is_planned_from_a_path_as_from_its_name(typed: Typed, tmp_path: Path) -> None:
    assert typed("plan", "--example", "nvidia_ada").code == 0
    by_name = tree(below(tmp_path, "nvidia_ada"))
    path = EXAMPLES / "nvidia_ada" / "capability.yaml"
    assert typed("plan", path, "--out-dir", tmp_path / "o").code == 0
    by_path = tree(tmp_path / "o" / "nvidia_ada")
    assert by_name.keys() == by_path.keys()
    assert by_name["support_plan.json"] == by_path["support_plan.json"]
    assert b'"merlin_es/targetgen/examples/nvidia_ada/capability.yaml"' in by_name["task_graph.json"]


def test_a_path_is_recorded_as_it_was_typed(typed: Typed, tmp_path: Path) -> None:
    put(tmp_path / "s" / "c.yaml", spec())
    put(tmp_path / "o.yaml", overlay())
    assert typed("plan", "./s/c.yaml", "--overlay", "o.yaml").code == 0
    graph = json.loads((below(tmp_path) / "task_graph.json").read_text())
    assert graph[0]["artifacts_in"] == ["./s/c.yaml", "o.yaml"]


def test_what_is_wrong_comes_as_lines_and_exit_code_2(typed: Typed, tmp_path: Path) -> None:
    put(tmp_path / "c.yaml", spec(target__name="../x", isa__exposure__kind="magic"))
    for verb in VERBS:
        done = typed(verb, "c.yaml")
        assert (done.code, done.out) == (2, "")
        first, *errors = done.err.splitlines()
        assert first == "merlin: c.yaml failed validation:"
        assert [error.partition(":")[0] for error in errors] == [
            "- target.name",
            "- isa.exposure.kind",
            "  why",
            "  next",
        ]
    assert list(tree(tmp_path)) == ["c.yaml"]


def test_a_spec_that_is_not_given_or_not_there_is_an_error_that_says_what_to_do(typed: Typed, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4\n")
    for words, code, part in (
        ((), 2, "--example with one of gemmini"),
        (("c.yaml", "--example", "gemmini"), 2, "give one of them"),
        (("--example", "abacus"), 3, "give one of gemmini"),
        (("none.yaml",), 2, "No such file"),
        (("pipe",), 2, "pipe is no file"),
        (("latin.yaml",), 2, "latin.yaml: it is not UTF-8"),
        ((tmp_path,), 2, "is no file"),
        (("--example", "gemmini", "--overlay", "none"), 2, "none cannot be read"),
        (("--example", "gemmini", "--overlay", ""), 2, "is no path"),
    ):
        for verb in ("validate", "plan"):
            done = typed(verb, *words)
            assert (done.code, done.out) == (code, ""), done
            assert part in done.err
    assert typed("orchestrate", "--example", "gemmini", "--prompt-backend", "robot").code == 2
    assert typed("plan", "--example", "gemmini", "--out-dir", "").code == 2


def test_notes_go_to_people_and_never_into_the_result(typed: Typed, tmp_path: Path) -> None:
    put(tmp_path / "c.yaml", spec(execution_model__compiler_recovery_stage="text_isa_export"))
    done = typed("validate", "c.yaml")
    assert done.out == "Validated capability spec: saturn_opu\n"
    assert "note: execution_model.compiler_recovery_stage is text_isa_export" in done.err
    assert "note: not in this workspace: docs/hardware_backends/overview.md" in done.err


def test_without_its_overlay_a_plan_has_no_file_of_it_any_more(typed: Typed, tmp_path: Path) -> None:
    typed("stage-mutation", *FIRESIM)
    assert {"deployment_view.yaml", "inputs/overlay.yaml"} <= tree(below(tmp_path)).keys()
    typed("stage-mutation", "--example", "saturn_opu")
    left = tree(below(tmp_path)).keys()
    assert not {"deployment_view.yaml", "inputs/overlay.yaml"} & left
    assert not any("build_tools" in name for name in left)


def test_files_of_an_earlier_spec_go_unless_somebody_has_edited_them(typed: Typed, tmp_path: Path) -> None:
    put(tmp_path / "c.yaml", spec(execution_model__compiler_recovery_stage="post_global_optimization"))
    typed("stage-mutation", "c.yaml")
    here = below(tmp_path)
    plugin = "compiler/plugins/target/SaturnOpu"
    edited = here / "generated" / "tree" / plugin / "Options.h"
    edited.write_text(edited.read_text() + "// mine\n")
    stranger = here / "generated" / "tree" / "notes.txt"
    stranger.write_text("mine")
    put(tmp_path / "c.yaml", spec())
    done = typed("stage-mutation", "c.yaml")
    left = tree(here)
    assert f"generated/tree/{plugin}/Options.h is of an earlier spec and was edited" in done.err
    assert [name for name in left if plugin in name] == [f"generated/tree/{plugin}/Options.h"]
    assert stranger.exists()
    assert not (here / "mutation" / "proposed_tree" / "compiler").exists(), "empty directories go too"


def test_a_bundle_that_somebody_forged_makes_nothing_disappear_elsewhere(typed: Typed, tmp_path: Path) -> None:
    typed("generate", *FIRESIM)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    put(
        below(tmp_path) / "generation_bundle.json",
        {"files": [{"repo_path": "../../../../../../victim", "sha256": None}, 3, {"repo_path": 4}]},
    )
    assert typed("generate", *FIRESIM).code == 0
    assert victim.read_text() == "mine"


def test_a_link_in_a_target_directory_leads_nobody_out_of_it(typed: Typed, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    below(tmp_path).mkdir(parents=True)
    (below(tmp_path) / "generated").symlink_to(outside)
    done = typed("generate", *FIRESIM)
    assert (done.code, done.out) == (4, "")
    assert "remove the link that leads there" in done.err
    assert tree(outside) == {}


def test_what_has_not_changed_is_not_written_again(typed: Typed, tmp_path: Path) -> None:
    typed("stage-mutation", *FIRESIM)
    before = {path: path.stat().st_ino for path in below(tmp_path).rglob("*") if path.is_file()}
    (below(tmp_path) / "compile_view.yaml").write_text("torn")
    typed("stage-mutation", *FIRESIM)
    after = {path: path.stat().st_ino for path in below(tmp_path).rglob("*") if path.is_file()}
    assert {path.name for path, inode in after.items() if before[path] != inode} == {"compile_view.yaml"}


def test_a_proposal_is_staged_from_what_a_directory_was_made_from(typed: Typed, tmp_path: Path) -> None:
    assert typed("stage-mutation", "--from-dir", "empty").code == 2
    typed("generate", *FIRESIM)
    moved = below(tmp_path).rename(tmp_path / "moved")
    done = typed("stage-mutation", "--from-dir", "moved")
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"Target directory: {moved}"
    assert (moved / "mutation" / "mutation_bundle.json").is_file()
    assert not below(tmp_path).exists(), "it is written where it was read"
    graph = json.loads((moved / "task_graph.json").read_text())
    assert graph[0]["artifacts_in"] == [f"{moved}/inputs/capability.yaml", f"{moved}/inputs/overlay.yaml"]


def test_prompts_lie_where_they_were_asked_for(typed: Typed, tmp_path: Path) -> None:
    assert typed("orchestrate", *FIRESIM, "--prompts-dir", "p").code == 0
    assert len(tree(tmp_path / "p")) == 5
    assert not (below(tmp_path) / "prompts").exists()
    bundle = json.loads((below(tmp_path) / "execution_bundle.json").read_text())
    assert bundle["prompts_dir"] == str(tmp_path / "p")


def test_an_execution_that_has_begun_is_not_begun_again(typed: Typed, tmp_path: Path) -> None:
    typed("orchestrate", *FIRESIM)
    assert typed("orchestrate", "--example", "saturn_opu").code == 0, "nothing is lost: every task is planned"
    typed("execute", "--from-dir", below(tmp_path))
    before = tree(below(tmp_path))
    done = typed("orchestrate", *FIRESIM)
    assert (done.code, done.out) == (4, "")
    assert "has progress" in done.err
    assert tree(below(tmp_path)) == before


def test_an_agent_that_is_configured_is_written_down_without_its_secrets(typed: Typed, tmp_path: Path) -> None:
    put(tmp_path / "projects" / "mlirAgent" / "configs" / "agents" / "ada.yaml", {"model": "m", "api_key": "s"})
    assert typed("orchestrate", *FIRESIM, "--prompt-backend", "provider", "--agent", "ada").code == 0
    assert json.loads((below(tmp_path) / "provider_backend.json").read_text()) == {"model": "m"}
    bundle = json.loads((below(tmp_path) / "execution_bundle.json").read_text())
    assert (bundle["agent"], bundle["provider_config"]) == ("ada", {"model": "m"})


def test_the_layers_beside_a_spec_reach_its_prompts(typed: Typed, tmp_path: Path) -> None:
    put(tmp_path / "s" / "c.yaml", spec())
    layer = tmp_path / "s" / "prompts" / "target"
    layer.mkdir(parents=True)
    (layer / "10.md").write_text("---\nsection: target_facts\n---\nBuilt for {{ target.vendor }}.\n")
    assert typed("orchestrate", "s/c.yaml").code == 0
    bundle = json.loads((below(tmp_path) / "execution_bundle.json").read_text())
    assert all("Built for UC Berkeley." in task["prompt"] for task in bundle["tasks"])
    assert "s/prompts/target/10.md" in bundle["tasks"][0]["prompt_bundle"]["sections"][2]["sources"]
    (layer / "10.md").write_text("---\nsection: target_facts\n---\n{{ target.__class__ }}\n")
    refused = typed("orchestrate", "s/c.yaml", "--out-dir", "o")
    assert refused.code == 2
    assert refused.err.startswith("merlin: s/prompts/target/10.md: ")
    assert not (tmp_path / "o").exists()


def test_what_people_wrote_in_the_workspace_is_kept_in_what_is_generated(typed: Typed, tmp_path: Path) -> None:
    handwritten = tmp_path / "models" / "saturn_opu.yaml"
    handwritten.parent.mkdir()
    handwritten.write_text("mine: 1\n")
    typed("generate", *FIRESIM)
    staged = below(tmp_path) / "generated" / "tree" / "models" / "saturn_opu.yaml"
    assert staged.read_text().startswith("mine: 1\n\n# what targetgen derives")
    assert handwritten.read_text() == "mine: 1\n"


def test_every_file_is_whole_and_readable_by_others(typed: Typed, tmp_path: Path) -> None:
    typed("generate", *FIRESIM)
    for path in below(tmp_path).rglob("*"):
        assert not path.name.startswith("."), "no half-written file is left"
        if path.is_file():
            assert path.read_bytes().endswith(b"\n")
            assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444


def test_a_plan_is_made_without_what_only_prompts_and_events_need(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "merlin_es", "targetgen", "plan", *FIRESIM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "merlin_es.targetgen.planning" in imported
    assert not imported & {"pydantic", "jinja2", "ray", "rich", "watchfiles", "http.client", "merlin_es.app"}


def test_the_data_of_the_package_is_in_what_is_installed() -> None:
    """The builder takes every file of a package that is not ignored, and leaves out nothing else."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["eventlog", "projections", "merlin_es"]}
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    data = [path.relative_to(ROOT) for kind in ("*.md", "*.yaml") for path in (ROOT / "merlin_es").rglob(kind)]
    assert len(data) > 4 * 3
    assert not [path for path in data for part in path.parts if any(fnmatch(part, pattern) for pattern in ignored)]
