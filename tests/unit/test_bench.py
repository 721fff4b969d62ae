"""Does the benchmark run, and say of every row what it should be?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import ROOT


def test_a_quick_benchmark_measures_every_row_and_removes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "bench.py"), "log", "--quick", "--json", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert len(report["rows"]) == 9
    assert done.returncode == bool(report["missed"])
    assert list(tmp_path.iterdir()) == []


def test_what_is_measured_of_custody_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches import custody

    monkeypatch.setattr(custody, "ENDS", 3)
    rows = list(custody.rows(tmp_path, quick=True))
    assert [row.what for row in rows] == [
        "verify a log of 2,000 events",
        "head of an archived log of 2,000 events",
        "the end of a run, with checkpoint and note",
    ]
    assert all(row.ours.cost > 0 for row in rows)


def test_what_is_measured_of_runs_without_ray_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches import listing, runs

    monkeypatch.setattr(listing, "FEW", 60)
    monkeypatch.setattr(listing, "MANY", 80)
    rows = list(runs.rows_without_ray(tmp_path, quick=True, most=120, events=60))
    assert [row.what for row in rows] == [
        "one status of a run with 60 events",
        "`true` as a job through the wrapper",
        "list the newest 50 of 120 runs",
        "`jobs list` of 120 runs",
    ]
    standings = [row.baseline for row in rows] + [row.ours for row in rows]
    assert all(standing.cost > 0 and standing.low <= standing.ratio <= standing.high for standing in standings)


def test_what_is_measured_of_looking_back_has_its_rows_and_a_view_costs_less_than_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches import travel

    rows = list(travel.rows(tmp_path, quick=True, count=2_560))
    assert [row.what for row in rows] == [
        "view at event 1,280 of 2,560",
        "`why` of the status after 2,560 events",
        "`diff` of events 280 and 2,280",
        "a step back at event 1,280",
    ]
    assert [peer.name for peer in rows[0].peers] == [
        "without snapshots",
        "eventsourcing",
        "eventsourcing with snapshots",
    ]
    assert rows[0].ours.ratio < 1


def test_what_is_measured_of_plans_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches import targetgen

    rows = list(targetgen.rows(tmp_path, quick=True))
    assert [row.what for row in rows] == [
        "`targetgen plan` of an example",
        "`targetgen orchestrate` of an example",
        "read and check a spec",
    ]
    assert (tmp_path / "programs" / "build" / "generated" / "targetgen" / "gemmini" / "task_graph.json").is_file()


def test_a_program_that_fails_is_not_taken_for_a_fast_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.programs import Failed, Programs

    programs = Programs(tmp_path)
    assert programs.output(programs.typer()) == "Hello ada\n"
    assert programs.output(programs.merlin(tmp_path / "state", "jobs", "list")) == "No runs.\n"
    with pytest.raises(Failed, match="there is no run 'nothing'"):
        programs.running(programs.merlin(tmp_path / "state", "jobs", "status", "nothing"))()
