"""Are the files exactly what the events come to, whoever folds them and from wherever?"""

from __future__ import annotations

import ast
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Event, Head, Invalid, MemoryLog
from projections.events import run as r
from projections.events.recorded import UnknownEvent
from projections.layout import CLUSTER, StateLayout, run_path, run_record_path, run_stream
from projections.projection import (
    CLUSTER_PROJECTION,
    RUN_PROJECTION,
    RunState,
    cluster_json,
    projection_of,
    run_json,
)
from tests.examples import ROOT
from tests.run_examples import (
    CLUSTER_EVENTS,
    RUN,
    RUN_EVENTS,
    completed,
    histories,
    indexed,
    intended,
    requested,
    started,
    submitted,
)

REQUEST_KEYS = ("run_id", "target", "workflow", "source", "command", "workdir", "target_dir", "metadata", "created_at")
RECORD_KEYS = (*REQUEST_KEYS, "engine", "status", "cluster_address", "submission_id", "message", "updated_at")
CLUSTER_KEYS = (
    "cluster_name",
    "status",
    "address",
    "dashboard_url",
    "namespace",
    "managed_by",
    "message",
    "started_at",
    "updated_at",
)
ARTIFACT_KEYS = ("run_id", "name", "path", "kind", "size_bytes", "created_at")
STREAM = run_stream(RUN)


def log_of(*events: r.RunEvent, stream: str = STREAM) -> MemoryLog:
    log = MemoryLog()
    for event in events:
        log.append(stream, [event.checked().recorded_by("ada@lab", "cli")])
    return log


def files_of(*events: r.RunEvent, stream: str = STREAM) -> dict[str, bytes]:
    log = log_of(*events, stream=stream)
    return dict(RUN_PROJECTION.files(stream, *RUN_PROJECTION.fold_all(stream, log)))


def test_the_files_of_a_run_begin_with_the_fields_they_always_had_in_their_order() -> None:
    files = files_of(requested(), intended(), submitted(), indexed("a.txt"))
    assert list(files) == [f"runs/{RUN}/{name}" for name in ("run_request.json", "artifacts.json", "run_record.json")]
    request, artifacts, record = (json.loads(content) for content in files.values())
    assert tuple(request)[: len(REQUEST_KEYS)] == REQUEST_KEYS
    assert tuple(record)[: len(RECORD_KEYS)] == RECORD_KEYS
    assert list(record)[-1] == "as_of"
    assert tuple(artifacts[0])[: len(ARTIFACT_KEYS)] == ARTIFACT_KEYS
    assert (record["engine"], record["status"], record["submission_id"]) == ("ray", "submitted", RUN)
    assert record["cluster_address"] == "http://ray:1"
    assert record["command"] == ["make", "täst"]
    assert not {"request", "seq"} & set(record)


def test_before_a_submission_there_is_no_address_and_a_second_one_takes_the_place_of_the_first() -> None:
    first = json.loads(files_of(requested())[f"runs/{RUN}/run_record.json"])
    assert (first["cluster_address"], first["submission_id"], first["message"]) == (None, None, None)
    second = json.loads(files_of(requested(), intended(), intended(2))[f"runs/{RUN}/run_record.json"])
    assert (second["cluster_address"], second["submission_id"]) == ("http://ray:2", f"{RUN}-a2")


def test_the_file_of_the_cluster_begins_with_the_fields_it_always_had_in_their_order() -> None:
    log = MemoryLog()
    log.append(CLUSTER, [event.recorded_by("ada@lab", "cli") for event in CLUSTER_EVENTS])
    state, head = CLUSTER_PROJECTION.fold_all(CLUSTER, log)
    [(path, content)] = CLUSTER_PROJECTION.files(CLUSTER, state, head).items()
    assert path == "cluster/bootstrap.json"
    document = json.loads(content)
    assert tuple(document)[: len(CLUSTER_KEYS)] == CLUSTER_KEYS
    assert document["as_of"] == {"seq": head.seq, "h": head.h, "fold": CLUSTER_PROJECTION.version}
    assert document["cluster_name"] == "merlin-local"


def test_files_look_the_way_people_read_them() -> None:
    content = files_of(requested())[f"runs/{RUN}/run_record.json"].decode()
    assert content == json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n"
    assert '"täst"' in content
    assert '"cpus": 1.0' in content


def test_the_request_does_not_change_with_what_comes_of_it() -> None:
    log = log_of(requested(), intended(), submitted(), completed())
    states = RUN_PROJECTION.states(log.read(STREAM), RUN_PROJECTION.origin)
    requests = {RUN_PROJECTION.files(STREAM, *each)[f"runs/{RUN}/run_request.json"] for each in states}
    assert len(requests) == 1


def test_before_anybody_has_looked_there_is_no_list_of_artifacts_and_then_there_is_even_an_empty_one() -> None:
    name = f"runs/{RUN}/artifacts.json"
    assert name not in files_of(requested(), completed())
    assert files_of(requested(), indexed())[name] == b"[]\n"


