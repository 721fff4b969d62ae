"""How does a plan become something to execute? A bundle, a brief for whoever watches, a packet for whoever works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from merlin_es.errors import Usage
from merlin_es.targetgen import planning
from merlin_es.targetgen.bundle import MODE, WORKFLOW, ExecutionBundle, ExecutionTask, PromptBundle
from merlin_es.targetgen.capability import Capability, Deployment
from merlin_es.targetgen.fragments import Fragment
from merlin_es.targetgen.initial_state import task_state
from merlin_es.targetgen.names import is_name
from merlin_es.targetgen.prompts import Asking, known_to_all, markdown, prompt_of
from merlin_es.targetgen.tasks import TaskNode

BACKENDS: Final = ("none", "manualllm", "provider")
DEFAULT_AGENT: Final = "codex"


class Prepared(NamedTuple):
    """A bundle, and its briefs and packets by the names of their files in `briefs/` and in the prompts directory."""

    bundle: ExecutionBundle
    briefs: Mapping[str, str]
    packets: Mapping[str, str]


def prepare(
    capability: Capability,
    overlay: Deployment | None,
    backend: str,
    agent: str | None,
    prompts_dir: str | None,
    target_dir: str,
    *,
    fragments: Sequence[Fragment] = (),
    provider_config: Mapping[str, Any] | None = None,
) -> Prepared:
    """Prepare the execution of a target in `target_dir`; without `prompts_dir` its prompts lie below that.

    The same arguments always give the same bytes. Raises Usage and PromptInvalid.
    """
    asking = asking_for(backend, agent)
    plan = planning.plan(capability, overlay)
    known = known_to_all(plan)
    bundle = ExecutionBundle(
        target=plan.target,
        workflow=WORKFLOW,
        mode=MODE,
        prompt_backend=backend,
        agent=asking.agent,
        prompts_dir=None if backend == "none" else prompts_dir or f"{target_dir}/prompts",
        provider_config=without_secrets(provider_config or {}) if backend == "provider" else {},
        tasks=tuple(
            _task(number, task, prompt_of(task, plan, fragments, asking, known))
            for number, task in enumerate(plan.tasks, 1)
        ),
    )
    return Prepared(bundle, briefs(bundle), packets(bundle))


def asking_for(backend: str, agent: str | None) -> Asking:
    """Return who reads the prompts; raises Usage when that is nobody we know."""
    if backend not in BACKENDS:
        raise Usage(f"there is no prompt backend {backend!r}: give {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    if agent is not None and not is_name(agent):
        raise Usage(f"{agent!r} cannot be the name of an agent: use letters, digits, '.', '_' and '-'")
    return Asking(backend, agent or (DEFAULT_AGENT if backend == "provider" else None))


def briefs(bundle: ExecutionBundle) -> Mapping[str, str]:
    """Return a page about each task, by the name of its file."""
    return {f"{number:02}-{task.id}.md": _brief(task) for number, task in enumerate(bundle.tasks, 1)}


def packets(bundle: ExecutionBundle) -> Mapping[str, str]:
    """Return what each task's agent is given, by the name of its file."""
    return {
        task.prompt_packet: _packet(bundle, number, task)
        for number, task in enumerate(bundle.tasks, 1)
        if task.prompt_packet
    }


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without anything that sounds like a secret, however deep it lies."""
    return {str(key): _cleaned(value) for key, value in config.items() if not _is_secret(str(key))}


def _task(number: int, task: TaskNode, prompt: PromptBundle) -> ExecutionTask:
    has_packets = prompt.backend != "none"
    return ExecutionTask(
        id=task.id,
        title=task.title,
        phase=task.phase,
        family=task.family,
        depends_on=task.depends_on,
        evidence=task.evidence,
        write_scope=task.write_scope,
        acceptance_checks=task.acceptance_checks,
        repo_root=task.repo_root,
        execution_adapter=task.execution_adapter,
        mutation_policy=task.mutation_policy,
        artifacts_in=task.artifacts_in,
        artifacts_out=task.artifacts_out,
        validation_commands=task.validation_commands,
        credential_requirements=task.credential_requirements,
        handoff_contract=task.handoff_contract,
        tool_profile=prompt.tool_profile,
        prompt=prompt.flattened_prompt,
        prompt_bundle=prompt,
        execution_state=task_state(task),
        prompt_packet=f"prompt_{number:03}.md" if has_packets else None,
        response_packet=f"prompt_{number:03}.response.md" if has_packets else None,
    )


def _brief(task: ExecutionTask) -> str:
    about = {
        "Task ID": task.id,
        "Phase": task.phase,
        "Family": task.family,
        "Tool Profile": task.tool_profile,
        "Prompt Backend": task.prompt_bundle.backend,
        "Execution Adapter": task.execution_adapter,
        "Repo Root": task.repo_root,
        "Mutation Policy": task.mutation_policy,
        "Prompt Packet": task.prompt_packet,
        "Response Packet": task.response_packet,
    }
    return markdown(task.title, about, task.prompt_bundle.sections)


def _packet(bundle: ExecutionBundle, number: int, task: ExecutionTask) -> str:
    about = {
        "Target": bundle.target,
        "Task ID": task.id,
        "Phase": task.phase,
        "Family": task.family,
        "Tool Profile": task.tool_profile,
        "Prompt Backend": bundle.prompt_backend,
        "Execution Adapter": task.execution_adapter,
        "Repo Root": task.repo_root,
        "Expected Response File": task.response_packet,
        "Agent": bundle.agent,
    }
    return markdown(f"TargetGen Task {number:03}: {task.title}", about, task.prompt_bundle.sections)


def _cleaned(value: object) -> object:
    if isinstance(value, dict):
        return without_secrets(value)
    return [_cleaned(each) for each in value] if isinstance(value, list) else value


def _is_secret(key: str) -> bool:
    plain = key.lower().replace("-", "_")
    return any(
        word in plain for word in ("key", "token", "secret", "password", "passwd", "credential", "authorization")
    )
