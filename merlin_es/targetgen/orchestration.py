"""How is the execution of a plan begun in a target directory?"""

from __future__ import annotations

from pathlib import Path

from merlin_es.targetgen import inputs as reading
from merlin_es.targetgen import planning
from merlin_es.targetgen.blueprint import Blueprint
from merlin_es.targetgen.inputs import Inputs
from merlin_es.targetgen.preparing import Prepared, asking_for, prepare


def prepared(
    inputs: Inputs, backend: str, agent: str | None, prompts_dir: Path | None, target_dir: Path, workspace: Path
) -> Prepared:
    """Prepare an execution from files: the prompt layers and the agent's configuration are read, nothing is written."""
    asking = asking_for(backend, agent)
    is_provider = backend == "provider" and asking.agent is not None
    return prepare(
        inputs.capability,
        inputs.overlay,
        backend,
        agent,
        None if prompts_dir is None else str(prompts_dir),
        str(target_dir),
        fragments=reading.library(inputs, workspace),
        provider_config=reading.provider_config(str(asking.agent), workspace) if is_provider else None,
    )


def blueprint(
    inputs: Inputs, backend: str, agent: str | None, prompts_dir: Path | None, target_dir: Path, workspace: Path
) -> Blueprint:
    """Give all that an execution needs of a plan, with the texts that the plan was made from."""
    bundle, briefs, packets = prepared(inputs, backend, agent, prompts_dir, target_dir, workspace)
    texts = {"inputs/capability.yaml": inputs.snapshot.capability}
    if inputs.snapshot.overlay is not None:
        texts["inputs/overlay.yaml"] = inputs.snapshot.overlay
    documents = {**planning.plan(inputs.capability, inputs.overlay).files(), **texts}
    deployment = inputs.capability.deployment or inputs.overlay
    overlay = deployment.source_path if deployment else None
    return Blueprint(bundle, briefs, packets, documents, inputs.capability.capability_path, overlay)
