"""Is what is said of the past what was published then, and does it name who made it so?"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec import structs
from msgspec.structs import replace

from eventlog import MemoryLog
from merlin_es.errors import NotFound, Usage
from merlin_es.past import Past
from projections import patch
from projections.causes import LED_TO_BY
from projections.events import cluster as c
from projections.events import lease as e
from projections.events import run as r
from projections.events.execution import EXECUTION_EVENTS
from projections.files import Publisher
from projections.history import ABSENT, Absent, documents, steps
from projections.layout import CLUSTER, RESOURCES, run_stream, snapshots_path
from projections.lease_state import Liveness
from projections.projection import RUN_PROJECTION, file_names
from projections.snapshots import Snapshots
from tests.conftest import Figure
from tests.examples import unsynced
from tests.lease_examples import LEASE_EVENTS, QUEUED, granted
from tests.past_examples import BEGIN, LIFE, STREAM, a_life, log_in, past_of, record
from tests.run_examples import (
    CLUSTER_EVENTS,
    RUN,
    RUN_EVENTS,
    histories,
    intended,
    lost,
    requested,
    started,
    submitted,
)

CATALOG = "resources/catalog.json"
WAIT = r.PendingExplained(attempt=1, reason="resources", message="no machine is free")


def long_log(root: Path, count: int, workflow: str = "plan") -> None:
    log = log_in(root)
    record(log, STREAM, [requested(workflow=workflow), intended(), submitted()])
    record(log, STREAM, [replace(WAIT, message=f"look {number}") for number in range(count - 3)])


@pytest.mark.parametrize(("stream", "events"), [(STREAM, RUN_EVENTS), (CLUSTER, CLUSTER_EVENTS)])
def test_the_view_of_every_event_is_what_was_published_then(
    tmp_path: Path, stream: str, events: tuple[r.RunEvent, ...]
) -> None:
    log, published = log_in(tmp_path), []
    publisher = Publisher(log, tmp_path, disk=unsynced())
    for event in events:
        record(log, stream, [event])
        publisher.publish(stream)
        published.append(
            {
                name: json.loads((tmp_path / name).read_text())
                for name in file_names(stream)
                if (tmp_path / name).exists()
            }
        )
    for every in (1, 3, 512):
        past = past_of(tmp_path, log, every=every)
        for seq in (*range(len(events), 0, -1), *range(1, len(events) + 1)):
            assert documents(stream, past.at(stream, seq)) == published[seq - 1], (every, seq)


def test_the_leases_of_every_moment_are_what_was_published_then(tmp_path: Path) -> None:
    log, published = log_in(tmp_path), []
    publisher = Publisher(log, tmp_path, disk=unsynced())
    for event in LEASE_EVENTS:
        record(log, RESOURCES, [event])
        publisher.publish(RESOURCES)
        files = tmp_path.glob("resources/**/*.json")
        published.append({str(path.relative_to(tmp_path)): json.loads(path.read_text()) for path in files})
    for every in (1, 3, 512):
        past = past_of(tmp_path, log, every=every)
        for seq in range(len(LEASE_EVENTS), 0, -1):
            found, then = documents(RESOURCES, past.at(RESOURCES, seq)), published[seq - 1]
            assert found[CATALOG] == then[CATALOG]
            for name, document in found.items():
                assert isinstance(document, dict)
                assert {**document, "as_of": None} == {**then[name], "as_of": None}
            active = {name for name, document in then.items() if document.get("status") == "active"}
            assert active <= set(found)


def test_a_lease_is_explained_from_its_claim_to_its_end_whatever_happened_to_others(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    record(log, RESOURCES, LEASE_EVENTS)
    past = past_of(tmp_path, log)
    found = past.why("resources/leases/lease-00000000a1.json", "/status")
    assert [each.value for each in found.settings] == ["active", "released"]
    assert [reason.event.type for reason in found.causes][-1] == "claim.queued"
    assert {reason.event.data.get("lease_id", "lease-00000000a1") for reason in found.causes} == {"lease-00000000a1"}
    for step in past.replay(RESOURCES, 1):
        assert all(not isinstance(change.after, Absent) or change.pointer for change in step.changes), "no file goes"


def test_the_events_of_a_run_include_those_of_its_leases_and_no_others(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    record(log, STREAM, [requested()])
    for claim, run_id in (("claim-00000000aa", RUN), ("claim-00000000bb", "other-run")):
        queued = structs.replace(QUEUED, claim_id=claim, liveness=Liveness(run_id=run_id))
        lease = structs.replace(granted(), claim_id=claim, lease_id=claim.replace("claim", "lease"))
        released = e.LeaseReleased(lease_id=lease.lease_id, cause="run_ended", by="reconciler")
        record(log, RESOURCES, [queued, lease, released])
    record(log, STREAM, [intended()])
    past = past_of(tmp_path, log)
    found = [f"{event.stream}#{event.seq}" for event in past.timeline(RUN).news()]
    assert found == [f"{STREAM}#1", "resources#1", "resources#2", "resources#3", f"{STREAM}#2"]
    assert [f"{event.stream}#{event.seq}" for event in past.timeline(RUN, "2").news()] == [f"{STREAM}#2"]


def test_a_view_from_snapshots_folds_no_more_than_lie_between_two(tmp_path: Path, figure: Figure) -> None:
    long_log(tmp_path, 400)
    log, read = log_in(tmp_path), []

    class Counting(MemoryLog):
        def read(self, stream: str, first: int = 1):  # type: ignore[no-untyped-def]  # noqa: ANN202  that of the log
            for event in log.read(stream, first):
                read.append(event.seq)
                yield event

    snapshots = Snapshots(Counting(), tmp_path, every=50)
    whole = snapshots.at(STREAM, 400)
    assert len(read) == 400
    for seq in (1, 49, 50, 51, 199, 321, 400):
        read.clear()
        assert snapshots.at(STREAM, seq) == RUN_PROJECTION.fold(
            (event for event in log.read(STREAM) if event.seq <= seq), RUN_PROJECTION.origin, whole.head
        )
        assert len(read) <= 53
    figure("a view of any of 400 events reads at most 53 of them, with a snapshot each 50")


@pytest.mark.parametrize("harm", ["edited", "cut", "other_fold", "other_log", "no_json", "gone"])
def test_a_snapshot_that_is_not_of_this_log_and_fold_is_not_believed(tmp_path: Path, harm: str) -> None:
    root = tmp_path / "s"
    long_log(root, 40)
    past = past_of(root, every=10)
    expected = {seq: past.at(STREAM, seq) for seq in range(1, 41)}
    kept = sorted((snapshots_path(root) / STREAM).iterdir())
    assert [path.name for path in kept] == ["10.json", "20.json", "30.json", "40.json"]
    if harm == "other_log":
        long_log(tmp_path / "t", 41, "another")
        past_of(tmp_path / "t", every=10).at(STREAM, 41)
    for path in kept:
        content = path.read_bytes()
        match harm:
            case "edited":
                path.write_bytes(content.replace(b'"submitted"', b'"completed"'))
            case "cut":
                path.write_bytes(content[:-20])
            case "other_log":
                path.write_bytes((snapshots_path(tmp_path / "t") / STREAM / path.name).read_bytes())
            case "no_json":
                path.write_bytes(b"\xff" * 200)
            case "gone":
                path.unlink()
    if harm == "other_fold":
        newer = structs.replace(RUN_PROJECTION, version=RUN_PROJECTION.version + 1)
        other = Snapshots(past.log, root, every=10, projections=lambda _stream: newer)
        assert other._before(STREAM, 40).head.seq == 0
    past = past_of(root, every=10)
    assert {seq: past.at(STREAM, seq) for seq in range(1, 41)} == expected


def test_where_no_snapshot_can_be_kept_the_view_is_the_same(tmp_path: Path) -> None:
    long_log(tmp_path, 30)
    snapshots_path(tmp_path).write_text("in the way")
    past = past_of(tmp_path, every=5)
    assert past.at(STREAM, 30).state.record.seq == 30
    assert snapshots_path(tmp_path).read_text() == "in the way"


@settings(deadline=None, max_examples=30)
@given(history=histories)
def test_what_the_events_changed_adds_up_to_what_is_there_in_the_end(history: list[r.RunEvent]) -> None:
    log = MemoryLog()
    stream = STREAM
    for happened in history:
        log.append(stream, [happened.recorded_by("ada@lab", "cli")])
    snapshots = Snapshots(log, Path("/nowhere"), every=10**9)
    files: dict[str, patch.Json] = {}
    for step in steps(stream, snapshots.steps(stream)):
        for change in step.changes:
            old = files.get(change.file, {})
            if change.pointer == "":
                files[change.file] = change.after  # type: ignore[assignment]  # a list, made at once
                continue
            if not isinstance(change.before, Absent) and "/" not in change.pointer[1:]:
                assert patch.is_same(patch.resolve(old, change.pointer), change.before)
            op = "remove" if change.after is ABSENT else "add" if change.before is ABSENT else "replace"
            value = None if change.after is ABSENT else change.after
            files[change.file] = patch.apply(old, [patch.Operation(op, change.pointer, value)])  # type: ignore[arg-type]  # it is there
    expected = documents(stream, snapshots.at(stream, len(history)))
    for document in expected.values():
        if isinstance(document, dict):
            document.pop("as_of", None)
    assert {name: document for name, document in files.items() if document or name in expected} == expected


def test_why_names_every_value_with_who_set_it_and_what_led_there(tmp_path: Path) -> None:
    past = a_life(tmp_path)
    found = past.why(f"runs/{RUN}/run_record.json", "/status")
    assert [(each.value, each.event.seq, each.event.type) for each in found.settings] == [
        ("requested", 1, "run.requested"),
        ("submitted", 3, "run.submitted"),
        ("running", 4, "run.started"),
        ("completed", 6, "run.completed"),
    ]
    assert [(reason.event.type, reason.recorded) for reason in found.causes] == [
        ("run.started", False),
        ("run.submitted", False),
        ("run.submission_started", False),
        ("run.requested", False),
    ]
    assert {setting.event.actor for setting in found.settings} == {"ada@lab"}
    earlier = past.why(f"runs/{RUN}/run_record.json", "/status", "run.started")
    assert [each.value for each in earlier.settings] == ["requested", "submitted", "running"]


def test_a_value_that_went_and_came_back_was_set_twice(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    record(log, STREAM, [requested(), intended(), submitted(), started(), lost(), r.RunUnblocked()])
    found = past_of(tmp_path, log).why(f"runs/{RUN}/run_record.json", "/attempts/0/lost_reason")
    assert [(each.value, each.event.seq) for each in found.settings] == [(None, 2), ("cluster_restarted", 5)]
    found = past_of(tmp_path, log).why(f"runs/{RUN}/run_record.json", "/attempts")
    assert [each.event.seq for each in found.settings] == [1, 2, 3, 4, 5]


@settings(deadline=None, max_examples=30)
@given(history=histories)
def test_every_value_that_a_field_ever_had_is_named_and_no_other(history: list[r.RunEvent]) -> None:
    log = MemoryLog()
    for happened in [requested(), *history]:
        log.append(STREAM, [happened.recorded_by("ada@lab", "cli")])
    snapshots = Snapshots(log, Path("/nowhere"), every=10**9)
    past = Past(log, Path("/nowhere"), lambda: BEGIN, snapshots)  # type: ignore[arg-type]  # one in memory does too
    states: list[dict[str, Any]] = [dict(documents(STREAM, after)) for _, _, after in snapshots.steps(STREAM)]
    for name in (f"runs/{RUN}/run_request.json", f"runs/{RUN}/run_record.json"):
        for key in {key for each in states for key in each[name]}:
            values = [each[name].get(key, ABSENT) for each in states]
            expected = [value for place, value in enumerate(values) if not place or value != values[place - 1]]
            found = [setting.value for setting in past._settings(STREAM, name, (key,), len(states))]
            assert found == expected[expected[0] is ABSENT :], (name, key)


@pytest.mark.parametrize(
    ("stream", "events"), [(RESOURCES, LEASE_EVENTS), (STREAM, RUN_EVENTS), (CLUSTER, CLUSTER_EVENTS)]
)
def test_who_goes_forward_finds_the_causes_that_who_looks_back_does(
    tmp_path: Path, stream: str, events: Sequence[Any]
) -> None:
    log = log_in(tmp_path)
    record(log, stream, [*events, *events[::-1], *events])
    past = past_of(tmp_path, log)
    for first in (1, 20):
        for step, reason in past.retell(stream, first):
            looked_back = next(past.causes(step.event), None)
            assert (reason and reason.event.seq) == (looked_back and looked_back.event.seq), step.event.seq


def test_a_recorded_cause_goes_before_the_rules_and_may_lie_in_another_stream(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    record(log, STREAM, LIFE[:2])
    log.append(CLUSTER, [c.StopRequested().recorded_by("bob@lab", "api")])
    log.append(STREAM, [lost().recorded_by("reconciler", "reconcile", cause=f"{CLUSTER}#1")])
    found = past_of(tmp_path, log).why(f"runs/{RUN}/run_record.json", "/status")
    assert [(each.event.stream, each.event.actor, each.recorded) for each in found.causes] == [
        (CLUSTER, "bob@lab", True)
    ]


def test_causes_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append(STREAM, [requested().recorded_by("ada", "cli", cause=2)])
    log.append(STREAM, [intended().recorded_by("ada", "cli", cause=1)])
    past = past_of(tmp_path, log)
    assert len(list(past.causes(next(log.read(STREAM))))) == 1_000


def test_the_rules_of_causes_know_every_event_and_no_other() -> None:
    known = {event.type for event in (*RUN_EVENTS, *CLUSTER_EVENTS, *LEASE_EVENTS)} | set(EXECUTION_EVENTS.types)
    named = set(LED_TO_BY) | {kind for kinds in LED_TO_BY.values() for kind in kinds}
    assert named <= known
    stories_begin_with = known - set(LED_TO_BY)
    assert stories_begin_with == {
        "run.requested",
        "run.forked",
        "run.adopted",
        "run.imported",
        "run.cancel_requested",
        "run.sealed",
        "cluster.start_requested",
        "cluster.attached",
        "cluster.imported",
        "cluster.stop_requested",
        "resource.declared",
        "resource.draining",
        "resource.enabled",
        "resource.retired",
        "claim.queued",
        "execution.prepared",
        "execution.forked",
        "execution.reset",
        "execution.backend_switched",
        "task.retried",
        "validation.chosen",
        "log.repaired",
        "log.checkpoint",
    }


@pytest.mark.parametrize(
    ("file", "pointer", "message"),
    [
        ("runs/{run}/run_record.json", "/nothing", "there are run_id, target"),
        ("runs/{run}/run_record.json", "/attempts/7", "an array of 1"),
        ("runs/{run}/run_record.json", "/status/x", 'stands "completed"'),
        ("runs/{run}/events.jsonl", "/x", "no file that is folded"),
        ("runs/nobody/run_record.json", "/x", "no file that is folded"),
        ("/etc/passwd", "/x", "no file that is folded"),
        ("../x", "/x", "no file that is folded"),
    ],
)
def test_why_of_what_is_not_there_says_what_is(tmp_path: Path, file: str, pointer: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        a_life(tmp_path).why(file.format(run=RUN), pointer)


def test_why_of_no_field_is_refused(tmp_path: Path) -> None:
    for pointer in ("", "status"):
        with pytest.raises(Usage):
            a_life(tmp_path).why(f"runs/{RUN}/run_record.json", pointer)


def test_a_moment_of_a_run_is_found_in_its_log(tmp_path: Path) -> None:
    past = a_life(tmp_path)
    assert past.stream(RUN) == past.folded(STREAM) == STREAM
    ids = [event.id for event in past.log.read(STREAM)]
    for moment, seq in (
        (None, 6),
        ("4", 4),
        (ids[2], 3),
        ("run.started", 4),
        ((BEGIN + timedelta(seconds=2.5)).isoformat(), 3),
        ("59m58s ago", 3),
        ("0s", 6),
    ):
        assert past.point(STREAM, moment).seq == seq
    with pytest.raises(NotFound, match=r"no event #7: its last ones are #4 run.started .*, #6 run.completed"):
        past.point(STREAM, "7")
    with pytest.raises(NotFound, match="no run 'nobody'"):
        past.stream("nobody")
    for name in ("", "../x", "a/b", "run/"):
        with pytest.raises(NotFound):
            past.stream(name)


def test_a_stream_of_which_nothing_is_folded_has_events_and_no_states(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append("ledger", [requested().recorded_by("ada", "cli")])
    past = past_of(tmp_path, log)
    assert past.stream("ledger") == "ledger"
    with pytest.raises(Usage, match="merlin ray events ledger"):
        past.folded("ledger")


@pytest.mark.parametrize("name", [None, RUN])
def test_a_follower_gets_what_is_recorded_later_once_and_in_order(tmp_path: Path, name: str | None) -> None:
    past, stop = a_life(tmp_path), threading.Event()
    timeline = past.timeline(name)
    assert len(list(timeline.news())) == len(LIFE)
    coming = past.follow(timeline, name, stop=stop)
    for number in range(3):
        record(past.log, STREAM, [r.AnomalySeen(what=f"w{number}", message="m")])
        assert next(coming).data["what"] == f"w{number}"
    if name is None:
        record(past.log, run_stream("another-run"), [requested("another-run"), intended()])
        assert [next(coming).type, next(coming).type] == ["run.requested", "run.submission_started"]
    stop.set()
    assert list(coming) == []
