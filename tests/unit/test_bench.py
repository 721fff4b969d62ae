"""Does the benchmark run, and say of every row what it should be?"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import ROOT
from tests.targetgen_data import SHARED, needs_shared


def promised(family: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give the rows of a family that measure a budget."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.budgets import BUDGETS

    return {budget.row for budget in BUDGETS if budget.family == family}


def test_a_quick_benchmark_measures_every_row_and_removes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, str(ROOT / "tools" / "bench.py"), "log", "--quick", "--json", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert len(report["rows"]) == 9
    assert done.returncode == bool(report["missed"])
    assert promised("log", monkeypatch) <= {re.sub(r"\d[\d,]*", "#", row["what"]) for row in report["rows"]}
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


def test_every_budget_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.budgets import BUDGETS, without_numbers

    sources = [*(ROOT / "tools" / "benches").glob("*.py")]
    names = {name for path in sources if path.name != "budgets.py" for name in texts(path)}
    for budget in BUDGETS:
        assert any(re.fullmatch(name, budget.row) for name in names), budget.row
        assert without_numbers(budget.row) == budget.row


def texts(path: Path) -> set[str]:
    """Give all texts in a module as patterns, in which whatever is put in fits everything."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            found.add("".join(".+" if part is None else re.escape(str(part)) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(re.escape(node.value))
    return found - {".+"}


@needs_shared
def test_the_budgets_are_those_of_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.budgets import BUDGETS

    law = (
        (SHARED.parents[1] / "design" / "architecture.md")
        .read_text()
        .partition("## 9. Budgets")[2]
        .partition("\n## ")[0]
    )
    lines = [line.removeprefix("| ") for line in law.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 10
    for line in lines:
        assert any(line.startswith(budget.law) for budget in BUDGETS), line
    for budget in BUDGETS:
        assert any(line.startswith(budget.law) for line in lines), budget.law


def test_the_table_in_the_readme_has_the_budgets_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.budgets import BUDGETS, without_numbers

    text = (ROOT / "tools" / "README.md").read_text()
    table = text.partition("<!-- budgets: written by tools/bench.py --write -->\n")[2].partition("<!-- end of budgets")[
        0
    ]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert [without_numbers(row[0].removeprefix("| ")) for row in rows] == [budget.row for budget in BUDGETS]
    assert re.search(r"^\d+ cores \(.+\), Python .+, files on \w+; \d+ s", table, re.MULTILINE)


def test_a_row_that_was_renamed_is_missed_when_the_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.budgets import BUDGETS, Unmeasured, of_budgets
    from benches.race import Goal, Row, Standing
    from benches.table import as_markdown

    one = Standing("bare", 1e-3, 1.0, 0.9, 1.1)
    rows = [Row(budget.row.replace("#", "1,000"), "ms", Goal(False, 1.0, 2.0), one, one) for budget in BUDGETS]
    assert of_budgets(reversed(rows)) == rows
    assert len(as_markdown(rows).splitlines()) == 2 + len(BUDGETS)
    with pytest.raises(Unmeasured, match=re.escape(BUDGETS[3].row)):
        of_budgets([*rows[:3], *rows[4:]])


def test_the_profile_of_imports_has_every_module_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from benches.imports import imported
    from benches.programs import Programs

    programs = Programs(tmp_path)
    bare, more = imported(programs, programs.typer()), imported(programs, programs.python("import typer, sqlite3"))
    assert "typer" in bare
    assert "sqlite3" in set(more) - set(bare)
    assert 0 < sum(bare.values()) < 60
