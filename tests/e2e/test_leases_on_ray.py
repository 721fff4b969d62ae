"""Do runs on the real Ray hold what they asked for: in their environment, one by one, and while they go on?"""

from __future__ import annotations

import json

import pytest

from projections.lease_state import Resources
from projections.lease_wish import LeaseWish
from tests.e2e.lab import Lab

pytestmark = pytest.mark.xdist_group("ray")
WISH = LeaseWish("ada@lab", ("u250",))


def resources(lab: Lab) -> Resources:
    return lab.merlin.reconciler.leases.state()


def test_a_job_has_its_lease_in_its_environment_and_keeps_it_no_longer_than_it_goes_on(lab: Lab) -> None:
    say = ("sh", "-c", 'echo "$MERLIN_LEASE_ID $MERLIN_LEASE_FENCE $MERLIN_LEASE_KEY"')
    run = lab.submit(*say, leases=WISH).run_id
    held = resources(lab).holder("u250")
    assert held is not None
    assert held.liveness == f"run:{run}"
    assert lab.ended(run).status == "completed"
    assert b"".join(lab.merlin.output(run)).decode().split() == [held.lease_id, str(held.fence), "u250"]
    assert not resources(lab).leases
    kept = json.loads((lab.root / f"resources/leases/{held.lease_id}.json").read_text())
    assert (kept["status"], kept["end_reason"]) == ("released", f"{run} is completed")


def test_of_two_runs_that_want_one_key_the_second_is_submitted_when_the_first_has_ended(lab: Lab) -> None:
    mark = ("sh", "-c", f"test ! -e {lab.work}/busy && touch {lab.work}/busy && sleep 1 && rm {lab.work}/busy")
    first, second = (lab.submit(*mark, leases=WISH).run_id for _ in range(2))
    assert lab.merlin.ledger.run(second).status == "waiting"
    assert [job.submission_id for job in lab.jobs()] == [first]
    assert [lab.ended(run).status for run in (first, second)] == ["completed", "completed"]
    assert [key.grants for key in resources(lab).keys.values()] == [2]


def test_a_job_whose_lease_was_taken_away_is_ended(lab: Lab) -> None:
    run = lab.submit("sleep", "600", leases=WISH).run_id
    lab.running(run)
    held = resources(lab).holder("u250")
    assert held is not None
    lab.merlin.reconciler.leases.release(held.lease_id, owner="boss", force=True, reason="it burns")
    assert lab.ended(run).status == "cancelled"


def test_a_run_whose_attempt_has_failed_keeps_its_lease_for_the_next_one(lab: Lab) -> None:
    once = ("sh", "-c", f'echo "$MERLIN_LEASE_FENCE" >> {lab.work}/fences; test "$(wc -l < {lab.work}/fences)" -gt 1')
    run = lab.submit(*once, leases=WISH, retries_max=1, retry_on_failure=True).run_id
    waiting = lab.submit("true", leases=WISH).run_id
    ended = lab.ended(run)
    assert (ended.status, [attempt.status for attempt in ended.attempts]) == ("completed", ["failed", "completed"])
    assert (lab.work / "fences").read_text().split() == ["1", "1"], "nobody else had it in between"
    assert lab.ended(waiting).status == "completed"
