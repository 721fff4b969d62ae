"""Are plans carried out on the real Ray, from a spec to the end, with a run for each stretch between two questions?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import eventlog
from merlin_es import bootstrap
from merlin_es.targetgen import inputs
from merlin_es.targetgen.scopes import filled
from projections.layout import TargetLayout
from tests.conftest import Figure
from tests.e2e.lab import LIMIT_S, Lab
from tests.targetgen_data import example_names, example_paths, needs_shared

pytestmark = pytest.mark.xdist_group("ray")

ANSWERS = {"credential": "credential_ready", "device": "device_available", "branch_gate": "apply_in_worktree"}
ROUNDS_MAX = 8
CHECK = "from pathlib import Path\n\n\ndef test_it():\n    assert list(Path().rglob('NOTES.md'))\n"
BUILD = "import sys\n\nprint('built', *sys.argv[1:])\n"


class Workshop:
    """A user's repository, in which plans are carried out by runs of a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.top = lab.work
        files = {"tests/targetgen/test_targetgen.py": CHECK, "tools/merlin.py": BUILD, ".gitignore": "/build/\n"}
        files["third_party/iree_bar/third_party/llvm-project/README"] = "part of the same repository\n"
        for name, text in files.items():
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(text)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("-c", "user.name=ada", "-c", "user.email=a@b", "commit", "-qm", "first")

    def git(self, *words: str) -> str:
        return subprocess.run(["git", *words], cwd=self.top, capture_output=True, text=True, check=True).stdout

    def directory(self, target: str) -> Path:
        return self.top / "build/generated/targetgen" / target

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Begin `merlin targetgen …` as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "merlin_es", "targetgen", *words],
            cwd=self.top,
            env={**self.lab.environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def merlin(self, *words: str, code: int = 0, **variables: str) -> str:
        """Run `merlin targetgen …`; gives what it printed."""
        return ended(self.start(*words, **variables), code)

    def on_ray(self, *words: str) -> subprocess.Popen[str]:
        return self.start("execute", "--engine", "ray", "--ray-state-root", str(self.lab.root), "-o", "json", *words)

    def state(self, target: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory(target) / "execution_state.json").read_text())
        return content

    def events(self, target: str) -> list[eventlog.Event]:
        layout = TargetLayout(self.directory(target))
        stream = layout.stream()
        assert stream
        return list(eventlog.FileLog(layout).read(stream))

    def respond(self, target: str) -> None:
        """Answer all prompts before anybody has asked."""
        bundle = json.loads((self.directory(target) / "execution_bundle.json").read_text())
        for task in bundle["tasks"]:
            if task["mutation_policy"] != "planner_generated_only":
                scope = next(path for path in filled(task["write_scope"], target) if path.endswith("/"))
                text = f"Done.\n\n```markdown path={scope}NOTES.md\n# {task['id']}\n```\n"
                (self.directory(target) / "prompts" / task["response_packet"]).write_text(text)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    return out


@pytest.fixture
def workshop(lab: Lab) -> Workshop:
    return Workshop(lab)


def lines(text: str) -> Mapping[str, str]:
    return dict(line.partition(": ")[::2] for line in text.splitlines() if ": " in line)


def shipped() -> list[tuple[str, ...]]:
    """Give the specs that come with Merlin, as one types them."""
    return [("--example", name) for name in inputs.example_names()]


def of_others() -> list[tuple[str, ...]]:
    """Give the real specs beside the checkout, each with its overlay."""
    paths = [example_paths(name) for name in example_names()]
    return [(str(capability), "--overlay", str(overlay)) for capability, overlay in paths]


@pytest.mark.parametrize("specs", [shipped, pytest.param(of_others, marks=needs_shared)])
def test_every_real_target_is_carried_out_by_runs_on_ray(
    workshop: Workshop, figure: Figure, specs: Callable[[], list[tuple[str, ...]]]
) -> None:
    lab, before = workshop.lab, workshop.git("status", "--porcelain", "--branch")
    prepared = [workshop.start("orchestrate", *words, "-o", "json") for words in specs()]
    targets = {json.loads(ended(each))["target"]: "" for each in prepared}
    for target in targets:
        workshop.respond(target)
    runs, open_ones = 0, dict(targets)
    for _ in range(ROUNDS_MAX):
        submitting = {
            target: workshop.on_ray(
                *("--from-dir", str(workshop.directory(target))),
                *("--validate", f'{task}=test -f "$(find . -name NOTES.md | head -1)" && echo proved')
                if (task := open_ones[target].partition("-")[0])
                else ("--prompt-backend", "manualllm"),
            )
            for target in open_ones
        }
        submitted = {target: json.loads(ended(each)) for target, each in submitting.items()}
        runs += len(submitted)
        for target, document in submitted.items():
            record = lab.ended(document["run_id"])
            assert (record.status, record.exit_code) == ("completed", 0), record.message
            state = workshop.state(target)
            if state["outcome"] == "completed":
                del open_ones[target]
                assert record.message is None
                continue
            question = open_ones[target] = state["open_question_id"]
            assert f"it stopped to ask {question}" in (record.message or "")
            choice = ANSWERS[question.rpartition("-")[2]]
            where = ("--target-dir", str(workshop.directory(target)))
            workshop.merlin("answer", *where, "--question-id", question, "--choice", choice)
        if not open_ones:
            break
    assert open_ones == {}
    for target in targets:
        events = workshop.events(target)
        made = [event for event in events if event.type == "task.completed"]
        assert {(event.actor, event.door) for event in made} == {("ada@lab", "job")}
        assert all(event.corr and event.corr.startswith(f"{target}-") for event in made)
        checks = [event.data for event in events if event.type == "validation.ended"]
        assert checks
        assert all(check["passed"] for check in checks)
        assert len({event.key or event.seq for event in events}) == len(events)
    assert workshop.git("status", "--porcelain", "--branch") == before
    figure(f"{len(targets)} targets from spec to completed in {runs} runs")


