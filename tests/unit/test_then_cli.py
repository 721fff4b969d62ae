"""Do the verbs that show what is also show what was, in the same lines?"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory

from projections.events import run as r
from projections.layout import CLUSTER, run_stream
from tests.past_examples import BEGIN, OTHER, Hands, Type, log_in, record
from tests.run_examples import RUN, indexed


@pytest.mark.parametrize(
    ("moment", "status", "seq"),
    [
        ("1", "requested", 1),
        ("2", "blocked", 2),
        ("run.started", "running", 6),
        ("2026-11-23T07:00:08Z", "blocked", 2),
        ("1h59m51s ago", "requested", 3),
        ("8", "failed", 8),
    ],
)
def test_the_status_of_a_run_at_a_moment_has_the_lines_of_today(
    hands: Hands, type_: Type, moment: str, status: str, seq: int
) -> None:
    done = type_("jobs", "status", OTHER, "--at", moment)
    assert done.code == 0, done.err
    assert done.lines[:2] == [f"Run ID: {OTHER}", f"Status: {status}"]
    assert re.fullmatch(rf"As of: #{seq} run\.\w+ at 2026-11-23T07:00:\d\d\.000000Z", done.lines[-1])
    then = type_("jobs", "status", OTHER, "--at", moment, "-o", "json").json
    assert then == type_("state", OTHER, "--at", moment, "-o", "json").json[f"runs/{OTHER}/run_record.json"]
    assert (then["status"], then["as_of"]["seq"]) == (status, seq)


def test_the_list_of_runs_at_a_time_has_those_that_were_there_as_they_were(hands: Hands, type_: Type) -> None:
    def listed(*words: str) -> list[tuple[str, str]]:
        return [(row["run_id"], row["status"]) for row in type_("jobs", "list", "-o", "json", *words).json]

    assert listed() == [(OTHER, "failed"), (RUN, "completed")]
    assert listed("--at", "2026-11-23T06:59") == []
    assert listed("--at", "2026-11-23T07:00:01Z") == [(RUN, "requested")]
    assert listed("--at", "2026-11-23T07:00:08Z") == [(OTHER, "blocked"), (RUN, "completed")]
    assert listed("--at", "2026-11-23T07:00:08Z", "--status", "blocked") == [(OTHER, "blocked")]
    assert listed("--at", "2026-11-23T07:00:08Z", "--status", "failed") == []
    assert listed("--at", "2026-11-23T07:00:08Z", "--limit", "1") == [(OTHER, "blocked")]
    assert listed("--at", "2026-11-23T07:00:08Z", "--target", "nobody") == []
    rows = type_("jobs", "list", "--at", "2026-11-23T07:00:08Z").lines
    assert [row.split()[:2] for row in rows] == [["RUN", "STATUS"], [OTHER, "blocked"], [RUN, "completed"]]


def test_how_long_ago_a_list_was_is_counted_from_now(hands: Hands, type_: Type, clock: FrozenDateTimeFactory) -> None:
    def statuses() -> list[str]:
        return [row["status"] for row in type_("jobs", "list", "--at", "1h59m52s ago", "-o", "json").json]

    assert statuses() == ["blocked", "completed"]
    clock.tick(timedelta(minutes=1))
    assert statuses() == ["failed", "completed"]
    clock.move_to(BEGIN + timedelta(days=21))
    assert type_("jobs", "list", "--at", "3w ago").out == "No runs.\n"


def test_the_artifacts_of_a_moment_are_those_that_were_indexed_by_then(
    hands: Hands, type_: Type, tmp_path: Path
) -> None:
    record(log_in(tmp_path / "s", hands), run_stream(OTHER), [indexed("b.txt", "late.txt")])
    assert type_("artifacts", "list", OTHER, "--at", "6").out == "No artifacts.\n"
    assert [line.split()[0] for line in type_("artifacts", "list", OTHER, "--at", "run.failed").lines] == ["b.txt"]
    assert [row["name"] for row in type_("artifacts", "list", OTHER, "--at", "9", "-o", "json").json] == [
        "b.txt",
        "late.txt",
    ]


def test_the_cluster_of_a_moment_is_told_without_asking_anybody(hands: Hands, type_: Type) -> None:
    done = type_("cluster", "status", "--at", "cluster.started")
    assert done.code == 0
    assert "Status: active" in done.lines
    assert done.lines[-1] == "Message: as recorded at 2026-11-23T07:00:00.000000Z (#1); nobody was asked"
    assert not any(line.startswith("Unreachable since") for line in done.lines)
    later = type_("cluster", "status", "--at", "2", "-o", "json").json
    assert (later["recorded_status"], later["unreachable_since"]) == ("active", "2026-11-23T07:00:12.000000Z")


def test_a_list_says_when_a_clock_went_back_before_that_time(hands: Hands, type_: Type, tmp_path: Path) -> None:
    for seconds in (5, 60):
        hands.at = BEGIN + timedelta(seconds=seconds)
        record(log_in(tmp_path / "s", hands), run_stream(OTHER), [r.AnomalySeen(what="w", message="m")])
    done = type_("jobs", "list", "--at", "2026-11-23T07:00:08Z")
    assert done.code == 0
    assert done.err == f"merlin: the clock went back in run/{OTHER}: it may have stood elsewhere\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("jobs", "list", "--at", "4"), 2, "counts in one stream"),
        (("jobs", "list", "--at", "soon"), 2, "is no moment"),
        (("jobs", "status", OTHER, "--at", "9"), 3, "has no event #9"),
        (("jobs", "status", "nobody", "--at", "1"), 3, "there is no run 'nobody'"),
        (("jobs", "status", CLUSTER, "--at", "1"), 3, "is no run"),
        (("artifacts", "list", OTHER, "--at", "2026-11-22"), 3, "its first event is #1 run.requested"),
        (("artifacts", "list", "../x", "--at", "1"), 3, "there is no run"),
        (("cluster", "status", "--at", "2026-11-22"), 3, "its first event is #1 cluster.started"),
    ],
)
def test_a_moment_that_is_not_there_is_answered_in_three_lines(
    hands: Hands, type_: Type, words: tuple[str, ...], code: int, said: str
) -> None:
    done = type_(*words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 3


def test_without_a_cluster_there_was_none(type_: Type) -> None:
    done = type_("cluster", "status", "--at", "1h ago")
    assert done.code == 3
    assert "merlin ray cluster start-local" in done.err
