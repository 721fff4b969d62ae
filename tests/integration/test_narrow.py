"""Can what the verbs print be read at a terminal of 80 columns, three weeks later?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from projections.events.run import RunCheckpointed
from projections.layout import RESOURCES, run_stream
from tests.examples import ROOT
from tests.lease_examples import LEASE_EVENTS
from tests.past_examples import LIFE, Hands, log_in, record
from tests.run_examples import requested
from tests.terminals import shown_on

LONG = "saturn_opu_v128_with_a_long_name-20261123071351-abcdef01"
DIGEST = "77a2b77f49da23c48164a8dcd688cecdd46a3596301d359c154f8e0486822efa"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    log = log_in(tmp_path / "s", Hands())
    record(log, run_stream(LONG), [requested(LONG, workflow="targetgen_execute"), *LIFE[1:]])
    checkpoint = RunCheckpointed(fold=1, files={"run_record.json": DIGEST}, trail_from=1, trail=("0=431b", "0/a=7b92"))
    record(log, run_stream(LONG), [checkpoint])
    record(log, RESOURCES, LEASE_EVENTS[:11])
    log.close()
    return tmp_path / "s"


def shown(root: Path, columns: int, *words: str) -> list[str]:
    mine = {"PYTHONPATH": str(ROOT), "MERLIN_FSYNC": "off", "PYTHONWARNINGS": "ignore"}
    argv = [sys.executable, "-m", "merlin_es", "ray", "--state-root", str(root), *words]
    return shown_on(columns, argv, {**os.environ, **mine}, root.parent)


@pytest.mark.parametrize("columns", [80, 120])
def test_every_line_of_what_is_looked_back_on_fits(root: Path, columns: int) -> None:
    for words in (
        ("jobs", "list"),
        ("jobs", "list", "--at", "2027-01-01"),
        ("events",),
        ("replay", LONG),
        ("state",),
        ("verify", "--all"),
        ("why", LONG, "status"),
        ("resources", "list", "--all"),
    ):
        lines = shown(root, columns, *words)
        assert lines, words
        assert max(map(len, lines)) <= columns, words
        if words[0] == "jobs":
            assert "2026-11-23T07:00:00Z" in " ".join(lines), "where there is no room for a row, it takes two lines"
        if words[0] == "events":
            assert not any("trail" in line or DIGEST[:9] in line or "boottime_s" in line for line in lines)
            assert any("files=" in line and "run_record.json" in line for line in lines)


def test_a_row_that_has_room_is_one_line(root: Path) -> None:
    assert len(shown(root, 160, "jobs", "list")) == 2
    assert len(shown(root, 80, "jobs", "list")) > 2
