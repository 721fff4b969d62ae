"""Does a small lab stay right for two minutes in which everything that can die does?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import Figure
from tests.examples import ROOT

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(3600)]


def test_a_soak_of_two_minutes_breaks_no_invariant(figure: Figure) -> None:
    program = [sys.executable, str(ROOT / "tools" / "soak.py"), "--minutes", "2", "--json", "--dir", "/tmp"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["violations"] == [], done.stderr
    assert done.returncode == 0
    figures = report["figures"]
    for what in ("client kills", "reconciler kills", "head kills", "full disk"):
        assert figures[what] >= 1, "what was to happen has happened"
    for what in ("runs", "leases", "told", "executed"):
        assert figures[what] >= 1, "and somebody was at work"
    counted = ", ".join(f"{count} {name}" for name, count in figures.items())
    figure(f"{counted}, 0 violations in {report['seconds']} s; the disk was {report['disk']}")
