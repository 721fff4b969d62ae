"""What is a task's prompt? Layer upon layer of fragments, from what holds for every task to what holds here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from merlin_es.targetgen.bundle import PromptBundle, PromptFragment, PromptSection
from merlin_es.targetgen.fragments import HEADINGS, Fragment
from merlin_es.targetgen.planning import Plan
from merlin_es.targetgen.tasks import TaskNode
from merlin_es.targetgen.templates import render

_MLIR_FAMILIES = ("post_global_plugin", "structured_text_isa")


@dataclass(frozen=True)
class Asking:
    """Who is going to read the prompts."""

    backend: str
    agent: str | None


@dataclass
class _Section:
    """A section while fragments are added to it."""

    chunks: list[tuple[str, str]] = field(default_factory=list)
    """Source and text, in the order in which they will be read."""

    def add(self, merge: str, source: str, text: str) -> None:
        if merge == "replace":
            self.chunks = [(source, text)]
        else:
            self.chunks.insert(0 if merge == "prepend" else len(self.chunks), (source, text))


def prompt_of(
    task: TaskNode, plan: Plan, fragments: Sequence[Fragment], asking: Asking, known: Mapping[str, object]
) -> PromptBundle:
    """Return the prompt of one task; `fragments` are all that there are, `known` is what every task's templates see."""
    profile = tool_profile(task.family)
    data, facts = {**known, **_data(task, asking, profile)}, _facts(task, plan, asking, profile)
    sections: dict[str, _Section] = {name: _Section() for name in HEADINGS}
    applied = []
    for each in _layered(task, plan, fragments):
        text = render(each.body, data, each.source).strip() if each.is_for(facts) else ""
        if text:
            sections[each.section].add(each.merge, each.source, text)
            applied.append(PromptFragment(each.source, each.scope, each.section, each.merge))
    made = tuple(_section(name, section) for name, section in sections.items() if section.chunks)
    about = {"Task ID": task.id, "Phase": task.phase, "Family": task.family}
    flat = markdown(task.title, {**about, "Tool Profile": profile, "Prompt Backend": asking.backend}, made)
    return PromptBundle(asking.backend, profile, asking.agent, made, tuple(applied), flat)


def tool_profile(family: str) -> str:
    """Return which kind of agent a family of tasks wants."""
    return "mlir_agent" if family in _MLIR_FAMILIES else "generic_contextual_edit"


def markdown(title: str, about: Mapping[str, str | None], sections: Iterable[PromptSection]) -> str:
    """Return a text with a title, what it is about, and its sections."""
    lines = [f"# {title}", "", *(f"- **{name}:** {value}" for name, value in about.items() if value), ""]
    for section in sections:
        lines += [f"## {section.heading}", section.content, ""]
    return "\n".join(lines).rstrip() + "\n"


def _layered(task: TaskNode, plan: Plan, fragments: Sequence[Fragment]) -> list[Fragment]:
    """Return the fragments for a task, the general before the special, each layer in its own order."""
    deployment = plan.capability.deployment
    scopes = ["base", f"family:{task.family}", f"phase:{task.phase}", f"task:{task.id}", "target"]
    if deployment:
        scopes.append(f"overlay:{deployment.name}")
    return [each for scope in scopes for each in fragments if each.scope == scope]


def _section(name: str, section: _Section) -> PromptSection:
    content = "\n\n".join(text for _source, text in section.chunks)
    return PromptSection(name, HEADINGS[name], content, tuple(source for source, _text in section.chunks))


def _facts(task: TaskNode, plan: Plan, asking: Asking, profile: str) -> Mapping[str, tuple[str, ...]]:
    deployment = plan.capability.deployment
    return {
        "families": (task.family,),
        "phases": (task.phase,),
        "task_ids": (task.id,),
        "targets": (plan.target,),
        "deployment_profiles": (deployment.name,) if deployment else (),
        "prompt_backends": (asking.backend,),
        "tool_profiles": (profile,),
        "integration_styles": plan.classification.styles,
    }


def known_to_all(plan: Plan) -> Mapping[str, object]:
    """Return what the templates of every task see: texts, numbers, lists and mappings."""
    capabilities = asdict(plan.capability)
    sections = ("platform", "execution", "isa", "operations", "tiles", "memory", "numeric", "runtime", "verification")
    return {
        "target": capabilities["identity"],
        **{name: capabilities[name] for name in sections},
        "deployment": capabilities["deployment"],
        "capabilities": capabilities,
        "support_plan": asdict(plan.support),
        "prompt_section_order": list(HEADINGS),
        "contradictions": list(plan.notes),
    }


def _data(task: TaskNode, asking: Asking, profile: str) -> Mapping[str, object]:
    return {
        "task": asdict(task),
        "task_actions": list(task.actions),
        "task_evidence": [asdict(each) for each in task.evidence],
        "task_write_scope": list(task.write_scope),
        "task_acceptance_checks": list(task.acceptance_checks),
        "prompt_backend": asking.backend,
        "agent": asking.agent,
        "tool_profile": profile,
    }
