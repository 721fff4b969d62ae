"""What would somebody who has two minutes want to know of a target and its plan?"""

from __future__ import annotations

from collections.abc import Iterator

from merlin_es.targetgen.planning import Plan


def explanation(plan: Plan) -> Iterator[str]:
    """Yield it, line by line."""
    capability, support = plan.capability, plan.support
    yield f"Target: {capability.identity.display_name} ({capability.identity.name})"
    yield f"Vendor: {capability.identity.vendor}"
    yield f"Maturity: {capability.identity.maturity}"
    yield f"Access model: {capability.access.model}"
    yield f"SDK requirements: {', '.join(capability.access.sdk_requirements) or 'none'}"
    yield f"Credential requirements: {capability.access.credential_requirements}"
    yield f"Families: {', '.join(support.target_families)}"
    yield f"Integrations: {', '.join(support.integration_styles)}"
    yield f"Primary integration: {support.primary_integration}"
    yield f"Required layers: {', '.join(support.required_layers)}"
    yield f"Deployment overlay: {support.deployment_profile or 'none'}"
    yield ""
    yield "Derived artifacts:"
    yield from (f"- {name}" for name in support.derived_artifacts)
    yield ""
    yield "Planned task order:"
    yield from (f"- {task.title} [{task.family}]" for task in plan.tasks)
