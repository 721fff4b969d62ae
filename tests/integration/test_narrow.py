"""Can what the verbs print be read at a terminal of 80 columns, three weeks later?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from merlin_es.witness import entrypoint
from projections.events.run import RunCheckpointed
from projections.layout import RESOURCES, run_stream
from tests.examples import ROOT
from tests.lease_examples import LEASE_EVENTS
from tests.past_examples import LIFE, Hands, log_in, record
from tests.run_examples import intended, requested
from tests.terminals import shown_on

LONG = "saturn_opu_v128-20261123071351-abcdef01"
DIGEST = "77a2b77f49da23c48164a8dcd688cecdd46a3596301d359c154f8e0486822efa"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    log = log_in(tmp_path / "s", Hands())
    wrapped = entrypoint(Path("/blobs/ab"), "/bin/python", tmp_path, LONG, 1, "/srv", ("make", "test"))
    intention = replace(intended(), entrypoint=wrapped)
    record(log, run_stream(LONG), [requested(LONG, workflow="targetgen_execute"), intention, *LIFE[2:]])
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
        if words[0] == "events":
            assert not any("trail" in line or DIGEST[:9] in line or "boottime_s" in line for line in lines)
            assert any("files=" in line and "run_record.json" in line for line in lines)


@pytest.mark.parametrize("verb", ["events", "replay", "state"])
def test_what_is_the_same_in_every_entrypoint_is_left_out_and_said_to_be(root: Path, verb: str) -> None:
    text = " ".join(" ".join(shown(root, 80, verb, LONG)).split())
    assert "entrypoint=set -- make test; …" in text
    assert "merlin_wrapper" not in text
    assert "merlin_wrapper" in " ".join(shown(root, 0, "state", LONG, "-o", "json"))
