"""What do all tests share? Figures: a proof says how much it tried, and the end of the run lists it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from merlin_es.doctor.host import IN_MEMORY, file_system_of

pytest_plugins = ["tests.ray_cluster"]

Figure = Callable[[str], None]
ID_LENGTH_MAX = 80
WORKER_GROUP = re.compile(r"@\w+$")
"""What xdist puts behind the id of a test that is of a group, by which no test is found."""
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 * 2**30
"""Tests write and sync small files all the time, and none cuts the power, which is what a disk is slow for."""


def pytest_configure() -> None:
    """Take signals as at a terminal; what is ignored here (`nohup` does it) would be in each process of a test."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Else each of the thousands of processes that tests start compiles all our code for itself.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if can_be_used(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def can_be_used(place: Path) -> bool:
    """Tell whether all that the tests write fits into a place, and programs can be executed there."""
    if not place.is_dir() or not os.access(place, os.W_OK):
        return False
    return shutil.disk_usage(place).free >= ENOUGH_BYTES and not os.statvfs(place).f_flag & os.ST_NOEXEC


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long value by its beginning and its length."""
    if not isinstance(val, str | bytes) or len(val) <= ID_LENGTH_MAX:
        return None
    text = val if isinstance(val, str) else val.decode("ascii", "backslashreplace")
    return f"{text[: ID_LENGTH_MAX // 2].encode('unicode_escape').decode('ascii')}...{len(val)}"


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """Give a directory for what is to be synced to a disk, wherever the other tests have their files."""
    places = (Path(tempfile.gettempdir()), Path("/var/tmp"))  # The first is in memory where a system has it so.
    disks = [place for place in places if place.is_dir() and file_system_of(place) not in IN_MEMORY]
    if not disks:
        pytest.skip(f"neither {places[0]} nor {places[1]} is on a disk: TMPDIR=DIR names one that is")
    with tempfile.TemporaryDirectory(dir=disks[0]) as directory:
        yield Path(directory)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Note a figure of this test for the summary."""
    return lambda text: request.node.user_properties.append(("figure", text))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what failed for who wants to run it again; the workers of a run report to one that notes."""
    noted = os.environ.get("CHECK_FAILED_TESTS")
    if noted and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        names = Path(noted).read_text().splitlines()
        failed = WORKER_GROUP.sub("", report.nodeid)
        Path(noted).write_text("".join(f"{name}\n" for name in dict.fromkeys([*names, failed])))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the figures of all tests that ran, wherever they ran."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        for name, text in getattr(report, "user_properties", [])
        if name == "figure" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(lines):
            terminalreporter.write_line(line)
