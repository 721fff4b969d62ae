"""Does the test command tell what failed from what only fails in company?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import ROOT

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.conftest import pytest_runtest_logreport
"""
TESTS = """
from pathlib import Path
import pytest

def test_it_holds():
    pass

@pytest.mark.xdist_group("slow")
@pytest.mark.parametrize("name", ["met@home"])
def test_it_holds_the_second_time(name):
    met = Path(name)
    was_met = met.exists()
    met.touch()
    assert was_met
"""
FAILING = """
def test_it_never_holds():
    assert not "ever"
"""
SCRIPT = """
import sys
from pathlib import Path
import check
import environment
environment.ROOT = Path.cwd()
check.PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "--numprocesses=2", "--dist=loadgroup"]
sys.exit(check.test([]))
"""


def checked(top: Path, *texts: str) -> subprocess.CompletedProcess[str]:
    (top / "conftest.py").write_text(CONFTEST)
    (top / "pytest.ini").write_text("[pytest]\n")
    for number, text in enumerate(texts):
        (top / f"test_{number}.py").write_text(text)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CHECK_"))}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=top, env={**own, "PYTHONPATH": str(ROOT / "tools"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True,
    )  # fmt: skip


def test_what_fails_once_and_holds_alone_is_named(tmp_path: Path) -> None:
    done = checked(tmp_path, TESTS)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == [
        "check: unsteady, mend it: test_0.py::test_it_holds_the_second_time[met@home]",
        "check: all passed",
    ]


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    done = checked(tmp_path, TESTS, FAILING)
    assert done.returncode == 1
    assert "unsteady" not in done.stdout
    assert "check: failed with exit code 1" in done.stderr


@pytest.mark.parametrize("count", [1, 4])
def test_only_a_few_failures_are_looked_at_twice(tmp_path: Path, count: int) -> None:
    done = checked(tmp_path, *[FAILING] * count)
    assert done.returncode == 1
    assert ("once more, alone" in done.stdout) == (count == 1)
