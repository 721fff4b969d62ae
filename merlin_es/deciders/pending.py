"""Why does Ray not start a job that it has taken?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from merlin_es.ports import RayJob, RayNode
from projections.run_record import Request


def why_pending(request: Request, job: RayJob | None, nodes: Sequence[RayNode]) -> tuple[str, str] | None:
    """Give a word for programs and a sentence for people, as far as the machines of the cluster tell."""
    if job is None or job.status != "PENDING" or not nodes:
        return None
    alive = [node for node in nodes if node.alive]
    if not alive:
        return "no_node", "no machine of the cluster is alive: restart the cluster"
    wanted = _wanted(request)
    matching = [node for node in alive if _matches(request.label_selector, node.labels)]
    if not matching:
        labels = ", ".join(f"{key}={value}" for key, value in request.label_selector.items())
        return "no_such_label", f"no machine has the labels {labels}: add one, or cancel and submit with others"
    for name, amount in wanted.items():
        most = max(node.resources.get(name, 0.0) for node in matching)
        if most < amount:
            has = "none has any" if not most else f"the largest has {most:g}"
            return (
                "no_such_resource",
                f"it wants {amount:g} {name} and {has}: add a machine, or cancel and ask for less",
            )
    if not any(_fits(wanted, node) for node in matching):
        return "no_such_machine", "no single machine has all that it wants: add one, or cancel and ask for less"
    return "busy", "what it could run on is taken, or its environment is being made: it starts by itself"


def _wanted(request: Request) -> dict[str, float]:
    wanted = dict(request.resources)
    if request.cpus:
        wanted["CPU"] = request.cpus
    if request.gpus:
        wanted["GPU"] = request.gpus
    return wanted


def _fits(wanted: Mapping[str, float], node: RayNode) -> bool:
    return all(node.resources.get(name, 0.0) >= amount for name, amount in wanted.items())


def _matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(_matches_one(condition, labels.get(key)) for key, condition in selector.items())


def _matches_one(condition: str, value: str | None) -> bool:
    """Apply one of Ray's conditions: `v`, `!v`, `in(v,w)`, `!in(v,w)`."""
    wanted = condition.removeprefix("!")
    if wanted.startswith("in(") and wanted.endswith(")"):
        found = value in [each.strip() for each in wanted[3:-1].split(",")]
    else:
        found = value == wanted
    return found != condition.startswith("!")
