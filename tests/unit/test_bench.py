"""Does the benchmark run, and say of every row what it should be?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.examples import ROOT


def test_a_quick_benchmark_measures_every_row_and_removes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "bench.py"), "log", "--quick", "--json", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert len(report["rows"]) == 9
    assert done.returncode == bool(report["missed"])
    assert list(tmp_path.iterdir()) == []
