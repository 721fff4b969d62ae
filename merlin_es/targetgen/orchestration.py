"""How is the execution of a plan begun in a target directory?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from merlin_es.errors import Refused
from merlin_es.targetgen import inputs as reading
from merlin_es.targetgen import outputs
from merlin_es.targetgen.bundle import ExecutionBundle, bundle_json
from merlin_es.targetgen.documents import dumps
from merlin_es.targetgen.initial_state import execution_state
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


def write(directory: Path, bundle: ExecutionBundle, briefs: Mapping[str, str], packets: Mapping[str, str]) -> None:
    """Write an execution that nobody has begun; raises Refused where one is under way."""
    state = execution_state(bundle)
    found = outputs.read_json(directory / "execution_state.json")
    if found is not None and found != state:
        raise Refused(f"{directory} holds an execution that has begun: go on with it, or give another --out-dir")
    outputs.write(
        directory,
        {
            **{f"task_states/{name}.json": dumps(each) for name, each in state["tasks"].items()},
            **{f"briefs/{name}": text for name, text in briefs.items()},
            "execution_state.json": dumps(state),
            "execution_bundle.json": dumps(bundle_json(bundle)),
        },
    )
    if bundle.prompts_dir is not None:
        outputs.write(Path(bundle.prompts_dir), packets)
