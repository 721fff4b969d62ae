"""What changes about the cluster when somebody asks, or looks, and what when that is done twice?"""

from __future__ import annotations

from pathlib import Path

import pytest

from merlin_es.commands import StartLocal
from merlin_es.deciders import cluster as rules
from merlin_es.errors import Refused
from merlin_es.ports import Head, ProcessId, Session
from projections.cluster import NOT_STARTED, ClusterRecord, evolve
from projections.events.cluster import ClusterEvent
from projections.events.recorded import Recorded
from tests.looks import at

URL = "http://127.0.0.1:8265"
WISH = StartLocal("127.0.0.1", None, None, "merlin", durable=True)
FIRST, SECOND = Session("s1", "2.60.0"), Session("s2", "2.60.0")


def head(session: Session = FIRST, pid: int = 4711) -> Head:
    process = ProcessId(pid, 99, "boot")
    return Head(process, "127.0.0.1:6379", URL, session, Path("/token"), Path("/tmp/r"), ("ray", "start"))


def after(record: ClusterRecord, *events: ClusterEvent, second: float = 1) -> ClusterRecord:
    for number, event in enumerate(events, 1):
        record = evolve(record, Recorded(number, at(second), "ada@lab", "cli", event))
    return record


def types(events: tuple[ClusterEvent, ...]) -> list[str]:
    return [event.type.removeprefix("cluster.") for event in events]


OURS = after(NOT_STARTED, *rules.request_start(WISH, "/state/head"), *rules.started(head()))
THEIRS = after(NOT_STARTED, *rules.attach(URL, FIRST, "merlin", None, NOT_STARTED))
SILENT = after(OURS, *rules.unanswered("timeout", "no answer within 3 s", OURS), second=5)
STOPPED = after(OURS, *rules.stopped("terminated", OURS))
FAILED = after(NOT_STARTED, *rules.start_failed("head_failed", "port taken"))


def test_a_head_is_wished_for_and_then_there() -> None:
    assert types(rules.request_start(WISH, "/state/head")) == ["start_requested"]
    assert (OURS.status, OURS.pid, OURS.session_name, OURS.durable) == ("active", 4711, "s1", True)
    assert not OURS.is_external


def test_a_head_that_did_not_come_up_says_why() -> None:
    assert (FAILED.status, FAILED.message) == ("error", "port taken")
    missing = after(NOT_STARTED, *rules.start_failed("ray_missing", "no ray"))
    assert (missing.status, missing.message) == ("unavailable", "no ray")


def test_a_head_that_was_started_again_is_in_another_session() -> None:
    again = after(SILENT, *rules.started(head(SECOND, 4712)), second=9)
    assert (again.session_name, [each.session_name for each in again.sessions]) == ("s2", ["s1"])
    assert again.unreachable_since is None


# attach


def test_a_cluster_of_others_is_attached_once() -> None:
    assert (THEIRS.status, THEIRS.dashboard_url, THEIRS.is_external) == ("active", URL, True)
    assert rules.attach(URL, FIRST, "merlin", None, THEIRS) == ()


@pytest.mark.parametrize(
    ("url", "session", "namespace", "token"),
    [
        ("http://other:8265", FIRST, "merlin", None),
        (URL, SECOND, "merlin", None),
        (URL, FIRST, "bringup", None),
        (URL, FIRST, "merlin", "/token"),
    ],
    ids=["another address", "another session", "another namespace", "another token"],
)
def test_another_attachment_takes_the_place_of_the_one_before(
    url: str, session: Session, namespace: str, token: str | None
) -> None:
    events = rules.attach(url, session, namespace, token, THEIRS)
    assert types(events) == ["attached"]
    assert rules.attach(url, session, namespace, token, after(THEIRS, *events)) == ()


def test_attaching_a_cluster_that_was_silent_makes_it_answer() -> None:
    silent = after(THEIRS, *rules.unanswered("refused", "refused", THEIRS))
    events = rules.attach(URL, FIRST, "merlin", None, silent)
    assert after(silent, *events).unreachable_since is None


def test_another_cluster_is_not_attached_over_a_head_of_ours() -> None:
    with pytest.raises(Refused, match=f"runs at {URL}.*cluster stop"):
        rules.attach("http://other:8265", FIRST, "merlin", None, OURS)


@pytest.mark.parametrize("record", [NOT_STARTED, STOPPED, FAILED], ids=["not started", "stopped", "failed"])
def test_a_cluster_is_attached_where_none_is_in_use(record: ClusterRecord) -> None:
    assert after(record, *rules.attach(URL, SECOND, "merlin", None, record)).session_name == "s2"


# stop


@pytest.mark.parametrize("record", [OURS, THEIRS, SILENT, FAILED], ids=["ours", "theirs", "silent", "failed"])
def test_what_is_or_may_be_there_is_stopped_once(record: ClusterRecord) -> None:
    assert types(rules.request_stop(record)) == ["stop_requested"]
    events = rules.stopped("killed", record)
    assert types(events) == ["stopped"]
    gone = after(record, *events)
    assert (gone.status, gone.pid, gone.unreachable_since) == ("stopped", None, None)
    assert rules.request_stop(gone) == rules.stopped("gone", gone) == ()


def test_a_cluster_that_never_was_is_not_stopped() -> None:
    assert rules.request_stop(NOT_STARTED) == rules.stopped("gone", NOT_STARTED) == ()


# looks


def test_an_answer_that_tells_nothing_new_is_not_recorded() -> None:
    assert rules.answered(FIRST, OURS) == ()


def test_silence_is_recorded_once_whatever_its_kind_and_its_end_too() -> None:
    assert (SILENT.status, SILENT.unreachable_since, SILENT.unreachable_kind) == ("active", at(5), "timeout")
    assert rules.unanswered("refused", "connection refused", SILENT) == ()
    events = rules.answered(FIRST, SILENT)
    assert types(events) == ["reachable"]
    back = after(SILENT, *events, second=9)
    assert (back.unreachable_since, back.message) == (None, None)
    assert rules.answered(FIRST, back) == ()


@pytest.mark.parametrize("record", [OURS, SILENT], ids=["answering", "silent"])
def test_another_session_is_recorded_once_and_ends_a_silence(record: ClusterRecord) -> None:
    events = rules.answered(SECOND, record)
    assert types(events) == ["session_changed"]
    changed = after(record, *events, second=9)
    assert (changed.session_name, changed.unreachable_since) == ("s2", None)
    assert rules.answered(SECOND, changed) == ()


@pytest.mark.parametrize("record", [NOT_STARTED, STOPPED, FAILED], ids=["not started", "stopped", "failed"])
def test_nothing_is_said_of_a_cluster_that_is_not_in_use(record: ClusterRecord) -> None:
    assert rules.answered(SECOND, record) == rules.unanswered("refused", "refused", record) == ()
