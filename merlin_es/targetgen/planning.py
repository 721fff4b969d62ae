"""What is planned for a target? Everything that follows from its spec and its overlay alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from merlin_es.targetgen import classification, support_plan, tasks, views
from merlin_es.targetgen.capability import Capability, Deployment
from merlin_es.targetgen.classification import Classification
from merlin_es.targetgen.contradictions import contradictions
from merlin_es.targetgen.documents import as_text
from merlin_es.targetgen.support_plan import SupportPlan, as_json
from merlin_es.targetgen.tasks import TaskNode

OPTIONAL = ("deployment_view.yaml",)
"""Files of a plan that another overlay, or none, leaves out."""


@dataclass(frozen=True)
class Plan:
    """A plan, and the target that it is for; `notes` are what does not fit together in the spec."""

    capability: Capability
    classification: Classification
    support: SupportPlan
    tasks: tuple[TaskNode, ...]
    notes: tuple[str, ...]

    @property
    def target(self) -> str:
        """The name of the target, and of its directory."""
        return self.capability.identity.name

    def as_json(self) -> dict[str, Any]:
        """Return the documents of the plan, by the names of their files."""
        deployment = self.capability.deployment
        documents = {
            "support_plan.json": as_json(self.support),
            "task_graph.json": as_json(self.tasks),
            "verification_manifest.json": as_json(self.support.verification_manifest),
            "compile_view.yaml": views.compile_view(self.capability, self.classification.styles),
        }
        if deployment:
            documents["deployment_view.yaml"] = views.deployment_view(deployment)
        return documents

    def files(self) -> Mapping[str, str]:
        """Return the files of the plan as they are written."""
        return {name: as_text(name, document) for name, document in self.as_json().items()}


def plan(capability: Capability, overlay: Deployment | None = None) -> Plan:
    """Plan a target as it is deployed by `overlay`."""
    deployed = replace(capability, deployment=overlay) if overlay else capability
    found = classification.classify(deployed)
    graph = tasks.task_graph(deployed, found.styles)
    support = support_plan.support_plan(deployed, found, tuple(task.id for task in graph))
    return Plan(deployed, found, support, graph, contradictions(deployed))
