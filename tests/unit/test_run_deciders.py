"""What may somebody ask of a run, what comes of it, and what of asking twice?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from merlin_es.commands import SubmitRun
from merlin_es.deciders import run as rules
from merlin_es.deciders.outcome import ATTEMPTS_MAX
from merlin_es.errors import Refused
from projections.events.run import RunCompleted, RunEvent, RunLost
from projections.run_record import RunRecord
from tests.looks import (
    RUN,
    adopted,
    after,
    at,
    cancelling,
    intended,
    repeated,
    requested,
    running,
    submitted,
)

WISH = SubmitRun(RUN, "saturn", "bringup", "cli", ("make", "test"), "/srv", "/srv/saturn", timeout_s=60.0)


def types(events: tuple[RunEvent, ...]) -> list[str]:
    return [event.type.removeprefix("run.") for event in events]


def blocked(record: RunRecord, second: float = 5) -> RunRecord:
    return after(record, *rules.block("no_cluster", "start one", record), second=second)


def lost(record: RunRecord, second: float = 5) -> RunRecord:
    assert record.attempt
    event = RunLost(
        attempt=record.attempt.number,
        reason="cluster_restarted",
        never_started=False,
        asked="",
        answered="unknown",
        message="",
    )
    return after(record, event, second=second)


def completed() -> RunRecord:
    return after(running(requested()), RunCompleted(attempt=1, source="ray", exit_code=0), second=9)


# request


def test_a_wish_is_recorded_as_it_was_made() -> None:
    (event,) = rules.request(WISH, None)
    record = after(None, event, second=0)
    assert (record.status, record.run_id, record.request.command) == ("requested", RUN, ("make", "test"))
    assert (record.request.timeout_s, record.request.retries_max) == (60.0, 0)


@pytest.mark.parametrize("known", [requested(), running(requested()), completed()], ids=lambda each: each.status)
def test_a_wish_that_is_known_is_not_recorded_again(known: RunRecord) -> None:
    assert rules.request(WISH, known) == ()


# record_dry_run


def test_a_dry_run_ends_a_wish_once() -> None:
    events = rules.record_dry_run("true", requested())
    assert types(events) == ["dry_run_recorded"]
    record = after(requested(), *events, second=1)
    assert record.is_terminal
    assert rules.record_dry_run("true", record) == ()


@pytest.mark.parametrize(
    "record",
    [intended(requested()), running(requested()), completed(), blocked(requested()), repeated(running(requested()), 5)],
    ids=["intended", "running", "completed", "blocked", "to be repeated"],
)
def test_a_run_that_was_asked_for_in_earnest_does_not_become_a_dry_run(record: RunRecord) -> None:
    with pytest.raises(Refused, match="in earnest"):
        rules.record_dry_run("true", record)


# block


def test_a_run_that_ray_cannot_take_is_blocked_and_told_once_for_each_reason() -> None:
    record = blocked(requested())
    assert (record.status, record.blocked_reason, record.message) == ("blocked", "no_cluster", "start one")
    assert rules.block("no_cluster", "start one", record) == ()
    assert types(rules.block("unauthorized", "give a token", record)) == ["blocked"]


@pytest.mark.parametrize(
    "record",
    [
        intended(requested()),
        submitted(requested()),
        running(requested()),
        completed(),
        lost(running(requested())),
        cancelling(repeated(running(requested()), 5), 6),
    ],
    ids=["intended", "submitted", "running", "completed", "lost", "to end"],
)
def test_what_ray_may_have_and_what_is_to_end_is_not_blocked(record: RunRecord) -> None:
    assert rules.block("no_cluster", "start one", record) == ()


# retry


@pytest.mark.parametrize("stuck", [blocked(requested()), lost(running(requested()))], ids=["blocked", "lost"])
def test_a_run_that_is_stuck_is_submitted_after_all_and_twice_is_once(stuck: RunRecord) -> None:
    events = rules.retry(stuck)
    assert types(events) == ["unblocked"]
    record = after(stuck, *events, second=6)
    assert record.status == "requested"
    assert rules.retry(record) == ()


@pytest.mark.parametrize(
    "record", [requested(), intended(requested()), running(requested())], ids=["requested", "intended", "running"]
)
def test_a_run_that_is_under_way_is_not_begun_anew(record: RunRecord) -> None:
    assert rules.retry(record) == ()


def test_what_has_ended_is_not_begun_anew() -> None:
    with pytest.raises(Refused, match=f"{RUN} is completed since {at(9)}, and that is final"):
        rules.retry(completed())


@pytest.mark.parametrize(
    "make", [lambda: lost(cancelling(running(requested()), 4)), lambda: cancelling(running(requested()), 4)]
)
def test_what_is_to_end_is_not_begun_anew_since_its_tombstone_would_keep_it_from_starting(
    make: Callable[[], RunRecord],
) -> None:
    with pytest.raises(Refused, match=f"is to end since {at(4)}"):
        rules.retry(make())


def test_there_is_a_last_attempt() -> None:
    record = requested()
    for number in range(ATTEMPTS_MAX):
        record = lost(submitted(record, 10.0 * number + 2), 10.0 * number + 5)
        if number < ATTEMPTS_MAX - 1:
            record = after(record, *rules.retry(record), second=10.0 * number + 6)
    with pytest.raises(Refused, match=f"has had {ATTEMPTS_MAX} attempts"):
        rules.retry(record)


# cancel


@pytest.mark.parametrize(
    "record",
    [
        requested(),
        blocked(requested()),
        repeated(running(requested()), 5),
        blocked(repeated(running(requested()), 5), 6),
        after(lost(running(requested())), *rules.retry(lost(running(requested()))), second=6),
    ],
    ids=["requested", "blocked", "to be repeated", "blocked before it was repeated", "to be submitted after all"],
)
def test_what_ray_has_nothing_of_is_cancelled_at_once_and_earlier_attempts_stay_as_they_ended(
    record: RunRecord,
) -> None:
    before = record.attempts
    events = rules.cancel(record)
    assert types(events) == ["cancel_requested", "cancelled"]
    record = after(record, *events, second=9)
    assert record.status == "cancelled"
    assert record.attempts == before
    assert rules.cancel(record) == ()


@pytest.mark.parametrize(
    "record",
    [intended(requested()), submitted(requested()), running(requested()), adopted()],
    ids=["intended", "submitted", "running", "adopted"],
)
def test_what_ray_may_have_is_only_wished_to_end_once(record: RunRecord) -> None:
    events = rules.cancel(record)
    assert types(events) == ["cancel_requested"]
    record = after(record, *events, second=9)
    assert not record.is_terminal
    assert rules.cancel(record) == ()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (lost(running(requested())), ["cancel_requested", "cancelled"]),
        (lost(cancelling(running(requested()), 4)), ["cancelled"]),
    ],
    ids=["wanted until now", "was to end already"],
)
def test_a_lost_run_is_given_up(record: RunRecord, expected: list[str]) -> None:
    events = rules.cancel(record)
    assert types(events) == expected
    record = after(record, *events, second=9)
    assert record.status == "cancelled"
    assert record.attempt
    assert record.attempt.status == "cancelled"


def test_cancelling_what_has_ended_changes_nothing() -> None:
    assert rules.cancel(completed()) == ()


# intend


def intend(record: RunRecord) -> tuple[RunEvent, ...]:
    return rules.intend(record, "http://head:8265", "s2", "true", None)


def test_the_first_attempt_has_the_id_of_the_run_and_is_intended_once() -> None:
    (event,) = intend(requested())
    record = after(requested(), event, second=1)
    assert record.attempt
    assert (record.attempt.number, record.attempt.submission_id, record.attempt.session_name) == (1, RUN, "s2")
    assert intend(record) == ()


@pytest.mark.parametrize(
    ("record", "number"),
    [
        (repeated(running(requested()), 5), 2),
        (repeated(running(repeated(running(requested()), 5), 9), 12), 3),
        (after(lost(running(requested())), *rules.retry(lost(running(requested()))), second=6), 2),
        (repeated(adopted(2), 9), 3),
    ],
    ids=["after a failure", "after two", "after it was lost", "after the second, adopted"],
)
def test_a_further_attempt_has_an_id_that_was_never_used(record: RunRecord, number: int) -> None:
    (event,) = intend(record)
    record = after(record, event, second=20)
    assert record.attempt
    assert (record.attempt.number, record.attempt.submission_id) == (number, f"{RUN}-a{number}")
    assert len({attempt.submission_id for attempt in record.attempts}) == len(record.attempts)


@pytest.mark.parametrize(
    "record",
    [
        blocked(requested()),
        submitted(requested()),
        running(requested()),
        lost(running(requested())),
        completed(),
        cancelling(repeated(running(requested()), 5), 6),
        adopted(),
    ],
    ids=["blocked", "submitted", "running", "lost", "completed", "to end", "adopted"],
)
def test_nothing_is_intended_of_what_is_not_to_be_submitted(record: RunRecord) -> None:
    assert intend(record) == ()
