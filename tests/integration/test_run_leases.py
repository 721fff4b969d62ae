"""Does a run come to hold its leases once, whoever crashes between the two streams, and do they end with it?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from merlin_es import bootstrap
from merlin_es.app import Merlin
from merlin_es.commands import SubmitRun
from merlin_es.submission import Submissions
from projections.events.run import RunCompleted
from projections.layout import RESOURCES
from projections.lease_state import Pool
from projections.lease_wish import LeaseWish
from projections.run_record import RunRecord
from tests.examples import ROOT
from tests.holders import wish
from tests.run_examples import intended, lost, recovered, started, submitted

POINTS = ("request.after", "claim.before", "lease.append.before", "lease.append.after", "claim.after", "bind.after")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
RUN = "saturn-20261123071351-abcdef01"


def merlin_at(root: Path) -> Merlin:
    from merlin_es.settings import Settings

    return bootstrap.build(Settings(root, root, "ada@lab", sync=False))


def wanting(*keys: str, pool: Pool | None = None) -> SubmitRun:
    return SubmitRun(
        RUN, "saturn", "bringup", "cli", ("true",), "/tmp", "/tmp/out", leases=LeaseWish("ada@lab", keys, pool)
    )


def events(merlin: Merlin) -> list[str]:
    return [event.type.removeprefix("run.") for event in merlin.ledger.log.read(f"run/{RUN}")]


def bound(record: RunRecord) -> list[str]:
    return [each.key for each in record.tenancy.leases] if record.tenancy else []


@pytest.fixture
def merlin(tmp_path: Path) -> Merlin:
    return merlin_at(tmp_path)


def test_a_run_waits_for_what_somebody_holds_and_goes_on_when_it_is_released(merlin: Merlin) -> None:
    resources = merlin.reconciler.leases
    [held] = resources.reserve(wish("bob", "u250", waits=False))
    record = merlin.submit(wanting("u250"))
    assert (record.status, record.message) == ("waiting", "it waits for u250")
    assert merlin.status(RUN).status == "waiting"
    resources.release(held.lease_id, fence=held.fence)
    record = merlin.status(RUN)
    assert (record.status, bound(record)) == ("blocked", ["u250"]), "it holds it, and there is no cluster to go to"
    assert events(merlin) == ["requested", "waiting", "lease_bound", "blocked"]
    [lease] = resources.state().leases.values()
    assert (lease.liveness, lease.owner) == (f"run:{RUN}", "ada@lab")


def test_what_a_run_holds_is_in_its_environment_in_each_attempt_and_several_with_commas(
    merlin: Merlin,
) -> None:
    record = merlin.submit(wanting("u250", "x60"))
    leases = record.tenancy.leases if record.tenancy else ()
    given = Submissions._environment(merlin.submissions, record)
    assert given["MERLIN_LEASE_ID"] == ",".join(each.lease_id for each in leases)
    assert (given["MERLIN_LEASE_FENCE"], given["MERLIN_LEASE_KEY"]) == ("1,1", "u250,x60")


def test_a_run_that_is_cancelled_while_it_waits_leaves_the_line(merlin: Merlin) -> None:
    resources = merlin.reconciler.leases
    resources.reserve(wish("bob", "u250", waits=False))
    merlin.submit(wanting("u250"))
    assert len(resources.state().claims) == 1
    assert merlin.cancel(RUN).status == "cancelled"
    assert not resources.turns.look()[0].claims


def test_leases_end_with_the_run_and_that_is_recorded_in_the_same_append(merlin: Merlin) -> None:
    merlin.submit(wanting("u250"))
    end = RunCompleted(attempt=1, source="wrapper", exit_code=0)
    record = merlin.ledger.change_run(RUN, lambda _known: (end,))
    assert (record.status, bound(record)) == ("completed", [])
    assert events(merlin)[-3:] == ["completed", "lease_unbound", "log.checkpoint"]
    assert not merlin_at(merlin.settings.state_root).reconciler.leases.state().leases


def test_a_retried_run_keeps_its_leases(merlin: Merlin) -> None:
    merlin.submit(wanting("u250"))
    record = merlin.retry(RUN)
    assert bound(record) == ["u250"]
    assert [lease.fence for lease in merlin.reconciler.leases.state().leases.values()] == [1]


def test_a_run_whose_lease_was_taken_away_before_it_was_submitted_waits_again(merlin: Merlin) -> None:
    merlin.submit(wanting("u250"))
    resources = merlin.reconciler.leases
    [lease] = resources.state().leases.values()
    resources.reserve(wish("bob", "x60", waits=False))
    resources.release(lease.lease_id, owner="boss", force=True, reason="it burns")
    merlin.retry(RUN)
    assert "lease_unbound" in events(merlin)
    assert bound(merlin.status(RUN)) == ["u250"]
    assert [each.fence for each in resources.state().leases.values() if each.key == "u250"] == [2]


def test_a_run_whose_lease_was_taken_away_while_ray_has_it_is_to_end(merlin: Merlin) -> None:
    merlin.submit(wanting("u250"))
    merlin.ledger.change_run(RUN, lambda _known: (intended(), submitted(), started()))
    resources = merlin.reconciler.leases
    [lease] = resources.state().leases.values()
    merlin.reconcile_once()
    assert events(merlin)[-1] == "started", "it holds what it was granted"
    resources.release(lease.lease_id, owner="boss", force=True, reason="it burns")
    for _ in range(2):
        merlin.reconcile_once()
        assert events(merlin)[-2:] == ["lease_unbound", "cancel_requested"]
    assert bound(merlin.ledger.run(RUN)) == []


def test_a_lost_run_whose_lease_has_ended_is_to_end_when_it_shows_up_again(merlin: Merlin) -> None:
    merlin.submit(wanting("u250"))
    merlin.ledger.change_run(RUN, lambda _known: (intended(), submitted(), started(), lost()))
    resources = merlin.reconciler.leases
    [lease] = resources.state().leases.values()
    resources.release(lease.lease_id, owner="boss", force=True, reason="it burns")
    merlin.reconcile_once()
    assert events(merlin)[-1] == "lost"
    merlin.ledger.change_run(RUN, lambda _known: (recovered(),))
    merlin.reconcile_once()
    assert events(merlin)[-3:] == ["recovered", "lease_unbound", "cancel_requested"]


def test_a_pool_that_does_not_exist_blocks_the_run_and_says_why(merlin: Merlin) -> None:
    record = merlin.submit(wanting(pool=Pool("board", "x60")))
    assert (record.status, record.blocked_reason) == ("blocked", "lease")
    assert "board=x60" in str(record.message)


def test_a_run_without_leases_has_the_record_that_it_always_had(merlin: Merlin) -> None:
    merlin.submit(SubmitRun(RUN, "saturn", "bringup", "cli", ("true",), "/tmp", "/tmp/out"))
    path = merlin.settings.state_root / "runs" / RUN / "run_record.json"
    assert "tenancy" not in path.read_text()
    assert not (merlin.settings.state_root / RESOURCES).exists()


@pytest.mark.parametrize("point", POINTS)
def test_a_submitter_killed_between_the_two_streams_is_followed_by_a_pass_that_binds_each_key_once(
    tmp_path: Path, point: str
) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; "
        "from tests.integration.test_run_leases import merlin_at, wanting; "
        "merlin_at(Path(sys.argv[1])).submit(wanting('u250', 'x60'))"
    )
    environment = {**os.environ, "MERLIN_FAILPOINT": point, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(ROOT)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    for _ in range(2):
        merlin = merlin_at(tmp_path)
        merlin.reconcile_once()
    assert bound(merlin.status(RUN)) == ["u250", "x60"]
    assert events(merlin).count("lease_bound") == 1
    granted = [event for event in merlin.ledger.log.read(RESOURCES) if event.type == "lease.granted"]
    assert len(granted) == 2
    merlin.cancel(RUN)
    assert not merlin.reconciler.leases.state().leases
