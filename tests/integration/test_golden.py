"""Does this release read, and still write to the byte, what earlier releases wrote?

The files in tests/golden are never changed. A release that writes otherwise adds its own beside them.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from eventlog import Corrupt, FileLog, Head, NewEvent, OneFile, verify
from eventlog.record import JsonValue
from tests.conftest import Figure
from tests.examples import happened, unsynced

GOLDEN = Path(__file__).parent.parent / "golden"
BEGIN_NS = 1795418031_123456_789  # 2026-11-23T07:13:51.123456789Z
HEAD = Head(9, "HJRz6nM1N5t78YHtHXeek6XsU-PmXTbw4a3laBbCges")


def write_all_fields(path: Path) -> None:
    """Write the golden log of 0.1: every field, every kind of append, at fixed times and with fixed ids."""
    seconds, numbers = itertools.count(), itertools.count(1)
    log = FileLog(
        OneFile(path),
        disk=unsynced(),
        clock=lambda: BEGIN_NS + next(seconds) * 10**9,
        new_id=lambda: f"019ab0c0-0000-7000-8000-{next(numbers):012x}",
    )
    stream = "run/golden-20261123071351-0badcafe"
    made = NewEvent(
        "run.requested", {"target": "saturn_opu_v128", "command": ["echo", "☃"]}, "ada@lab3", "cli", corr="g"
    )
    log.append(stream, [made], expected=0, key="submit:golden")
    log.append(stream, [NewEvent("run.noted", {}, "agent:claude for ada", "mcp", dv=2, cause=1, corr="g")])
    values: dict[str, JsonValue] = {
        "null": None,
        "bool": [True, False],
        "int": -(2**70),
        "float": 1.5e-7,
        "text": '"\\\n\t\u0001é🙂',
        "empty": [{}, []],
    }
    log.append(stream, [NewEvent("run.measured", values, "reconciler", "reconcile", cause="cluster/lab#7")])
    log.append(
        stream, [made, NewEvent("run.noted", {"n": 2}, "a", "b"), NewEvent("run.noted", {"n": 3}, "a", "b")], key="b"
    )
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":7,"id":"019ab0c0-')
    log.append(stream, [NewEvent("run.completed", {"exit_code": 0}, "job", "job", cause=2)])
    log.append(stream, [NewEvent("run.noted", {"long": "x" * 5000}, "ada@lab3", "cli")])
    log.close()


def test_the_golden_log_is_whole_and_says_what_it_said(tmp_path: Path, figure: Figure) -> None:
    path = tmp_path / "events.jsonl"
    shutil.copy(GOLDEN / "0.1-all-fields.jsonl", path)
    verdict = verify(path)
    assert (verdict.state, verdict.head) == ("whole", HEAD)
    log = FileLog(OneFile(path), disk=unsynced())
    events = [json.loads(msgspec.json.encode(event)) for event in log.read(verdict.stream)]
    assert events == json.loads((GOLDEN / "0.1-all-fields.json").read_text())
    assert log.append(verdict.stream, [happened()], expected=verdict.head).first == verdict.head.seq + 1
    figure(f"{len(events)} events of release 0.1, a torn log and a corrupt one beside it")


def test_todays_writer_gives_the_golden_bytes(tmp_path: Path) -> None:
    write_all_fields(tmp_path / "events.jsonl")
    assert (tmp_path / "events.jsonl").read_bytes() == (GOLDEN / "0.1-all-fields.jsonl").read_bytes()


def test_the_golden_torn_log_is_torn_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    shutil.copy(GOLDEN / "0.1-torn.jsonl", path)
    verdict = verify(path)
    assert (verdict.state, verdict.head.seq, verdict.line) == ("torn", 3, 4)
    news = FileLog(OneFile(path), disk=unsynced()).append(verdict.stream, [happened()]).news
    assert [event.seq for event in news] == [4, 5]


def test_the_golden_corrupt_log_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    shutil.copy(GOLDEN / "0.1-corrupt.jsonl", path)
    verdict = verify(path)
    assert (verdict.state, verdict.line) == ("corrupt", 3)
    with pytest.raises(Corrupt):
        FileLog(OneFile(path), disk=unsynced()).append(verdict.stream, [happened()])