def test_page_one_begins_the_artifacts_anew() -> None:
    pages = [indexed("a", "b/c", pages=2), indexed("d", page=2, pages=2)]
    name = f"runs/{RUN}/artifacts.json"
    both = json.loads(files_of(requested(), *pages)[name])
    assert [(file["run_id"], file["path"]) for file in both] == [
        (RUN, "/w/out/a"),
        (RUN, "/w/out/b/c"),
        (RUN, "/w/out/d"),
    ]
    assert [file["name"] for file in json.loads(files_of(requested(), *pages, indexed("e"))[name])] == ["e"]


def test_artifacts_carry_the_time_at_which_they_were_indexed() -> None:
    log = log_of(requested(), started(), indexed("a"))
    state, _ = RUN_PROJECTION.fold_all(STREAM, log)
    assert state.artifacts.files
    assert state.artifacts.files[0].created_at == [event.time for event in log.read(STREAM)][-1]


@pytest.mark.parametrize("name", ["../../evil", "/etc", "x/../../y"])
def test_no_event_can_choose_where_files_are_written(name: str) -> None:
    files = files_of(requested(name), intended(), indexed("../../../evil"))
    assert {path.rpartition("/")[0] for path in files} == {f"runs/{RUN}"}
    for refuse in (run_stream, lambda bad: run_path(ROOT, bad), lambda bad: StateLayout(ROOT).path(f"run/{bad}")):
        with pytest.raises(Invalid):
            refuse(name)
    with pytest.raises(Invalid):
        run_record_path(ROOT, name)


def test_the_same_events_give_the_same_bytes() -> None:
    log = log_of(*RUN_EVENTS)
    once, again = (RUN_PROJECTION.files(STREAM, *RUN_PROJECTION.fold_all(STREAM, log)) for _ in range(2))
    assert once == again


@settings(deadline=None, max_examples=150)
@given(events=histories, first=st.sampled_from([requested(), RUN_EVENTS[20]]), stop=st.integers(0, 15))
def test_a_fold_reaches_the_same_state_from_any_prefix(events: list[r.RunEvent], first: r.RunEvent, stop: int) -> None:
    recorded = list(log_of(first, *events).read(STREAM))
    whole = fold(recorded)
    known = fold(recorded[:stop])
    assert RUN_PROJECTION.fold(recorded[stop:], *known) == whole
    prefixes = list(RUN_PROJECTION.states(recorded, RUN_PROJECTION.origin))
    assert [head.seq for _, head in prefixes] == list(range(1, len(recorded) + 1))
    for length, state_and_head in enumerate(prefixes, 1):
        assert state_and_head == fold(recorded[:length])
        assert RUN_PROJECTION.files(STREAM, *state_and_head)


def fold(events: list[Event]) -> tuple[RunState, Head]:
    return RUN_PROJECTION.fold(events, RUN_PROJECTION.origin, Head(0, ""))


def test_an_event_that_this_release_does_not_know_is_an_error_that_says_what_to_do() -> None:
    log = log_of(requested())
    unknown = requested().recorded_by("ada@lab", "cli")
    log.append(STREAM, [type(unknown)("run.teleported", {}, "ada@lab", "cli")])
    with pytest.raises(UnknownEvent, match=r"#2: this release does not know run\.teleported: upgrade Merlin"):
        RUN_PROJECTION.fold_all(STREAM, log)


def test_doors_print_what_the_files_say_without_the_stamp() -> None:
    log = log_of(requested(), intended())
    state, _ = RUN_PROJECTION.fold_all(STREAM, log)
    assert state.record
    document = json.loads(files_of(requested(), intended())[f"runs/{RUN}/run_record.json"])
    assert list(json.loads(json.dumps(run_json(state.record)))) == [key for key in document if key != "as_of"]
    assert json.loads(json.dumps(cluster_json(CLUSTER_PROJECTION.origin)))["status"] == "not_started"


def test_other_streams_have_no_files() -> None:
    for stream in ("submissions", "ledger", "cluster/other", "run/a/b"):
        with pytest.raises(Invalid):
            projection_of(stream)


def test_the_readme_names_tests_that_exist_and_each_module_with_its_question() -> None:
    readme = (ROOT / "projections" / "README.md").read_text()
    written = set(
        re.findall(r"^def (test_\w+)", "".join(p.read_text() for p in ROOT.glob("tests/**/*.py")), re.MULTILINE)
    )
    named = set(re.findall(r"`(test_\w+)`", readme))
    assert named
    assert named <= written
    table = readme.partition("## Modules")[2]
    for path in (ROOT / "projections").glob("*.py"):
        if not path.stem.startswith("__"):
            assert f"`{path.stem}`" in table
            assert "?" in str(ast.get_docstring(ast.parse(path.read_text()))).partition("\n\n")[0]
