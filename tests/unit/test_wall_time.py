"""Is every time that people see, or give, counted by the one clock, wherever that stands?

Order never comes of it; ages, ids, `24h` and what was used for how long do.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory

from projections.events import lease as e
from projections.layout import RESOURCES, run_record_path
from tests.lease_examples import LEASE_EVENTS, QUEUED, granted
from tests.past_examples import BEGIN, OTHER, Hands, Type, log_in, record
from tests.run_examples import RUN

DRY = ("--dry-run", "jobs", "submit", "--target", "b", "--workflow", "w", "--target-dir", ".", "--", "true")


def test_ids_and_events_are_dated_by_the_clock_of_whoever_asks(type_: Type, clock: FrozenDateTimeFactory) -> None:
    clock.move_to("2031-02-03T04:05:06.789Z")
    run_id = type_(*DRY).lines[0].removeprefix("Run ID: ")
    assert run_id.startswith("b-20310203040506-")
    [row] = type_("jobs", "list", "-o", "json").json
    assert row["created_at"].startswith("20"), "the log has its own clock"
    assert type_("jobs", "status", run_id, "-o", "json").json["created_at"] == row["created_at"]


@pytest.mark.parametrize(
    ("since", "count"),
    [("1h59m54s", 1), ("7195s", 1), ("1h59m55s ago", 1), ("2h", 2), ("1d", 2), ("1h", 0), ("2026-11-23T07:00:05Z", 1)],
)
def test_runs_since_are_counted_from_now(hands: Hands, type_: Type, since: str, count: int) -> None:
    assert len(type_("jobs", "list", "--since", since, "-o", "json").json) == count


def test_runs_of_the_last_day_are_others_three_weeks_later(
    hands: Hands, type_: Type, clock: FrozenDateTimeFactory
) -> None:
    def listed(since: str) -> list[str]:
        return [row["run_id"] for row in type_("jobs", "list", "--since", since, "-o", "json").json]

    assert listed("24h") == [OTHER, RUN]
    clock.tick(timedelta(days=21))
    assert (listed("24h"), listed("4w")) == ([], [OTHER, RUN])
    clock.move_to(BEGIN - timedelta(days=365))
    assert listed("24h") == [OTHER, RUN], "a clock that was set back hides nothing"


def uses(type_: Type, *words: str) -> dict[str, Any]:
    return {use["key"]: use for use in type_("resources", "report", "-o", "json", *words).json}


def test_a_report_counts_until_now_what_is_still_held(
    hands: Hands, type_: Type, tmp_path: Path, clock: FrozenDateTimeFactory
) -> None:
    record(log_in(tmp_path / "s", hands), RESOURCES, [e.ResourceDeclared(key="u250"), QUEUED, granted()])
    active_s = uses(type_)["u250"]["active_s"]
    assert 7100 < active_s < 7200, "two hours, less the seconds before it was granted"
    clock.tick(timedelta(hours=1))
    assert uses(type_)["u250"]["active_s"] == active_s + 3600
    assert uses(type_, "--since", "1h30m")["u250"] | {"grants": 0} == uses(type_, "--since", "90m")["u250"]
    assert uses(type_, "--since", "1h30m")["u250"]["active_s"] == 5400
    assert uses(type_, "--since", "90m ago")["u250"]["free_s"] == 0
    row = next(line for line in type_("resources", "report", "--since", "90m").lines if line.startswith("u250"))
    assert row.split()[:3] == ["u250", "100%", "90m"]


def test_a_report_by_a_clock_that_was_set_back_has_no_negative_times(
    hands: Hands, type_: Type, tmp_path: Path, clock: FrozenDateTimeFactory
) -> None:
    record(log_in(tmp_path / "s", hands), RESOURCES, LEASE_EVENTS)
    clock.move_to(BEGIN - timedelta(days=1))
    for use in uses(type_).values():
        assert min(use["free_s"], use["active_s"], use["drained_s"], *use["owners"].values()) >= 0


def test_who_held_a_key_how_long_ago_is_counted_from_now(
    hands: Hands, type_: Type, tmp_path: Path, clock: FrozenDateTimeFactory
) -> None:
    record(log_in(tmp_path / "s", hands), RESOURCES, LEASE_EVENTS)

    def owners(*words: str) -> list[str]:
        return [lease["owner"] for lease in type_("resources", "list", "-o", "json", *words).json]

    assert owners("--at", "1h59m38s ago") == ["ada", "ada"]
    assert owners("--at", "lease.transferred") == ["eve", "ada"]
    assert owners("--at", "10") == ["ada", "ada"]
    assert type_("resources", "who", "u250", "--at", "1h59m38s ago").lines[1] == "Owner: eve"
    clock.tick(timedelta(minutes=1))
    assert owners("--at", "1h59m38s ago") == []
    assert type_("resources", "list", "--at", "lease.frob").code == 3


def test_everything_now_is_dated_now(hands: Hands, type_: Type, clock: FrozenDateTimeFactory) -> None:
    assert type_("state").lines[0] == "as of  2026-11-23T09:00:00.000000Z"
    clock.tick(timedelta(days=21))
    assert type_("state").lines[0] == "as of  2026-12-14T09:00:00.000000Z"
    assert "no answer since 2026-11-23T07:00:12" in type_("state").out
    assert type_("state", "--at", "3w ago").lines[0] == "as of  2026-11-23T09:00:00.000000Z"


def test_the_doctor_sees_a_clock_that_is_ahead_of_this_one(
    hands: Hands, type_: Type, clock: FrozenDateTimeFactory
) -> None:
    def clocks() -> list[str]:
        return [each["severity"] for each in type_("doctor", "-o", "json").json if each["check"] == "clocks"]

    assert clocks() == ["fine"]
    clock.move_to(BEGIN - timedelta(days=1))
    assert "fine" not in clocks()


@pytest.mark.parametrize("words", [("replay", RUN, "--from"), ("events", RUN, "--since")])
def test_how_far_back_a_story_is_told_is_counted_from_now(
    hands: Hands, type_: Type, clock: FrozenDateTimeFactory, words: tuple[str, ...]
) -> None:
    def told(ago: str) -> int:
        return sum(line.startswith("2026-11-23T07:00:") for line in type_(*words, ago).lines)

    assert 0 < told("1h59m56s ago") < told("1h59m58s ago") <= told("3h ago"), "before the first is from the first on"
    before = told("1h59m56s ago")
    clock.tick(timedelta(seconds=2))
    assert told("1h59m58s ago") == before


def test_a_file_says_when_things_happened_and_never_when_it_was_written(
    hands: Hands, type_: Type, tmp_path: Path, clock: FrozenDateTimeFactory
) -> None:
    path, contents = run_record_path(tmp_path / "s", RUN), set()
    for days in (0, 21, -900):
        clock.move_to(BEGIN + timedelta(days=days))
        path.unlink(missing_ok=True)
        assert type_("rebuild").code == 0
        contents.add(path.read_bytes())
    assert len(contents) == 1
