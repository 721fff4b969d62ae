"""Does the doctor see what a real Ray runs that no run asks for?"""

from __future__ import annotations

import shutil

import pytest

from merlin_es import bootstrap
from merlin_es.doctor.finding import Finding
from tests.e2e.lab import Lab

pytestmark = pytest.mark.xdist_group("ray")


def found(lab: Lab, check: str) -> list[Finding]:
    return [finding for finding in bootstrap.doctor(lab.settings).examine() if finding.check == check]


def test_jobs_without_a_run_are_told_from_those_of_runs_and_of_others(lab: Lab) -> None:
    run_id = lab.running(lab.submit("sleep", "600").run_id).run_id
    try:
        [cluster], [jobs] = found(lab, "cluster"), found(lab, "jobs")
        assert (cluster.severity, jobs.severity) == ("fine", "fine")
        assert jobs.what.startswith("1 job ")
        shutil.move(lab.root / "runs" / run_id, lab.top / "kept")
        [orphan] = found(lab, "jobs")
        assert f"RUNNING of {run_id}, which has no run here" in orphan.what
        assert orphan.mend == "merlin ray reconcile --once"
        other = Lab(lab.top / "other", lab.url, lab.token)
        assert [finding.severity for finding in found(other, "jobs")] == ["fine"], "those of others are theirs"
    finally:
        shutil.move(lab.top / "kept", lab.root / "runs" / run_id)
        lab.merlin.cancel(run_id)
        lab.ended(run_id)
