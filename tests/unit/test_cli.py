"""Does the command line say what is in a log, and does its exit code say how it is?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import FileLog, MemoryLog, NewEvent, to_cloudevent, verify
from eventlog.__main__ import main
from tests.examples import ROOT, fill, happened, log_with_tail, unsynced


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return log_with_tail(tmp_path / "logs")[0]


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_verify_counts_a_whole_log(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(path)]) == 0
    assert out(capsys) == f"whole    s  6 events  {path.stat().st_size} bytes  head {verify(path).head}\n"


def test_verify_of_a_directory_checks_all_under_it_and_the_worst_counts(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = path.parent.parent
    other = FileLog(top, disk=unsynced())
    fill(other, "run/b", 2)
    torn = other.path("run/b")
    torn.write_bytes(torn.read_bytes()[:-9])
    assert main(["verify", str(top), "-o", "jsonl"]) == 3
    verdicts = [json.loads(line) for line in out(capsys).splitlines()]
    assert [(verdict["stream"], verdict["state"], verdict["events"]) for verdict in verdicts] == [
        ("run/b", "torn", 1),
        ("s", "whole", 6),
    ]
    path.write_bytes(path.read_bytes().replace(b"second", b"zecond"))
    assert main(["verify", str(top)]) == 4
    assert "line 2 (byte" in out(capsys)


def test_verify_of_a_first_append_that_was_interrupted_is_torn_and_of_an_empty_file_whole(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_bytes(path.read_bytes()[:200])
    assert main(["verify", str(path)]) == 3
    assert out(capsys).startswith("torn     s  0 events  200 bytes  head 0:")
    path.write_bytes(b"")
    assert main(["verify", str(path)]) == 0
    assert out(capsys) == f"whole    {path}  no events\n"


def test_verify_with_a_head_noted_before_finds_a_cut(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["head", str(path)]) == 0
    head = out(capsys).strip()
    assert main(["verify", str(path), "--expect", head]) == 0
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert main(["verify", str(path)]) == 0
    assert main(["verify", str(path), "--expect", head]) == 4
    assert "were acknowledged" in out(capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["verify"], 2, "Name a log file"),
        (["verify", "{top}/nothing"], 5, "check the path"),
        (["verify", "{top}"], 5, "no events.jsonl"),
        (["verify", "{top}/text"], 5, "name the stream"),
        (["verify", "{top}/text", "--stream", "../x"], 5, "cannot name a stream"),
        (["verify", "{top}/text", "--expect", "7"], 2, "is not a head"),
        (["head", "{top}/nothing"], 5, "check the path"),
        (["cat", "{top}"], 2, "is a directory"),
        (["cat", "{top}/text"], 2, "name the stream"),
        (["follow", "{top}/nothing"], 5, "check the path"),
        (["export", "{top}/nothing"], 5, "check the path"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_own_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "text").write_text("hello\n")
    assert main([argument.format(top=tmp_path) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["cat", "x", "--first", "0"], ["cat", "x", "--first", "x"]])
def test_wrong_usage_is_said(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_cat_gives_the_lines_as_they_are(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert main(["cat", str(path), "-o", "jsonl"]) == 0
    assert out(capsys) == "".join(lines)
    assert main(["cat", str(path), "-o", "jsonl", "--first", "2", "--last", "3"]) == 0
    assert out(capsys) == "".join(lines[1:3])
    assert main(["cat", str(path), "-o", "jsonl", "--first", "2", "--last", "3", "--reverse"]) == 0
    assert out(capsys) == "".join(lines[2:0:-1])
    assert main(["cat", str(path), "--type", "nothing.happened"]) == 0
    assert out(capsys) == ""


def test_cat_gives_all_before_the_damage_and_then_says_so(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(path.read_bytes().replace(b"second", b"zecond"))
    assert main(["cat", str(path)]) == 4
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert "     1  20" in captured.out
    assert "thing.happened  by ada@lab (cli)" in captured.out
    assert "line 2" in captured.err


def test_the_program_that_explain_prints_judges_as_we_do(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--explain"]) == 0
    program = out(capsys)
    assert len(program.splitlines()) <= 11
    content = path.read_bytes()

    def judged() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", program, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert judged().stdout.strip() == str(verify(path).head)
    for spoilt in (content.replace(b"second", b"zecond"), content[:-1], content[:-1] + b"\n\n", content[10:]):
        path.write_bytes(spoilt)
        assert judged().returncode == 1
        assert judged().stdout == ""
    path.write_bytes(b"")
    assert judged().stdout == "empty\n"


def test_export_speaks_cloudevents(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(path)]) == 0
    exported = [json.loads(line) for line in out(capsys).splitlines()]
    events = list(FileLog(path.parent.parent).read("s"))
    assert exported == [to_cloudevent(event) for event in events]
    assert [event["sequence"] for event in exported] == sorted(f"{seq:020}" for seq in range(1, 7))
    for event in exported:
        assert event["specversion"] == "1.0"
        assert event["source"] == "urn:eventlog:s"
        assert event["recordedtime"] == event["time"]
        names = set(event) - {"specversion", "id", "source", "type", "time", "datacontenttype", "data"}
        assert all(name.isalnum() and name.islower() and len(name) <= 20 for name in names)
        assert all(isinstance(event[name], str | int) for name in names)


def test_export_names_causes_and_traces() -> None:
    log = MemoryLog()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    new = NewEvent("a.b", {"traceparent": trace}, "a", "d", cause="run/x#4", corr="run-1")
    [event] = log.append("run/é".replace("é", "e"), [new], key="k").events
    exported = to_cloudevent(event)
    assert exported["traceparent"] == trace
    assert (exported["causationid"], exported["correlationid"], exported["idempotencykey"]) == ("run/x#4", "run-1", "k")


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "eventlog", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_follow_prints_what_is_new_until_it_is_interrupted(path: Path) -> None:
    with started("follow", str(path), "--first", "6", "-o", "jsonl") as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["seq"] == 6
        assert "waiting for more" in process.stderr.readline()
        FileLog(path.parent.parent).append("s", [happened("new")])
        assert json.loads(process.stdout.readline())["data"] == {"what": "new"}
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    log.append("s", [happened("x" * 90_000)] * 10)
    with started("cat", str(log.path("s"))) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == ""
