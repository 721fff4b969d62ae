"""Does a run that the old tool submitted go on here, when the cluster that it was given to still knows it?"""

from __future__ import annotations

import pytest

from merlin_es import bootstrap
from merlin_es.ports import Submission
from tests.e2e.lab import Lab
from tests.old_roots import OldState

pytestmark = pytest.mark.xdist_group("ray")


@pytest.mark.parametrize(("command", "status", "exit_code"), [("echo out", "completed", None), ("exit 3", "failed", 3)])
def test_a_lost_run_whose_cluster_knows_it_is_recovered_and_ends_as_ray_says(
    lab: Lab, command: str, status: str, exit_code: int | None
) -> None:
    run_id = lab.wish("true").run_id
    assert lab.url
    bootstrap.connect(lab.url, lab.token).submit(Submission(run_id, command, {}, {}, cpus=0.1))  # As the old tool did.
    old = OldState(lab.top / "old")
    old.run(run_id, "running", target_dir=str(lab.work))
    [item] = bootstrap.old_root(lab.settings).take_in(old.root)
    assert item.detail == "lost"
    record = lab.until(run_id, lambda known: known.is_terminal)
    assert (record.status, record.exit_code) in ((status, exit_code), (status, 0))
    assert "run.recovered" in lab.types(run_id)
    assert (b"out\n" in b"".join(lab.merlin.output(run_id))) == (status == "completed"), "its output is kept"


def test_a_job_of_somebody_else_under_the_same_id_recovers_nothing(lab: Lab) -> None:
    run_id = lab.accepted(*lab.marked())
    other = Lab(lab.top / "other", lab.url, lab.token)
    old = OldState(lab.top / "old")
    old.run(run_id, "running")
    list(bootstrap.old_root(other.settings).take_in(old.root))
    lab.ended(run_id)
    other.merlin.reconcile_once()
    assert other.merlin.ledger.run(run_id).status == "lost", "that job is marked as of another ledger"
