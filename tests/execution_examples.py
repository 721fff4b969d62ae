"""What do the executions in the tests go through? A small plan, and adapters that can be read at a glance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from merlin_es.targetgen import answers
from merlin_es.targetgen.blueprint import Blueprint, store
from merlin_es.targetgen.bundle import ExecutionBundle, ExecutionTask, PromptBundle
from merlin_es.targetgen.executor import Executor, Limits, World
from merlin_es.targetgen.ports import Agent, Applied, Change, HeldLease, Ran, Reading, Worktree
from merlin_es.targetgen.target_dir import TargetDirectory, Who
from projections.execution_state import ExecutionState, TaskState
from tests.examples import unsynced

TARGET = "tiny"
GENERATED = f"build/generated/targetgen/{TARGET}"
GOOD = "Done.\n\nsrc/a.txt: all right\n"


def task(id_: str, *depends_on: str, number: int = 1, **fields: object) -> ExecutionTask:
    """Give a task of the plan: one that edits sources, unless `fields` say otherwise."""
    given: dict[str, object] = {
        "title": f"Do {id_}",
        "phase": "compiler",
        "family": "post_global_plugin",
        "write_scope": ("src/",),
        "mutation_policy": "merlin_local_edit",
        "validation_commands": ("check it",),
        "credential_requirements": "none",
        "repo_root": ".",
        "artifacts_in": ("spec.yaml",),
    }
    given |= fields
    prompt = PromptBundle("manualllm", "generic_contextual_edit", None, (), (), "do it")
    return ExecutionTask(
        id=id_,
        depends_on=depends_on,
        evidence=(),
        acceptance_checks=(),
        execution_adapter="merlin_local",
        artifacts_out=(),
        handoff_contract=(),
        tool_profile="generic_contextual_edit",
        prompt="do it",
        prompt_bundle=prompt,
        execution_state={},
        prompt_packet=f"prompt_{number:03}.md",
        response_packet=f"prompt_{number:03}.response.md",
        **given,  # type: ignore[arg-type]  # as the caller wrote them
    )


def shared(id_: str, *depends_on: str, number: int = 1, **fields: object) -> ExecutionTask:
    """Give a planning task, whose output is `<id>.json`."""
    given: dict[str, object] = {
        "phase": "planning",
        "family": "shared",
        "write_scope": (f"{GENERATED}/{id_}.json", "models/tiny.yaml (adopted later)"),
        "mutation_policy": "planner_generated_only",
    }
    return task(id_, *depends_on, number=number, **(given | fields))


def device(id_: str, *depends_on: str, number: int = 1, **fields: object) -> ExecutionTask:
    """Give a task that has to ask a device."""
    commands = ("check it", "# runtime verification gate: device_query")
    return task(
        id_, *depends_on, number=number, **({"family": "runtime_hal", "validation_commands": commands} | fields)
    )


def plan(*tasks: ExecutionTask, backend: str = "manualllm", prompts_dir: str | None = None) -> Blueprint:
    """Give a plan, with a packet and a brief for each task, and a document for each planning task."""
    packets = backend != "none"
    tasks = tuple(
        replace(each, prompt_packet=each.prompt_packet if packets else None) for each in tasks or small_tasks()
    )
    bundle = ExecutionBundle(
        target=TARGET,
        workflow="evidence_first_target_enablement",
        mode="agentic_contextual_edit",
        prompt_backend=backend,
        agent=None,
        prompts_dir=prompts_dir,
        provider_config={},
        tasks=tasks,
    )
    return Blueprint(
        bundle=bundle,
        briefs={f"{number:02}-{each.id}.md": f"# {each.title}\n" for number, each in enumerate(tasks, 1)},
        packets={each.prompt_packet: f"# Prompt: {each.title}\n" for each in tasks if each.prompt_packet},
        documents={f"{each.id}.json": '{"ok": true}\n' for each in tasks if each.family == "shared"},
        capability="spec.yaml",
    )


def small_tasks() -> tuple[ExecutionTask, ...]:
    """Give the small plan: review, build, and a last word; beside them a leaf."""
    return (
        shared("review", number=1),
        shared("leaf", "review", number=2),
        task("build", "review", number=3),
        shared("ladder", "build", number=4),
    )


class LineResponses:
    """Reads responses of which each line `path: text` is a whole file; `bad` anywhere is an error."""

    def read(self, path: Path, write_scope: Sequence[str]) -> Reading:
        text = path.read_text()
        pairs = [line.split(": ", 1) for line in text.splitlines() if ": " in line]
        outside = [name for name, _ in pairs if not name.startswith(tuple(write_scope))]
        errors = [f"line 1: {name} is outside of {', '.join(write_scope)}" for name in outside]
        if not text.strip() or "bad" in text:
            errors.append("line 1: that is no response")
        changes = tuple(Change(name, "whole", content + "\n") for name, content in pairs)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return Reading(" ".join(lines[:4])[:240], () if errors else changes, tuple(errors))


class DirectoryWorktrees:
    """Worktrees that are plain directories."""

    def prepare(self, repo_root: Path, branch: str, target_dir: Path) -> Worktree:  # noqa: ARG002  likewise
        path = target_dir / "mutation" / "worktree"
        kept = path.is_dir()
        path.mkdir(parents=True, exist_ok=True)
        return Worktree(path, branch, "0" * 40, kept)

    def apply(self, worktree: Worktree, repo_root: Path, workspace: Path, changes: Sequence[Change]) -> Applied:  # noqa: ARG002
        if any("conflict" in change.text for change in changes):
            return Applied(errors=("src/a.txt does not fit",))
        for change in changes:
            path = worktree.path / change.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(change.text)
        return Applied(tuple(f"A {change.path} (+1 -0)" for change in changes), None)


@dataclass
class ScriptedValidation:
    """Commands that end as they are told to, and say when they were run."""

    codes: list[int] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def run(self, command: str, cwd: Path, limit_s: float) -> Ran:  # noqa: ARG002  the port's signature
        self.ran.append(command)
        code = self.codes.pop(0) if self.codes else 0
        return Ran(("sh", "-c", command), code, 0.5, hashlib.sha256(command.encode()).hexdigest())


@dataclass
class ScriptedAgent:
    """An agent that writes what it is told to, or nothing."""

    says: str | None = GOOD
    command: str = "agent {prompt_file} {response_file}"
    ran: int = 0

    def run(self, prompt_file: Path, response_file: Path, limit_s: float) -> Ran:  # noqa: ARG002  likewise
        self.ran += 1
        assert prompt_file.is_file()
        if self.says is not None:
            response_file.write_text(self.says)
        return Ran(("agent",), 0 if self.says else 3, 1.0, hashlib.sha256(b"").hexdigest())


@dataclass
class Secrets:
    """The variables that are set."""

    names: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        return name in self.names


@dataclass
class Held:
    """The leases that the run holds, by key; None stands for any."""

    leases: Mapping[str | None, HeldLease] = field(default_factory=dict)

    def held(self, key: str | None) -> HeldLease | None:
        return self.leases.get(key)


class Desk:
    """One target directory with a plan in it, and everything that happens there in one process."""

    def __init__(self, top: Path, blueprint: Blueprint | None = None, *, agent: Agent | None = None) -> None:
        self.workspace = top
        top.mkdir(exist_ok=True)
        (top / "spec.yaml").write_text("name: tiny\n")
        self.path = top / "out" / TARGET
        self.validation = ScriptedValidation()
        self.secrets = Secrets()
        self.leases = Held()
        self.agent = agent
        self.blueprint = blueprint or plan()
        self.place = self.opened()
        self.orchestrate()

    def opened(self, actor: str = "ada@lab", run_id: str | None = None) -> TargetDirectory:
        """Open the directory as another process does."""
        return TargetDirectory(self.path, Who(actor, "cli", run_id), unsynced())

    def orchestrate(self, blueprint: Blueprint | None = None, *, reset: bool = False) -> ExecutionState:
        """Make the plan ready."""
        self.blueprint = blueprint or self.blueprint
        event = store(self.blueprint, self.place.blobs, self.path)
        self.place.change(lambda state: answers.prepare(event, state, reset=reset))
        return self.executor().deliver()

    def resume(self, blueprint: Blueprint) -> ExecutionState:
        """Take over a plan, as `execute CAPABILITY` does."""
        event = store(blueprint, self.place.blobs, self.path)
        self.place.change(lambda state: answers.resume(event, state))
        return self.execute()

    def execute(
        self, *, lease: str | None = None, retry: str | bool = False, reconsider: bool = False
    ) -> ExecutionState:
        """Execute, in a process of its own as it were."""
        self.place = self.opened()
        with self.place.executing():
            if retry:
                name = retry if isinstance(retry, str) else None
                self.place.change(lambda state: answers.retry(name, state, reconsider=reconsider))
            return self.executor().execute(lease)

    def executor(self) -> Executor:
        world = World(LineResponses(), DirectoryWorktrees(), self.validation, self.secrets, self.leases, self.agent)
        return Executor(self.place, world, self.workspace, Limits())

    def answer(self, request_id: str, choice: str, actor: str = "ada@lab") -> ExecutionState:
        """Answer, as somebody in another terminal does."""
        command = answers.AnswerRequest(request_id, choice)
        return self.opened(actor).change(lambda state: answers.answer(command, state))

    def respond(self, number: int, text: str = GOOD) -> Path:
        """Write the response to a packet."""
        path = self.path / "prompts" / f"prompt_{number:03}.response.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def statuses(self) -> dict[str, str]:
        """Give the status of every task."""
        return {task.id: task.status for task in self.state().tasks.values()}

    def state(self) -> ExecutionState:
        """Give the execution as its log has it."""
        return self.opened().state()

    def task(self, id_: str) -> TaskState:
        """Give one task."""
        return self.state().tasks[id_]

    def types(self) -> list[str]:
        """Give the types of all that happened."""
        stream = self.place.stream
        return [event.type for event in self.place.log.read(stream)] if stream else []


def through_the_gate(desk: Desk, number: int = 3, task_id: str = "build", text: str = GOOD) -> ExecutionState:
    """Take the small plan as far as an applied and validated proposal."""
    desk.execute()
    desk.respond(number, text)
    desk.execute()
    desk.answer(f"{task_id}-branch_gate", "apply_in_worktree")
    return desk.execute()
