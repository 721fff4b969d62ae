"""Does a wait end when what is waited for is there, when it cannot come, and when the time is over?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from merlin_es import arrival
from merlin_es.arrival import wait_for
from merlin_es.deciders.expectation import Expectation, can_come, expect, is_met
from merlin_es.errors import NeverComes, NotFound, Usage
from projections.events import run as r
from projections.lifecycle import AFTER_THE_END, NEXT, can_happen, reachable
from projections.projection import event_types
from projections.statuses import STATUSES, TERMINAL
from tests.examples import ROOT
from tests.past_examples import STREAM, log_in, past_of, record
from tests.run_examples import RUN, RUN_EVENTS, completed, failed, intended, requested, run_after, started, submitted

BEGUN: Sequence[r.RunEvent] = (requested(), intended(), submitted())


def test_what_can_follow_is_what_the_diagram_of_the_readme_says() -> None:
    diagram = (ROOT / "projections" / "README.md").read_text().partition("stateDiagram-v2")[2].partition("```")[0]
    arrows = [line.replace(" --> ", " ").replace(": ", " ").split() for line in diagram.splitlines() if ": " in line]
    drawn = {(source, kind, target) for source, target, kind in arrows if source != "[*]"}
    assert drawn == {(source, kind, target) for source, events in NEXT.items() for kind, target in events.items()}


@pytest.mark.parametrize("status", STATUSES)
def test_nothing_leads_away_from_an_end(status: str) -> None:
    assert bool(reachable(status)) == (status in NEXT)
    assert not TERMINAL & set(NEXT)
    possible = {kind for kind in event_types() if kind.startswith("run.") and can_happen(kind, status)}
    if status in TERMINAL:
        assert possible <= AFTER_THE_END
    elif status in NEXT:
        assert {"run.cancelled", "run.blocked", "run.submitted"} <= possible
    assert "run.requested" not in possible


@pytest.mark.parametrize("first", range(len(RUN_EVENTS)))
def test_what_is_said_to_be_impossible_changes_no_status(first: int) -> None:
    for second in RUN_EVENTS:
        record_before = run_after(requested(), RUN_EVENTS[first])
        record_after = run_after(requested(), RUN_EVENTS[first], second)
        assert record_before
        assert record_after
        if record_after.status != record_before.status and record_before.status not in TERMINAL:
            assert can_happen(second.type, record_before.status) or second.type == "run.submission_started"


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("running", Expectation(status="running")),
        ("run.started", Expectation(event="run.started")),
        ("started", None),
        ("logs_captured", Expectation(event="run.logs_captured")),
        ("failed", Expectation(status="failed")),
    ],
)
def test_what_is_waited_for_is_read(what: str, wanted: Expectation | None) -> None:
    if wanted:
        assert expect(what, {}, 1, event_types()) == wanted
    else:
        with pytest.raises(Usage, match=r"may be cluster\.started or run\.started"):
            expect(what, {}, 1, event_types())


@pytest.mark.parametrize("what", ["", "run.startd", "runing", "frob"])
def test_what_nobody_can_wait_for_is_refused(what: str) -> None:
    with pytest.raises(Usage, match=r"did you mean|a status is one of"):
        expect(what, {}, 1, event_types())


@pytest.mark.parametrize(
    ("matches", "met"),
    [
        ({}, True),
        ({"exit_code": "3"}, True),
        ({"exit_code": "4"}, False),
        ({"kind": "user", "exit_code": "3"}, True),
        ({"kind": "user", "exit_code": "4"}, False),
        ({"nothing": "null"}, False),
        ({"nested.0.deep": "true"}, True),
        ({"nested.1.deep": "true"}, False),
        ({"nested": '[{"deep": true}]'}, True),
    ],
)
def test_all_fields_that_are_named_must_be_as_named(matches: dict[str, str], met: bool) -> None:
    data = {"exit_code": 3, "kind": "user", "nested": [{"deep": True}]}
    assert is_met(Expectation(event="run.failed", matches=matches), "run.failed", data, "failed") == met
    assert not is_met(Expectation(event="run.failed", matches=matches), "run.lost", data, "failed")


class Life:
    """A run to which something happens each time that somebody looks, and a clock that goes on by a second."""

    def __init__(self, root: Path, before: Sequence[r.RunEvent], *after: r.RunEvent) -> None:
        self.log = log_in(root)
        self.past = past_of(root, self.log)
        record(self.log, STREAM, before)
        self.after = list(after)
        self.looks = 0
        self.seconds = itertools.count()

    def look(self) -> None:
        self.looks += 1
        if self.after:
            record(self.log, STREAM, [self.after.pop(0)])

    def wait(self, wanted: Expectation, limit_s: float | None = 100) -> arrival.Arrival:
        return wait_for(self.past, RUN, wanted, self.look, lambda: float(next(self.seconds)), limit_s)


@pytest.mark.parametrize(
    ("wanted", "seq", "looks"),
    [
        (Expectation(event="run.submitted"), 3, 0),
        (Expectation(status="requested"), 1, 0),
        (Expectation(event="run.started"), 4, 1),
        (Expectation(status="running"), 4, 1),
        (Expectation(event="run.failed", matches={"exit_code": "3"}), 5, 2),
        (Expectation(status="failed", matches={"kind": "user"}), 5, 2),
    ],
)
def test_a_wait_ends_at_once_or_as_soon_as_it_is_there(
    tmp_path: Path, wanted: Expectation, seq: int, looks: int
) -> None:
    life = Life(tmp_path, BEGUN, started(), failed())
    found = life.wait(wanted)
    assert found.event
    assert (found.event.seq, life.looks) == (seq, looks)


def test_a_status_is_had_when_it_was_entered_and_not_while_it_lasts(tmp_path: Path) -> None:
    again = r.AttemptFailed(attempt=1, source="ray", kind="never_started", message="no node", exit_code=1)
    noise = r.AnomalySeen(what="w", message="m")
    life = Life(tmp_path, [*BEGUN, noise, noise], again, intended(2), submitted(2))
    found = life.wait(Expectation(status="submitted", count=2))
    assert found.event
    assert found.event.seq == 8


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ((*BEGUN, started(), completed()), Expectation(event="run.failed")),
        ((*BEGUN, started(), completed()), Expectation(status="lost")),
        ((*BEGUN, started(), completed()), Expectation(event="run.started", count=2)),
        ((*BEGUN, started(), completed()), Expectation(status="completed", matches={"exit_code": "1"})),
        (BEGUN, Expectation(event="run.requested", count=2)),
    ],
)
def test_a_wait_for_what_can_no_longer_come_ends(
    tmp_path: Path, before: Sequence[r.RunEvent], wanted: Expectation
) -> None:
    life = Life(tmp_path, before)
    with pytest.raises(NeverComes, match="can no longer come"):
        life.wait(wanted, None)
    assert life.looks == 0


def test_a_wait_ends_when_the_run_does_in_another_way(tmp_path: Path) -> None:
    life = Life(tmp_path, BEGUN, started(), completed())
    with pytest.raises(NeverComes, match=r"is completed, so run\.lost can no longer come"):
        life.wait(Expectation(event="run.lost"), None)


def test_a_wait_ends_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "STEP_S", 0.0)
    life = Life(tmp_path, BEGUN)
    found = life.wait(Expectation(event="run.started"), 5)
    assert (found.event, found.status) == (None, "submitted")
    assert 3 <= life.looks <= 6


def test_what_may_come_after_the_end_can_be_waited_for(tmp_path: Path) -> None:
    life = Life(tmp_path, [*BEGUN, started(), completed()], r.AnomalySeen(what="alive_after_end", message="m"))
    found = life.wait(Expectation(event="run.anomaly_seen"))
    assert found.event
    assert found.event.seq == 6
    assert can_come(Expectation(event="lease.released"), "completed"), "of other streams nobody can tell"


def test_nobody_waits_for_a_run_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        wait_for(past_of(tmp_path), RUN, Expectation(status="running"), lambda: None, lambda: 0.0)