def test_a_run_says_which_question_it_waits_at(workshop: Workshop) -> None:
    lab = workshop.lab
    asked = workshop.merlin(
        *("execute", "--example", "nvidia_ada", "--engine", "ray", "--ray-state-root", str(lab.root))
    )
    said = lines(asked)
    target = said["Submitted target"]
    directory = workshop.directory(target)
    assert list(said) == [
        *("Submitted target", "Engine", "Run ID", "Run status", "Submission ID", "Target directory", "Ray state root")
    ]
    assert said["Run status"] == "submitted"
    record = lab.ended(said["Run ID"])
    request = record.request
    assert (request.workflow, request.source) == ("targetgen_execute", "targetgen_execute")
    assert dict(request.metadata) == {
        "prompt_backend": "manualllm",
        "workflow": "evidence_first_target_enablement",
    }
    assert request.command == (
        *(sys.executable, "-m", "merlin_es", "targetgen", "execute", "--engine", "local"),
        *("--from-dir", str(directory), "--resume"),
    )
    status = lines(lab.cli("jobs", "status", record.run_id).stdout)
    assert status["Status"] == "completed"
    assert status["Execution"] == "awaiting_operator"
    assert status["Open question"] == "implement_runtime_hal-device"
    assert "merlin targetgen execute --engine ray" in status["Message"]
    assert "Open question: implement_runtime_hal-device" in lab.cli("jobs", "logs", record.run_id).stdout
    known = json.loads(lab.cli("jobs", "status", record.run_id, "-o", "json").stdout)
    assert known["execution"]["open_questions"] == ["implement_runtime_hal-device"]
    workshop.merlin(
        *("answer", "--target-dir", str(directory), "--question-id", "implement_runtime_hal-device"),
        *("--choice", "device_unavailable"),
    )
    blocked = lab.ended(json.loads(ended(workshop.on_ray("--from-dir", str(directory))))["run_id"])
    assert (blocked.status, blocked.exit_code) == ("failed", 5)
    assert "implement_runtime_hal was blocked: device_unavailable was answered" in (blocked.message or "")


def test_without_ray_the_run_is_blocked_and_says_what_to_do(alone: Lab) -> None:
    workshop = Workshop(alone)
    where = ("execute", "--example", "saturn_opu", "--engine", "ray", "--ray-state-root", str(alone.root))
    said = lines(workshop.merlin(*where, code=5))
    assert said["Run status"] == "blocked"
    assert "merlin ray cluster start-local" in said["Message"]
    command = alone.record_file(said["Run ID"])["command"]
    assert command[command.index("--engine") + 1] == "local"
    state = workshop.state(said["Submitted target"])
    assert {task["status"] for task in state["tasks"].values()} == {"planned"}
    assert (workshop.directory(said["Submitted target"]) / "prompts").is_dir()


def test_a_launcher_and_options_are_handed_on_to_the_job(alone: Lab) -> None:
    workshop = Workshop(alone)
    where = ("execute", "--example", "saturn_opu", "--engine", "ray", "--ray-state-root", str(alone.root))
    said = lines(workshop.merlin(*where, "--validation-limit", "9", code=5, MERLIN_LAUNCHER="uv run"))
    command = alone.record_file(said["Run ID"])["command"]
    assert command[:4] == ["uv", "run", "tools/merlin.py", "targetgen"]
    assert command[-2:] == ["--validation-limit", "9"]
    bin_, envs = alone.top / "conda/bin", alone.top / "conda/envs/merlin-dev"
    bin_.mkdir(parents=True)
    envs.mkdir(parents=True)
    (bin_ / "conda").write_text("#!/bin/sh\n")
    (bin_ / "conda").chmod(0o755)
    said = lines(workshop.merlin(*where, code=5, PATH=f"{bin_}:{os.environ['PATH']}"))
    directory = workshop.directory(said["Submitted target"])
    seed = "conda run -n merlin-dev uv run tools/merlin.py targetgen execute --engine local --from-dir"
    assert alone.record_file(said["Run ID"])["command"] == [*seed.split(), str(directory), "--resume"]


def test_a_dry_run_leaves_the_target_directory_alone_and_records_what_would_be_run(alone: Lab) -> None:
    workshop = Workshop(alone)
    root = ("--ray-state-root", str(alone.root))
    said = lines(workshop.merlin("--dry-run", "execute", "--example", "gemmini", "--engine", "ray", *root))
    assert said["Run status"] == "dry_run"
    assert not workshop.directory(said["Submitted target"]).exists()
    assert bootstrap.build(alone.settings).ledger.run(said["Run ID"]).status == "dry_run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "slurm"), "there is no engine 'slurm'"),
        (("--launcher", " "), "--launcher is empty"),
        (("--validate", "x"), "is not TASK=CMD"),
        (("--engine", "ray", "--ray-state-root", ""), "it is empty"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(alone: Lab, words: tuple[str, ...], message: str) -> None:
    workshop = Workshop(alone)
    process = workshop.start("execute", "--example", "gemmini", *words)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert message in err
    assert not (workshop.top / "build").exists()
