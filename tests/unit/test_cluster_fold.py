"""Which cluster do runs go to after each event?"""

from __future__ import annotations

from typing import get_args

import pytest
from msgspec.structs import replace

from projections.cluster import EXTERNAL, NOT_STARTED, OURS, ClusterRecord, ClusterStatus, EarlierSession
from projections.events import cluster as c
from tests.run_examples import CLUSTER_EVENTS, CLUSTER_IMPORTED, CLUSTER_STARTED, REPAIR, at, cluster_after, kinds

WISH = c.StartRequested(host="127.0.0.1", namespace="merlin", durable=True, directory="/t")
ATTACHED = c.ClusterAttached(
    dashboard_url="http://ray:8265", session_name="session_9", ray_version="2.60.1", namespace="lab", token_path="/k"
)
SILENT = c.ClusterUnreachable(kind="timeout", message="no answer within 5 s")
STOPPED = c.ClusterStopped(how="terminated")
ACTIVE = (WISH, CLUSTER_STARTED)


def test_there_is_an_example_of_each_event() -> None:
    assert {type(event) for event in CLUSTER_EVENTS} == kinds(c.ClusterEvent)


@pytest.mark.parametrize(
    ("status", "events"),
    [
        ("not_started", []),
        ("not_started", [WISH]),
        ("active", ACTIVE),
        ("unavailable", [WISH, c.StartFailed(reason="ray_missing", message="m")]),
        ("error", [WISH, c.StartFailed(reason="head_failed", message="m")]),
        ("not_started", [WISH, c.StartFailed(reason="ray_missing", message="m"), WISH]),
        ("active", [ATTACHED]),
        ("active", [CLUSTER_IMPORTED]),
        ("active", [*ACTIVE, c.StopRequested()]),
        ("stopped", [*ACTIVE, STOPPED]),
        ("active", [*ACTIVE, SILENT]),
        ("active", [*ACTIVE, SILENT, c.ClusterReachable(session_name="session_1")]),
        ("active", [*ACTIVE, SILENT, c.SessionChanged(old="session_1", new="session_2")]),
        ("active", [*ACTIVE, STOPPED, *ACTIVE]),
        ("not_started", [c.ClusterLogRepaired.made_of(REPAIR)]),
    ],
)
def test_each_event_leads_to_the_status_it_says(status: ClusterStatus, events: list[c.ClusterEvent]) -> None:
    record = cluster_after(*events)
    assert record.status == status
    assert status in get_args(ClusterStatus)
    assert record.updated_at == (at(len(events)) if events else None)


def test_an_imported_cluster_is_of_others_while_it_may_live_as_no_process_is_known() -> None:
    record = cluster_after(CLUSTER_IMPORTED)
    assert (record.is_external, record.pid, record.dashboard_url) == (True, None, "http://127.0.0.1:8265")
    assert (record.address, record.namespace, record.started_at) == (
        "127.0.0.1:6379",
        "lab",
        "2025-03-04T05:06:07.000000Z",
    )
    assert not cluster_after(replace(CLUSTER_IMPORTED, status="stopped")).is_external


def test_a_head_of_ours_is_known_by_its_process() -> None:
    record = cluster_after(*ACTIVE)
    assert (record.pid, record.pid_started, record.boot_id) == (17, 18, "boot")
    assert (record.managed_by, record.is_external, record.namespace, record.durable) == (OURS, False, "merlin", True)
    assert (record.address, record.dashboard_url) == ("127.0.0.1:6379", "http://127.0.0.1:8265")
    assert (record.started_at, record.session_since) == (at(2), at(2))


def test_a_cluster_of_others_has_no_process_to_end_and_takes_the_place_of_ours() -> None:
    record = cluster_after(*ACTIVE, ATTACHED)
    assert (record.pid, record.pid_started, record.boot_id, record.temp_dir) == (None, None, None, None)
    assert (record.managed_by, record.is_external, record.durable) == (EXTERNAL, True, False)
    assert (record.address, record.token_path, record.session_name) == ("http://ray:8265", "/k", "session_9")
    ours_again = cluster_after(*ACTIVE, ATTACHED, WISH, CLUSTER_STARTED)
    assert (ours_again.managed_by, ours_again.pid) == (OURS, 17)


@pytest.mark.parametrize("last", [STOPPED, WISH, c.StartFailed(reason="head_failed", message="m")])
def test_without_a_head_there_is_no_address_and_what_it_left_behind_is_still_known(last: c.ClusterEvent) -> None:
    record = cluster_after(*ACTIVE, SILENT, last)
    assert (record.address, record.dashboard_url, record.pid, record.boot_id) == (None, None, None, None)
    assert record.unreachable_since is None
    assert (record.session_name, record.temp_dir, record.token_path) == ("session_1", "/t", "/t/token")


def test_silence_is_dated_from_its_first_event_until_an_answer() -> None:
    silent = cluster_after(*ACTIVE, SILENT, SILENT)
    assert (silent.unreachable_since, silent.unreachable_kind) == (at(3), "timeout")
    assert silent.message == "no answer within 5 s"
    for answer in (c.ClusterReachable(session_name="session_1"), c.SessionChanged(old="session_1", new="session_2")):
        record = cluster_after(*ACTIVE, SILENT, answer)
        assert (record.unreachable_since, record.unreachable_kind, record.message) == (None, None, None)


def test_earlier_sessions_are_kept_with_when_they_began() -> None:
    record = cluster_after(*ACTIVE, c.SessionChanged(old="session_1", new="session_2"), ATTACHED, ATTACHED)
    assert record.session_name == "session_9"
    assert record.sessions == (EarlierSession("session_1", at(2)), EarlierSession("session_2", at(3)))


def test_nothing_is_refused_in_any_state() -> None:
    for first in CLUSTER_EVENTS:
        for second in CLUSTER_EVENTS:
            assert isinstance(cluster_after(first, second), ClusterRecord)
    assert ClusterRecord() == NOT_STARTED
