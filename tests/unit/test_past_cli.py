"""What do the verbs that look back print, and how do they end?"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory

from merlin_es.cli.terminal import Part, Screen, Style
from projections import patch
from projections.files import Publisher
from projections.history import documents
from projections.layout import CLUSTER, RESOURCES, run_record_path, run_stream
from tests.examples import unsynced
from tests.lease_examples import LEASE_EVENTS
from tests.past_examples import BEGIN, OTHER, STREAM, Hands, Type, log_in, past_of, record
from tests.run_examples import RUN, failed, intended, requested, started, submitted

TIME = r"2026-11-23T07:00:\d\d\.000000Z"


def test_events_of_all_streams_are_one_line_each_in_the_order_that_they_happened(hands: Hands, type_: Type) -> None:
    done = type_("events")
    assert done.code == 0
    assert len(done.lines) == 16
    assert re.match(
        rf"{TIME}  {CLUSTER}#1  cluster\.started  ada@lab \(cli\)  address=127\.0\.0\.1:6379  ", done.lines[0]
    )
    assert [line[:27] for line in done.lines] == sorted(line[:27] for line in done.lines)


def test_events_of_a_run_are_numbered_in_its_log(hands: Hands, type_: Type) -> None:
    done = type_("events", OTHER)
    assert [line.split("  ")[1] for line in done.lines] == [f"#{seq}" for seq in range(1, 9)]
    assert type_("events", run_stream(OTHER)) == done


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        (("--since", "6"), [6, 7, 8]),
        (("--since", "run.started"), [6, 7, 8]),
        (("--since", "9"), []),
        (("--since", "1h59m45s ago"), [8]),
        (("--type", "run.s*"), [4, 5, 6]),
        (("--type", "run.failed", "--type", "run.blocked"), [2, 8]),
        (("--actor", "bob@*"), [1, 2, 3, 4, 5]),
        (("--actor", "bob@*", "--since", "3", "--type", "run.submitted"), [5]),
    ],
)
def test_events_can_be_chosen(hands: Hands, type_: Type, words: tuple[str, ...], seqs: list[int]) -> None:
    done = type_("events", OTHER, *words, "-o", "jsonl")
    assert [json.loads(line)["seq"] for line in done.lines] == seqs
    assert done.code == 0


def test_an_event_as_json_is_the_line_of_the_log(hands: Hands, type_: Type, tmp_path: Path) -> None:
    log = (tmp_path / "s" / "runs" / OTHER / "events.jsonl").read_text().splitlines()
    assert type_("events", OTHER, "-o", "jsonl").lines == log


def test_events_of_everything_begin_at_a_time_not_at_a_number(hands: Hands, type_: Type) -> None:
    assert len(type_("events", "--since", "2026-11-23T07:00:12Z").lines) == 4
    done = type_("events", "--since", "4")
    assert (done.code, done.out) == (2, "")
    assert "counts in one stream" in done.err


def test_a_log_that_is_damaged_is_named_after_all_that_can_be_read(hands: Hands, type_: Type, tmp_path: Path) -> None:
    path = tmp_path / "s" / "runs" / OTHER / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"start a cluster", b"start a clutter"))
    done = type_("events")
    assert done.code == 7
    assert len(done.lines) == 2 + 6 + 1
    what, why, advice = done.err.splitlines()
    assert what.startswith(f"merlin: {path}, line 2 ")
    assert why.startswith("  why:  its chain value does not fit")
    assert advice.endswith("`merlin ray doctor` looks at all of them")


def test_a_replay_says_what_changed_who_wanted_it_and_why(hands: Hands, type_: Type) -> None:
    done = type_("replay", RUN, "--from", "3", "--at", "run.started")
    text = re.sub(TIME, "TIME", done.out)
    assert text == (
        "TIME  #3  run.submitted  ada@lab (cli)  because of #2 run.submission_started\n"
        "      /status  requested → submitted\n"
        "      /attempts/0/session_name  session_1 → session_2\n"
        "      /attempts/0/status  intended → submitted\n"
        "      /attempts/0/submitted_at  null → TIME\n"
        "TIME  #4  run.started  ada@lab (cli)  because of #3 run.submitted\n"
        "      /status  submitted → running\n"
        "      /attempts/0/status  submitted → running\n"
        "      /attempts/0/started_at  null → TIME\n"
        "      /attempts/0/node_id  null → n1\n"
    )


def test_a_replay_as_json_says_everything(hands: Hands, type_: Type) -> None:
    steps = [json.loads(line) for line in type_("replay", RUN, "-o", "jsonl").lines]
    assert [step["event"]["seq"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[0]["because"] is None
    assert steps[5]["because"] == {"of": f"{STREAM}#4", "recorded": False}
    main = f"runs/{RUN}/run_record.json"
    assert {"file": main, "pointer": "/status", "before": "running", "after": "completed"} in steps[5]["changes"]
    assert "/updated_at" in [change["pointer"] for change in steps[5]["changes"]], "people are not told, programs are"


def test_a_replay_that_ends_before_it_begins_is_refused(hands: Hands, type_: Type) -> None:
    done = type_("replay", RUN, "--from", "5", "--at", "2")
    assert (done.code, done.out) == (2, "")
    assert "swap them" in done.err


def test_why_names_the_event_the_causes_and_the_values_before(hands: Hands, type_: Type) -> None:
    done = type_("why", OTHER, "status")
    text = re.sub(TIME, "TIME", done.out)
    assert text == (
        f"runs/{OTHER}/run_record.json#/status  failed\n"
        "  set by  TIME  #8  run.failed  reconciler (reconcile)\n"
        "    after  TIME  #6  run.started  reconciler (reconcile)\n"
        "    after  TIME  #5  run.submitted  bob@lab (cli)\n"
        "    after  TIME  #4  run.submission_started  bob@lab (cli)\n"
        "    after  TIME  #3  run.unblocked  bob@lab (cli)\n"
        "    after  TIME  #2  run.blocked  bob@lab (cli)\n"
        "    after  TIME  #1  run.requested  bob@lab (cli)\n"
        "  before that it was\n"
        "    running  TIME  #6  run.started  reconciler (reconcile)\n"
        "    submitted  TIME  #5  run.submitted  bob@lab (cli)\n"
        "    requested  TIME  #3  run.unblocked  bob@lab (cli)\n"
        "    blocked  TIME  #2  run.blocked  bob@lab (cli)\n"
        "    requested  TIME  #1  run.requested  bob@lab (cli)\n"
    )
    for place in (f"runs/{OTHER}/run_record.json#/status", f"s/runs/{OTHER}/run_record.json#/status"):
        assert type_("why", place) == done
    as_json = type_("why", OTHER, "/attempts/0/node_id", "-o", "json").json
    assert [setting["value"] for setting in as_json["settings"]] == [None, "n1"]


@pytest.mark.parametrize("words", [(RUN,), (f"runs/{RUN}/run_record.json#/status", "status"), ("#",), ("#/status",)])
def test_why_of_half_a_place_is_refused(hands: Hands, type_: Type, words: tuple[str, ...]) -> None:
    done = type_("why", *words)
    assert done.code in (2, 3)
    assert done.err.startswith("merlin: ")
    assert len(done.err.splitlines()) == 3


def test_two_moments_of_a_run_are_compared(hands: Hands, type_: Type) -> None:
    done = type_("diff", OTHER, "--at", "run.blocked", "--at", "4")
    text = re.sub(TIME, "TIME", done.out)
    assert text == (
        f"run/{OTHER}#2 and #4\n"
        "2 events between\n"
        "  TIME  #3  run.unblocked  bob@lab (cli)\n"
        "  TIME  #4  run.submission_started  bob@lab (cli)\n"
        "what is different then\n"
        "    /status  blocked → requested\n"
        "    /cluster_address  null → http://ray:1\n"
        f"    /submission_id  null → {RUN}\n"
        "    /message  start a cluster → null\n"
        "    /blocked_reason  no_cluster → null\n"
        f"  + /attempts/0  number=1  submission_id={RUN}  cluster_address=http://ray:1  session_name=session_1  "
        "entrypoint=python entrypoint.py  status=intended  intended_at=TIME  never_started=false  "
        "logs_truncated=false\n"
    )


def test_two_runs_are_laid_side_by_side_up_to_where_they_part(hands: Hands, type_: Type) -> None:
    lines = type_("diff", RUN, OTHER).lines
    assert lines[2] == "1 event says the same, then they part:  #2 run.submission_started  and  #2 run.blocked"
    assert [line.split()[0] for line in lines[3:12]] == ["=", "+", "+", "~", "~", "=", "~", "-", "+"]
    assert "    /status  completed → failed" in lines
    found = type_("diff", RUN, OTHER, "-o", "json").json
    assert found["first_divergence"]["two"]["type"] == "run.blocked"
    assert type_("diff", RUN, RUN, "--at", "3", "--at", "3").lines[-1] == "nothing is different then"


@pytest.mark.parametrize(("one", "two"), [(1, 8), (8, 1), (2, 4), (3, 3)])
def test_a_patch_leads_from_the_file_then_to_the_file_now(
    hands: Hands, type_: Type, tmp_path: Path, one: int, two: int
) -> None:
    past = past_of(tmp_path / "s")
    name = f"runs/{OTHER}/run_record.json"
    before, after = (documents(run_stream(OTHER), past.at(run_stream(OTHER), seq))[name] for seq in (one, two))
    steps = type_("diff", OTHER, "--at", str(one), "--at", str(two), "-o", "jsonpatch").json
    operations = [patch.Operation(step["op"], step["path"], step.get("value")) for step in steps]
    assert patch.is_same(patch.apply(before, operations), after)


def test_a_patch_of_another_run_or_file_leads_there_too(hands: Hands, type_: Type, tmp_path: Path) -> None:
    past = past_of(tmp_path / "s")
    sides = [documents(stream, past.at(stream, seq)) for stream, seq in ((STREAM, 6), (run_stream(OTHER), 8))]
    for file in ("run_record.json", "artifacts.json", "run_request.json"):
        before, after = (next(side[name] for name in side if name.endswith(file)) for side in sides)
        steps = type_("diff", RUN, OTHER, "-o", "jsonpatch", "--file", file).json
        operations = [patch.Operation(step["op"], step["path"], step.get("value")) for step in steps]
        assert patch.is_same(patch.apply(before, operations), after)
    done = type_("diff", RUN, "--at", "1", "-o", "jsonpatch", "--file", "artifacts.json")
    assert done.code == 3
    assert "not there on both sides" in done.err


@pytest.mark.parametrize("words", [(RUN,), (RUN, "--at", "1", "--at", "2", "--at", "3")])
def test_a_difference_needs_two_sides(hands: Hands, type_: Type, words: tuple[str, ...]) -> None:
    assert type_("diff", *words).code == 2


def test_the_whole_control_plane_is_shown_as_it_was_at_a_time(hands: Hands, type_: Type, tmp_path: Path) -> None:
    publisher = Publisher(log_in(tmp_path / "s"), tmp_path / "s", disk=unsynced())
    for stream in (STREAM, run_stream(OTHER)):
        publisher.publish(stream)
    done = type_("state", "--at", "2026-11-23T07:00:08Z")
    assert done.lines == [
        "as of  2026-11-23T07:00:08.000000Z",
        "cluster  active  http://127.0.0.1:8265  session session_1",
        "runs  1 blocked  1 completed",
        f"  blocked  {OTHER}  plan  since 2026-11-23T07:00:08.000000Z  start a cluster",
    ]
    later = type_("state", "--at", "2026-11-23T07:00:12.5Z").lines
    assert later[1].endswith("no answer since 2026-11-23T07:00:12.000000Z")
    assert later[2] == "runs  1 submitted  1 completed"
    assert type_("state", "--at", "2026-11-23T07:00:04.5Z").lines[2:] == [
        "runs  1 running",
        f"  running  {RUN}  plan  since 2026-11-23T07:00:04.000000Z",
    ]
    assert type_("state").lines[2] == "runs  1 completed  1 failed"
    assert type_("state", "--at", "2020-01-01").lines[1:] == ["cluster  not_started", "runs  none"]


def test_who_held_what_and_who_waited_is_shown_as_it_was(type_: Type, tmp_path: Path) -> None:
    log = log_in(tmp_path / "s")
    record(log, RESOURCES, LEASE_EVENTS[:6])
    done = type_("state", "--at", "2026-11-23T07:00:05.5Z")
    assert done.lines[3:] == [
        "keys",
        "  u250  held by ada with lease-00000000a1  since 2026-11-23T07:00:04.000000Z",
        "  x60  held by ada with lease-00000000a2  since 2026-11-23T07:00:05.000000Z  waiting: bob",
    ]
    assert type_("state", "--at", "2026-11-23T07:00:03.5Z").lines[4:] == [
        "  u250  held by nobody  waiting: ada",
        "  x60  held by nobody  waiting: bob, ada",
    ]
    assert "resources#3  claim.queued" in type_("events").out


def test_the_plane_at_a_time_is_told_by_a_clock_that_jumps_and_says_so(type_: Type, tmp_path: Path) -> None:
    hands = Hands()
    log = log_in(tmp_path / "s", hands)
    record(log, STREAM, [requested(), intended()])
    hands.at += timedelta(days=365)
    record(log, STREAM, [submitted()])
    hands.at -= timedelta(days=365)
    record(log, STREAM, [started()])
    hands.at += timedelta(hours=10)
    record(log, STREAM, [failed()])
    found = type_("state", "--at", "2026-11-23T07:30", "-o", "json").json
    assert found["runs"] == {"running": 1}
    assert found["doubtful"] == [STREAM]
    done = type_("replay", RUN, "--at", "2026-11-23T07:30")
    assert done.code == 4
    assert "#2 run.submission_started" in done.err
    assert "#4 run.started" in done.err
    assert "by its number" in done.err


def test_one_run_is_shown_as_it_was(hands: Hands, type_: Type) -> None:
    done = type_("state", OTHER, "--at", "2")
    assert re.match(rf"as of  {TIME}  #2  run\.blocked  bob@lab \(cli\)", done.lines[0])
    assert "  status  blocked" in done.lines
    assert type_("state", OTHER, "--at", "2", "-o", "json").json[f"runs/{OTHER}/run_record.json"]["status"] == "blocked"


def test_how_long_ago_is_counted_from_now(hands: Hands, type_: Type, clock: FrozenDateTimeFactory) -> None:
    def status() -> str:
        found: dict[str, Any] = type_("state", OTHER, "--at", "1h59m52s ago", "-o", "json").json
        return str(found[f"runs/{OTHER}/run_record.json"]["status"])

    assert status() == "blocked"
    clock.tick(timedelta(seconds=60))
    assert status() == "failed"
    clock.move_to(BEGIN - timedelta(days=900))
    assert type_("state", OTHER, "--at", "1h59m52s ago").code == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("completed",), 0, "#6  run.completed  ada@lab (cli)"),
        (("run.started", "-m", "node_id=n1", "-t", "30s"), 0, "#4  run.started"),
        (("run.started", "-m", "node_id=n2"), 20, "can no longer come"),
        (("run.started", "-c", "2"), 20, "run.started, 2 times can no longer come"),
        (("anomaly_seen", "-t", "0s"), 12, "was not there within 0s"),
        (("frob",), 2, "neither a status nor a type"),
        (("running", "-t", "soon"), 2, "is no length of time"),
        (("running", "-m", "=x"), 2, "is not K=V"),
    ],
)
def test_a_wait_ends_with_a_code_of_its_own(
    hands: Hands, type_: Type, words: tuple[str, ...], code: int, said: str
) -> None:
    done = type_("wait", RUN, *words)
    assert done.code == code
    assert said in done.out + done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("replay", RUN, "--at", "9"), 3, "has no event #9"),
        (("replay", RUN, "--at", "run.startet"), 3, "it has run.started"),
        (("replay", RUN, "--at", "soon"), 2, "is no moment"),
        (("replay", "nobody"), 3, "there is no run 'nobody'"),
        (("replay", "../x"), 3, "there is no run"),
        (("events", "nobody"), 3, "there is no run 'nobody'"),
        (("state", "--at", "4"), 2, "counts in one stream"),
        (("state", RUN, "--at", "2026-11-22"), 3, "its first event is #1 run.requested"),
        (("why", RUN, "nothing"), 3, "there are run_id"),
        (("diff", RUN, "nobody"), 3, "there is no run"),
    ],
)
def test_what_cannot_be_shown_is_said_in_three_lines(
    hands: Hands, type_: Type, words: tuple[str, ...], code: int, said: str
) -> None:
    done = type_(*words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 3


def test_looking_back_writes_nothing_but_snapshots(hands: Hands, type_: Type, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    for words in (("events",), ("replay", RUN), ("why", RUN, "status"), ("diff", RUN, OTHER), ("state", RUN)):
        assert type_(*words).code == 0
    after = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    assert before == after
    assert not run_record_path(tmp_path / "s", RUN).exists()


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_lines_fit_a_terminal_break_between_their_parts_and_lose_nothing(columns: int) -> None:
    parts = [Part("2026-11-23T07:00:00.000000Z", Style.DIM), *map(Part, ("a long text " * 9, "x" * 90, "板" * 30, ""))]
    lines = list(Screen(columns).lines(*parts, indent=2))
    assert max(sum(2 if each == "板" else 1 for each in line) for line in lines) <= columns
    assert "".join("".join(lines).split()) == "".join("".join(part.text for part in parts).split())
    assert all(line.startswith("  ") for line in lines)


def test_colours_are_around_what_they_colour_and_take_no_room() -> None:
    parts = [Part("a" * 30, Style.GOOD), Part("b" * 40, Style.PLAIN), Part("c" * 30, Style.BAD)]
    plain, coloured = (list(Screen(80, colours).lines(*parts)) for colours in (False, True))
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in coloured] == plain
    assert coloured[0].startswith("\x1b[32m" + "a" * 30 + "\x1b[0m  b")
