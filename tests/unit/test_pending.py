"""Why does Ray not start a job that it has taken, as far as its machines tell?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from merlin_es.deciders.pending import why_pending
from merlin_es.ports import RayNode
from tests.looks import job, requested

HEAD = RayNode("n0", alive=True, is_head=True, resources={"CPU": 4.0}, labels={"site": "lab1"})
BOARD = RayNode("n1", alive=True, is_head=False, resources={"CPU": 2.0, "GPU": 1.0, "u250": 1.0}, labels={"b": "u250"})
DEAD = RayNode("n2", alive=False, is_head=False, resources={"CPU": 99.0}, labels={"b": "vcu118"})
NODES = [HEAD, BOARD, DEAD]


def why(nodes: list[RayNode], **wish: object) -> tuple[str, str]:
    found = why_pending(requested(**wish).request, job("PENDING"), nodes)
    assert found
    return found


def test_nothing_is_said_of_a_job_that_does_not_wait() -> None:
    request = requested(cpus=99).request
    assert why_pending(request, None, NODES) is None
    assert why_pending(request, job("RUNNING"), NODES) is None
    assert why_pending(request, job("FAILED"), NODES) is None


def test_nothing_is_said_when_the_machines_could_not_be_asked_for() -> None:
    assert why_pending(requested(cpus=99).request, job("PENDING"), []) is None


@pytest.mark.parametrize(
    "wish",
    [{}, {"cpus": 4}, {"cpus": 0.5, "gpus": 1}, {"resources": {"u250": 1}, "cpus": 2}, {"resources": {"none": 0.0}}],
    ids=str,
)
def test_what_fits_a_machine_waits_its_turn(wish: Mapping[str, object]) -> None:
    reason, message = why(NODES, **wish)
    assert reason == "busy"
    assert "starts by itself" in message


def test_a_cluster_without_a_machine_is_named() -> None:
    reason, message = why([DEAD])
    assert (reason, "restart the cluster" in message) == ("no_node", True)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"cpus": 4.5}, "wants 4.5 CPU and the largest has 4"),
        ({"cpus": 99}, "wants 99 CPU and the largest has 4"),
        ({"gpus": 2}, "wants 2 GPU and the largest has 1"),
        ({"resources": {"vcu118": 1}}, "wants 1 vcu118 and none has any"),
        ({"cpus": 3, "label_selector": {"b": "u250"}}, "wants 3 CPU and the largest has 2"),
    ],
    ids=str,
)
def test_more_than_any_living_machine_has_is_named(wish: Mapping[str, object], said: str) -> None:
    reason, message = why(NODES, **wish)
    assert reason == "no_such_resource"
    assert said in message


def test_things_that_no_single_machine_has_together_are_told() -> None:
    reason, message = why(NODES, cpus=3, gpus=1)
    assert (reason, "no single machine" in message) == ("no_such_machine", True)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("u250", True),
        ("vcu118", False),
        ("!u250", True),
        ("in(u250,vcu118)", True),
        ("in(vcu118, u250)", True),
        ("in(vcu118)", False),
        ("!in(vcu118)", True),
    ],
)
def test_a_machine_is_found_by_rays_conditions_on_labels(condition: str, found: bool) -> None:
    reason, message = why(NODES, label_selector={"b": condition})
    assert reason == ("busy" if found else "no_such_label")
    assert found or f"b={condition}" in message


def test_a_condition_that_excludes_every_machine_is_told() -> None:
    assert why([BOARD], label_selector={"b": "!u250"})[0] == "no_such_label"
    assert why([BOARD], label_selector={"b": "!in(u250,vcu118)"})[0] == "no_such_label"
    assert why([BOARD], label_selector={"site": "lab1"})[0] == "no_such_label"
