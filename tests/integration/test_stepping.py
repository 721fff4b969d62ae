"""Can somebody step through a log, however long it is, and see what was there?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from eventlog import Append, FileLog
from merlin_es.cli.stepper import Stepper
from merlin_es.past import Past
from merlin_es.walk import Walk
from projections.events import run as r
from projections.history import documents
from projections.snapshots import Snapshots
from tests.conftest import Figure
from tests.examples import ROOT
from tests.past_examples import STREAM, a_life, log_in, past_of, record
from tests.run_examples import BLOCKED, RUN, intended, requested, submitted

Drive = Callable[["Screen"], Awaitable[None]]


class Screen:
    """Somebody at the keys, who reads what is shown."""

    def __init__(self, app: Stepper, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, key: str, text: str) -> None:
        await self.press(key, *text, "enter")

    def text(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}", Static).render())


def drive(walk: Walk, what: Drive, *, seq: int = 1, size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        app = Stepper(walk, seq)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await what(Screen(app, pilot))

    asyncio.run(run())


def long_past(root: Path, count: int, every: int = 512) -> Past:
    log = log_in(root)
    record(log, STREAM, [requested(), intended(), submitted()])
    waits = [
        Append((r.PendingExplained(attempt=1, reason="resources", message=f"look {number}").recorded_by("ada", "cli"),))
        for number in range(4, count + 1)
    ]
    for first in range(0, len(waits), 512):
        log.commit(STREAM, waits[first : first + 512])
    return past_of(root, log, every=every)


def test_forward_and_back_show_the_event_and_the_state_with_what_changed_marked(tmp_path: Path) -> None:
    async def steps(screen: Screen) -> None:
        assert f"{STREAM}  #1 of 6" in screen.text("where")
        assert "run.requested" in screen.text("story")
        await screen.press("right", "n", "space")
        assert "#4 of 6" in screen.text("where")
        assert "because of #3 run.submitted" in screen.text("story")
        assert "/status submitted → running" in screen.text("story")
        state = screen.text("fields")
        assert "● status  running  (was submitted)" in state
        assert "● attempts/0/node_id  n1  (was null)" in state
        assert "  target  saturn" in state
        await screen.press("left")
        assert "● status  submitted  (was requested)" in screen.text("fields")

    drive(Walk(a_life(tmp_path), STREAM), steps)


def test_the_ends_are_ends(tmp_path: Path) -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("left")
        assert "this is the first event" in screen.text("said")
        await screen.press("end", "right")
        assert "#6 of 6" in screen.text("where")
        assert "this is the last event" in screen.text("said")
        await screen.press("home")
        assert "#1 of 6" in screen.text("where")

    drive(Walk(a_life(tmp_path), STREAM), steps)


def test_a_jump_takes_every_form_of_a_moment_and_a_wrong_one_is_answered(tmp_path: Path) -> None:
    async def steps(screen: Screen) -> None:
        for moment, seq in (("5", 5), ("run.submitted", 3), ("2026-11-23T07:00:01.5Z", 2), ("1h", 1)):
            await screen.type("j", moment)
            assert screen.app.seq == seq, moment
        await screen.type("colon", "99")
        assert "no event #99" in screen.text("said")
        await screen.press("j", "4", "escape", "right")
        assert screen.app.seq == 2, "what is not answered changes nothing"

    drive(Walk(a_life(tmp_path), STREAM), steps)


def test_a_search_goes_on_and_back_and_says_when_there_is_nothing(tmp_path: Path) -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("N")
        assert "nothing was searched for yet" in screen.text("said")
        await screen.type("slash", "ATTEMPT")
        assert screen.app.seq == 2
        await screen.press("N", "N")
        assert screen.app.seq == 4
        await screen.press("B")
        assert screen.app.seq == 3
        await screen.type("slash", "nothing like it")
        assert screen.app.seq == 3
        assert "no event after this one has 'nothing like it'" in screen.text("said")

    drive(Walk(a_life(tmp_path), STREAM), steps)


def test_artifacts_and_what_was_open_are_shown_as_they_were(tmp_path: Path) -> None:
    async def artifacts(screen: Screen) -> None:
        await screen.press("end")
        assert "0/name  a.txt" in screen.text("fields")
        await screen.type("j", "4")
        assert "a.txt" not in screen.text("fields")
        assert "run_request.json" not in screen.text("fields")
        await screen.press("f")
        assert "run_request.json" in screen.text("fields")

    async def blocked(screen: Screen) -> None:
        assert "? blocked: start a cluster" in screen.text("fields")
        await screen.press("right")
        assert "?" not in screen.text("fields").split()

    drive(Walk(a_life(tmp_path / "a"), STREAM), artifacts)
    log = log_in(tmp_path / "b")
    record(log, STREAM, [requested(), BLOCKED, r.RunUnblocked()])
    drive(Walk(past_of(tmp_path / "b", log), STREAM), blocked, seq=2)


def test_what_others_wrote_is_shown_and_does_nothing(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    evil = "[bold]x[/bold] \x1b]0;title\x07\x1b[31mred\nline [/nothing"
    record(log, STREAM, [requested(workflow=evil)])

    async def look(screen: Screen) -> None:
        for side in ("fields", "story"):
            assert "\x1b" not in screen.text(side)
            assert "[bold]x[/bold]" in screen.text(side)

    drive(Walk(past_of(tmp_path, log), STREAM), look)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 60)])
def test_it_fits_every_terminal_and_can_be_scrolled(tmp_path: Path, size: tuple[int, int]) -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("end", "pagedown", "pageup", "right", "left")
        assert screen.app.seq == 5

    drive(Walk(a_life(tmp_path), STREAM), steps, size=size)


def test_what_is_recorded_meanwhile_can_be_gone_to(tmp_path: Path) -> None:
    past = a_life(tmp_path)

    async def steps(screen: Screen) -> None:
        await screen.press("end")
        record(past.log, STREAM, [r.AnomalySeen(what="alive_after_end", message="m")])
        await screen.press("right")
        assert "#7 of 7" in screen.text("where")
        assert "/anomalies/0 not there → alive_after_end" in screen.text("story")
        assert "● anomalies" in screen.text("fields")

    drive(Walk(past, STREAM), steps)


class Counting:
    """A log that counts the events that are read of it."""

    def __init__(self, log: FileLog) -> None:
        self._log = log
        self.count = 0

    def read(self, stream: str, first: int = 1):  # type: ignore[no-untyped-def]  # noqa: ANN201  that of the log
        for event in self._log.read(stream, first):
            self.count += 1
            yield event

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


def test_a_step_in_a_long_log_folds_nothing_and_a_jump_one_stretch(tmp_path: Path, figure: Figure) -> None:
    past = long_past(tmp_path, 5_000)
    counting = Counting(past.log)
    past = Past(counting, tmp_path, past.now, Snapshots(counting, tmp_path))  # type: ignore[arg-type]  # it is one, and counts
    walk = Walk(past, STREAM)
    for _ in walk.warm():
        pass
    assert 5_000 <= counting.count <= 5_100
    jumps = (1, 4_999, 2_500, 2_560, 2_561, 5_000, 513, 512, 2)
    costs = []
    for seq in jumps:
        counting.count = 0
        assert walk.see(seq).stand.state.record.seq == seq
        costs.append(counting.count)
    assert max(costs) <= 515, "which is less than the way back to what led to most of them"
    counting.count = 0
    for seq in (*range(3, 200), *range(200, 3, -1)):
        walk.see(seq)
    assert counting.count == 0
    figure(f"a jump in 5,000 events reads at most {max(costs)} of them, a step none")


def test_a_walk_sees_what_a_fold_does_from_both_sides_of_every_stretch(tmp_path: Path) -> None:
    past = long_past(tmp_path, 60, every=7)
    walk = Walk(past, STREAM)
    for seq in (60, *range(1, 61), *range(60, 0, -1), 8, 7, 14, 15, 1):
        sight = walk.see(seq)
        assert sight.event.seq == seq
        assert walk.documents(sight) == documents(STREAM, past.at(STREAM, seq))
        assert (sight.because and sight.because.event.seq) == min(3, seq - 1) or seq == 1
    assert walk.find("look 40", 1) == 40
    assert walk.find("look 4", 41, backwards=True) == 40
    assert walk.find("look 4", 1, backwards=True) is None


def test_without_a_terminal_or_without_textual_it_says_what_to_do(tmp_path: Path) -> None:
    a_life(tmp_path)
    words = [*("ray", "--state-root", str(tmp_path), "replay", RUN, "--step")]
    hide = "import sys; sys.modules['textual'] = None; sys.argv[0] = 'merlin'; from merlin_es.cli import main; main()"
    show = hide.replace("sys.modules['textual'] = None; ", "")
    for program, said in ((hide, "pip install 'merlin-es[tui]'"), (show, "needs a terminal")):
        done = subprocess.run(
            [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 3
