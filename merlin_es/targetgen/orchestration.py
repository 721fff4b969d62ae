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
    if _has_begun(outputs.read_json(directory / "execution_state.json")):
        raise Refused(f"{directory} holds an execution that has begun: go on with it, or give another --out-dir")
    outputs.write(
        directory,
        {
            **{f"task_states/{name}.json": dumps(each) for name, each in state["tasks"].items()},
            **{f"briefs/{name}": text for name, text in briefs.items()},
            "execution_state.json": dumps(state),
            "execution_bundle.json": dumps(bundle_json(bundle)),
            **({"provider_backend.json": dumps(bundle.provider_config)} if bundle.provider_config else {}),
        },
    )
    if bundle.prompts_dir is not None:
        outputs.write(Path(bundle.prompts_dir), packets)


def _has_begun(state: object) -> bool:
    """Whether any task of a state that was found is not as an execution begins; what cannot be read is no state."""
    tasks = state.get("tasks") if isinstance(state, dict) else None
    states = tasks.values() if isinstance(tasks, dict) else ()
    return any(not isinstance(each, dict) or each.get("status") != "planned" for each in states)
