"""Does a table fit its terminal, is colour only where it may be, and is it told how far things got?"""

from __future__ import annotations

import io
import os
import pty
import sys

import pytest

from merlin_es.cli import progress
from merlin_es.cli.printing import print_table, width_of
from merlin_es.cli.terminal import Screen, has_colours

RUN = "saturn_opu_v128-20261123071351-0badcafe"
TABLE = [
    ["RUN", "STATUS", "WORKFLOW", "CREATED", "MESSAGE"],
    [RUN, "failed", "targetgen_execute", "2026-11-23T07:13:51Z", "the command ended with 3 and said so at length"],
    [RUN, "completed", "w", "2026-11-23T07:13:51Z", ""],
]


@pytest.mark.parametrize("columns", [60, 80, 100, 132, 400])
def test_a_table_fits_its_terminal_and_no_id_is_cut(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    Screen(columns).show_table(TABLE)
    shown = capsys.readouterr().out.splitlines()
    assert max(map(width_of, shown)) <= columns
    assert [row.startswith(RUN) for row in shown].count(True) == 2
    assert (len(shown) == 3) == (columns > 100), "a row that has no room takes several lines"


def test_what_tells_how_things_are_has_colour_and_nothing_else_has(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(0, colours=True).show_table(TABLE)
    names, failed, completed = capsys.readouterr().out.splitlines()
    assert names.startswith("\x1b[1mRUN ")
    assert failed.count("\x1b[") == 2
    assert "\x1b[31mfailed" in failed
    assert "\x1b[32mcompleted" in completed


@pytest.mark.parametrize(
    ("variables", "on_a_terminal", "in_a_pipe"),
    [
        ({}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colour_is_where_a_terminal_is_or_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], on_a_terminal: bool, in_a_pipe: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    leader, follower = pty.openpty()
    reader, writer = os.pipe()
    with os.fdopen(follower, "w") as terminal, os.fdopen(writer, "w") as pipe:
        assert (has_colours(terminal), has_colours(pipe)) == (on_a_terminal, in_a_pipe)
    os.close(leader)
    os.close(reader)
    assert not has_colours(None)


def test_a_pipe_gets_a_table_whole_and_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_table(TABLE[0], TABLE[1:])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "at length" in shown
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_table(TABLE[0], TABLE[1:])
    assert "\x1b[31mfailed" in capsys.readouterr().out


class Terminal(io.StringIO):
    """A terminal that says what was shown since it was asked last."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def test_what_takes_long_is_told_of_while_it_does_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    items = progress.watched("verifying", ["a", "b"])
    assert next(items) == "a"
    assert terminal.shown() == "\r\x1b[2K"
    assert next(items) == "b"
    assert terminal.shown() == "\r\x1b[2Kverifying: 1 …\r\x1b[2K"
    assert list(items) == []
    assert terminal.shown().endswith("\r\x1b[2K"), "nothing of it is left on the line"
    with progress.working("exporting x"):
        assert terminal.shown() == "\r\x1b[2Kexporting x …"
    assert terminal.shown() == "\r\x1b[2K"
    assert list(progress.watched("verifying", ["a"], quiet=True)) == ["a"]
    assert terminal.shown() == ""
    with pytest.raises(ValueError, match="went wrong"), progress.working("exporting x"):
        raise ValueError("it went wrong")
    assert terminal.shown().endswith("\r\x1b[2K")


def test_a_pipe_is_told_nothing_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.watched("verifying", range(1000))) == list(range(1000))
    with progress.working("exporting x"):
        pass
    assert capsys.readouterr() == ("", "")
