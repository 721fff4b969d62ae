"""Where does a run stand after each event?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from projections.events import run as r
from projections.projection import run_json
from projections.run_record import RESTING, STATUSES, TERMINAL
from projections.statuses import OPEN
from tests.examples import ROOT
from tests.run_examples import (
    ADOPTED,
    BLOCKED,
    FORKED,
    IMPORTED,
    LEASED,
    REPAIR,
    RUN,
    RUN_EVENTS,
    WAITING,
    at,
    cancelled,
    completed,
    failed,
    indexed,
    intended,
    kinds,
    lost,
    recovered,
    requested,
    run_after,
    started,
    submitted,
    the_run_after,
)

RUNNING = (requested(), intended(), submitted(), started())
REFUSED = r.SubmissionFailed(attempt=1, http_status=500, message="never")
BEGINNINGS = ("run.requested", "run.forked", "run.adopted", "run.imported")
AGAIN = r.AttemptFailed(attempt=1, source="ray", kind="never_started", message="no node", exit_code=1)
DRY = r.DryRunRecorded(entrypoint="e", message="would have")
CANCEL = r.CancelRequested()


def test_there_is_an_example_of_each_event() -> None:
    assert {type(event) for event in RUN_EVENTS} == kinds(r.RunEvent)


@pytest.mark.parametrize(
    ("status", "events"),
    [
        ("requested", [requested()]),
        ("blocked", [requested(), BLOCKED]),
        ("requested", [requested(), BLOCKED, r.RunUnblocked()]),
        ("dry_run", [requested(), DRY]),
        ("requested", [requested(), intended()]),
        ("submitted", [requested(), intended(), submitted()]),
        ("error", [requested(), intended(), REFUSED]),
        ("running", RUNNING),
        ("completed", [*RUNNING, completed()]),
        ("failed", [*RUNNING, failed()]),
        ("requested", [*RUNNING, AGAIN]),
        ("requested", [*RUNNING, AGAIN, intended(2)]),
        ("running", [*RUNNING, CANCEL]),
        ("cancelled", [*RUNNING, CANCEL, cancelled()]),
        ("cancelled", [requested(), CANCEL, cancelled("never_submitted")]),
        ("lost", [*RUNNING, lost()]),
        ("submitted", [*RUNNING, lost(), recovered()]),
        ("requested", [*RUNNING, lost(), r.RunUnblocked()]),
        ("submitted", [ADOPTED]),
        ("requested", [FORKED]),
        ("lost", [replace(IMPORTED, status="lost")]),
    ],
)
def test_each_event_leads_to_the_status_it_says(status: str, events: list[r.RunEvent]) -> None:
    record = the_run_after(*events)
    assert record.status == status
    assert record.seq == len(events)
    assert record.updated_at == at(len(events))


@pytest.mark.parametrize(
    "event",
    [
        r.CancelRequested(),
        r.CancelEscalated(attempt=1, how="reaper", message="m"),
        r.PendingExplained(attempt=1, reason="resources", message="m"),
        r.AnomalySeen(what="w", message="m"),
        r.LogsCaptured(attempt=1, sha256="", size_bytes=0),
        indexed("a"),
        requested(),
        ADOPTED,
        FORKED,
        IMPORTED,
        r.RunLogRepaired.made_of(REPAIR),
    ],
)
@pytest.mark.parametrize("before", [[requested()], RUNNING, [*RUNNING, completed()], [*RUNNING, lost()]])
def test_what_only_adds_to_the_story_leaves_the_status(event: r.RunEvent, before: list[r.RunEvent]) -> None:
    assert the_run_after(*before, event).status == the_run_after(*before).status


def test_the_sets_of_statuses_are_what_they_promise() -> None:
    assert set(STATUSES) >= RESTING > TERMINAL
    assert {"lost", "blocked"} == RESTING - TERMINAL
    assert set(STATUSES) == OPEN | TERMINAL | {"lost"}
    assert "blocked" in OPEN


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_can_be_reached_and_says_what_may_follow(status: str) -> None:
    ways: dict[str, Sequence[r.RunEvent]] = {
        "requested": [requested()],
        "waiting": [requested(), WAITING],
        "blocked": [requested(), BLOCKED],
        "dry_run": [requested(), DRY],
        "submitted": [requested(), intended(), submitted()],
        "running": RUNNING,
        "completed": [*RUNNING, completed()],
        "failed": [*RUNNING, failed()],
        "cancelled": [*RUNNING, cancelled()],
        "error": [requested(), intended(), REFUSED],
        "lost": [*RUNNING, lost()],
    }
    record = the_run_after(*ways[status])
    assert record.status == status
    assert record.is_terminal == (status in TERMINAL)
    assert record.is_active == (status not in RESTING)


@pytest.mark.parametrize("event", [event for event in RUN_EVENTS if event.type not in BEGINNINGS])
def test_nothing_makes_a_run_that_nobody_asked_for(event: r.RunEvent) -> None:
    assert run_after(event) is None


def test_a_run_begins_once() -> None:
    record = the_run_after(requested(), requested("other"), ADOPTED)
    assert record.run_id == RUN
    assert not record.adopted
    assert record.request.created_at == at(1)


def test_an_attempt_carries_what_was_seen_of_it() -> None:
    record = the_run_after(*RUNNING, completed(), r.LogsCaptured(attempt=1, sha256="ab", size_bytes=3, truncated=True))
    attempt = record.attempt
    assert attempt
    assert (attempt.intended_at, attempt.submitted_at, attempt.ended_at) == (at(2), at(3), at(5))
    assert attempt.started_at == "2026-11-23T07:00:00.000000Z", "when it started, not when that was seen"
    assert (attempt.session_name, attempt.node_id, attempt.exit_code) == ("session_2", "n1", 0)
    assert (attempt.logs_sha256, attempt.logs_size_bytes, attempt.logs_truncated) == ("ab", 3, True)


def test_a_second_attempt_keeps_the_first_and_forgets_how_it_ended_in_the_run() -> None:
    record = the_run_after(*RUNNING, AGAIN, intended(2), submitted(2), started(2))
    assert [attempt.number for attempt in record.attempts] == [1, 2]
    assert [attempt.status for attempt in record.attempts] == ["failed", "running"]
    assert record.attempts[0].never_started
    assert (record.exit_code, record.failure_kind, record.message) == (None, None, None)


def test_logs_of_an_earlier_attempt_go_to_that_attempt() -> None:
    record = the_run_after(*RUNNING, AGAIN, intended(2), r.LogsCaptured(attempt=1, sha256="ab", size_bytes=3))
    assert [attempt.logs_sha256 for attempt in record.attempts] == ["ab", None]


def test_a_lost_run_that_shows_up_again_has_not_ended() -> None:
    ended = the_run_after(*RUNNING, lost()).attempt
    again = the_run_after(*RUNNING, lost(), recovered()).attempt
    assert ended
    assert again
    assert (ended.ended_at, again.ended_at) == (at(5), None)


def test_a_wish_to_cancel_is_kept_with_its_reason_and_escalations_are_counted() -> None:
    escalated = r.CancelEscalated(attempt=1, how="stop_repeated", message="it did not stop")
    record = the_run_after(*RUNNING, r.CancelRequested(reason="timeout"), escalated, escalated)
    assert (record.cancel_requested_at, record.cancel_reason) == (at(5), "timeout")
    assert (record.escalations, record.escalated_at) == (2, at(7))


def test_page_one_counts_artifacts_anew_and_later_pages_add() -> None:
    assert the_run_after(*RUNNING).artifacts is None
    assert the_run_after(*RUNNING, indexed()).artifacts == 0
    two_pages = [indexed("a", "b", pages=2), indexed("c", page=2, pages=2)]
    assert the_run_after(*RUNNING, *two_pages).artifacts == 3
    assert the_run_after(*RUNNING, *two_pages, indexed("d")).artifacts == 1


def test_an_adopted_run_says_so_and_has_the_attempt_that_was_found() -> None:
    record = the_run_after(ADOPTED)
    assert record.adopted
    assert record.attempt
    assert (record.attempt.number, record.attempt.submission_id) == (2, f"{RUN}-a2")


def test_a_fork_is_a_run_like_any_other_that_names_where_it_comes_from() -> None:
    record = the_run_after(FORKED)
    assert record.forked_from == f"{FORKED.parent}#{FORKED.parent_head}"
    wanted = the_run_after(requested(FORKED.run_id))
    assert record.request == wanted.request
    assert run_json(record) == {**run_json(wanted), "forked_from": record.forked_from}
    assert "forked_from" not in run_json(wanted), "files of runs that are no forks stay as they were"


def test_an_imported_run_stands_where_it_stood_since_then_or_is_lost_since_now() -> None:
    record = the_run_after(IMPORTED)
    assert (record.status, record.message, record.updated_at) == ("failed", "it broke", IMPORTED.updated_at)
    assert record.request.created_at == IMPORTED.created_at
    assert record.imported
    assert (record.imported.root, record.imported.status) == ("/old", "failed")
    assert [(attempt.submission_id, attempt.status) for attempt in record.attempts] == [(RUN, "failed")]
    lost_now = the_run_after(replace(IMPORTED, status="lost", old_status="running"))
    assert (lost_now.status, lost_now.updated_at) == ("lost", at(1))
    assert the_run_after(replace(IMPORTED, submission_id=None)).attempts == ()


def test_the_states_of_a_run_in_the_readme_are_those_of_the_fold() -> None:
    examples: dict[str, r.RunEvent] = {
        "run.requested": requested(),
        "run.adopted": ADOPTED,
        "run.forked": FORKED,
        "run.imported": replace(IMPORTED, status="lost"),
        "run.blocked": BLOCKED,
        "run.waiting": WAITING,
        "run.lease_bound": LEASED,
        "run.unblocked": r.RunUnblocked(),
        "run.dry_run_recorded": DRY,
        "run.submitted": submitted(),
        "run.submission_failed": REFUSED,
        "run.started": started(),
        "run.completed": completed(),
        "run.failed": failed(),
        "run.attempt_failed": AGAIN,
        "run.cancelled": cancelled(),
        "run.lost": lost(),
        "run.recovered": recovered(),
    }
    ways: dict[str, list[r.RunEvent]] = {
        "[*]": [],
        "requested": [requested(), intended()],
        "waiting": [requested(), WAITING],
        "blocked": [requested(), BLOCKED],
        "submitted": [requested(), intended(), submitted()],
        "running": list(RUNNING),
        "lost": [*RUNNING, lost()],
    }
    readme = (ROOT / "projections" / "README.md").read_text()
    diagram = readme.partition("stateDiagram-v2")[2].partition("```")[0]
    arrows = [line.replace(" --> ", " ").replace(": ", " ").split() for line in diagram.splitlines() if ": " in line]
    assert len(arrows) > 15
    for source, target, event in arrows:
        assert the_run_after(*ways[source], examples[event]).status == target, (source, event)
    assert {target for _, target, _ in arrows} == set(STATUSES)
    ends = [line.split(" --> ")[0].strip() for line in diagram.splitlines() if line.endswith("--> [*]")]
    assert set(ends) == TERMINAL
