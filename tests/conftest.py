"""What do all tests share? Figures: a proof says how much it tried, and the end of the run lists it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest_plugins = ["tests.ray_cluster"]

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Note a figure of this test for the summary."""
    return lambda text: request.node.user_properties.append(("figure", text))


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
