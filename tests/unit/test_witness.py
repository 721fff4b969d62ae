"""Is what a wrapper wrote read as it was meant, and does a command reach the wrapper as it was given?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merlin_es import entrypoint as wrapper
from merlin_es.errors import MerlinError, Sick, Usage
from merlin_es.ports import Ended, Started, Witness, Witnesses
from merlin_es.witness import ENTRYPOINT_BYTES_MAX, WitnessFiles, entrypoint

STARTED = '{"boot_id": "b", "boottime_s": 1.5, "host": "h", "pid": 7, "time": "2026-11-23T07:13:51.123456Z"}\n'
TIME = "2026-11-23T07:13:51.000000Z"
ENDED = (
    f'{{"duration_s": 2, "exit_code": -15, "how": "exited", "stopped_by": "SIGTERM", "new": [1], "time": "{TIME}"}}\n'
)
TELL = ["sh", "-c", 'for word; do printf "%s\\0" "$word"; done', "tell"]

# What an argument of a process can be: any bytes but NUL, which Python shows as text with surrogates.
arguments = st.binary(max_size=40).map(lambda data: os.fsdecode(data.replace(b"\0", b"\n")))
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.fixture
def files(tmp_path: Path) -> WitnessFiles:
    return WitnessFiles(tmp_path)


def leave(files: WitnessFiles, name: str, content: str) -> Path:
    path = files.directory("r") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_nothing_is_read_where_nothing_was_left(files: WitnessFiles) -> None:
    port: Witnesses = files
    assert port.read("r", 1) == Witness()
    assert not files.directory("r").exists()


def test_each_file_of_an_attempt_is_read_and_no_other_attempts(files: WitnessFiles) -> None:
    leave(files, "a1.started.json", STARTED)
    started = Started("h", 7, "2026-11-23T07:13:51.123456Z", "b", 1.5)
    assert files.read("r", 1) == Witness(started)
    leave(files, "a1.ended.json", ENDED)
    assert files.read("r", 1) == Witness(started, Ended(-15, "exited", TIME, 2, "SIGTERM"))
    leave(files, "a2.refused.json", '{"why": "cancelled"}')
    leave(files, "a12.refused.json", '{"why": "already_started"}')
    assert files.read("r", 2) == Witness(refused="cancelled")
    assert files.read("r", 12) == Witness(refused="already_started")
    assert files.read("r", 3) == Witness()


def test_a_killed_wrapper_leaves_an_end_without_a_code(files: WitnessFiles) -> None:
    leave(
        files,
        "a1.ended.json",
        '{"duration_s": null, "exit_code": null, "how": "wrapper_killed", "time": "2026-11-23T07:13:51.000000Z"}',
    )
    assert files.read("r", 1).ended == Ended(None, "wrapper_killed", TIME, None)


@pytest.mark.parametrize("content", ["", STARTED[:40], "[]", STARTED.replace("7", '"7"'), "{}", "\0" * 50])
def test_a_file_that_no_wrapper_wrote_is_sick_and_not_absent(files: WitnessFiles, content: str) -> None:
    path = leave(files, "a1.started.json", content)
    with pytest.raises(Sick, match=r"a1\.started\.json is not what a wrapper writes") as caught:
        files.read("r", 1)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_sick_and_not_absent(files: WitnessFiles) -> None:
    (files.directory("r") / "a1.ended.json").mkdir(parents=True)
    with pytest.raises(Sick, match=r"a1\.ended\.json: Is a directory"):
        files.read("r", 1)


def test_a_run_is_forbidden_once_and_again(files: WitnessFiles) -> None:
    for _ in range(2):
        files.forbid("r")
        assert (files.directory("r") / "cancelled").is_file()


def test_a_tombstone_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("in the way")
    with pytest.raises(MerlinError, match=r"cancelled: .*the run may still start"):
        WitnessFiles(tmp_path).forbid("r")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
        st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | arguments | texts,
    )
)
def test_what_the_wrapper_writes_is_one_line_of_json_with_sorted_keys(record: dict[str, str | int | float]) -> None:
    import json

    line = wrapper.encode(dict(record))
    assert json.loads(line) == record
    assert list(json.loads(line)) == sorted(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1


@settings(max_examples=60, deadline=None)
@given(words=st.lists(arguments | texts, max_size=6), seen=st.booleans())
def test_any_argument_reaches_the_command_as_it_was_given(words: list[str], seen: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="a b'$c") as directory:
        top = Path(directory)
        (top / "-work dir\n").mkdir()
        text = entrypoint(
            Path(wrapper.__file__) if seen else top / "no such wrapper",
            sys.executable,
            top / "witness",
            "r",
            1,
            str(top / "-work dir\n"),
            [*TELL, *words],
        )
        done = subprocess.run(["/bin/sh", "-c", text], capture_output=True, check=True)
        assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
        assert (top / "witness" / "a1.ended.json").exists() == seen
        assert (b"merlin: this node does not see" in done.stderr) == (not seen)


def run(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, env={**os.environ, **environment})


def test_a_node_that_does_not_see_the_wrapper_runs_the_command_in_its_workdir_and_says_so(tmp_path: Path) -> None:
    text = entrypoint(tmp_path / "none", sys.executable, tmp_path, "r", 1, str(tmp_path), ["sh", "-c", "pwd; exit 3"])
    done = run(text)
    assert (done.returncode, done.stdout) == (3, f"{tmp_path}\n")
    assert done.stderr.startswith(f"merlin: this node does not see {tmp_path}/none")
    missing = entrypoint(tmp_path / "none", sys.executable, tmp_path, "r", 1, str(tmp_path / "gone"), ["echo", "ran"])
    assert (run(missing).returncode, run(missing).stdout) == (125, "")


def test_a_node_without_that_python_takes_its_own_and_without_any_runs_the_command_bare(tmp_path: Path) -> None:
    where = Path(wrapper.__file__)
    text = entrypoint(where, "/no/such/python", tmp_path / "witness", "r", 1, str(tmp_path), ["/bin/echo", "ran"])
    (tmp_path / "python3").symlink_to(sys.executable)
    done = run(text, PATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    assert (tmp_path / "witness" / "a1.ended.json").exists()
    done = run(text, PATH="/nowhere")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "has no Python" in done.stderr


def test_a_command_that_cannot_be_started_is_refused_before_ray_is_asked(tmp_path: Path) -> None:
    def ask(command: list[str]) -> str:
        return entrypoint(tmp_path / "w", sys.executable, tmp_path, "r", 1, str(tmp_path), command)

    with pytest.raises(Usage, match="nothing to run"):
        ask([])
    with pytest.raises(Usage, match="NUL"):
        ask(["echo", "a\0b"])
    room = ENTRYPOINT_BYTES_MAX - len(ask(["echo", ""])) + len("''")
    assert run(ask(["echo", "x" * room])).stdout == "x" * room + "\n"
    with pytest.raises(Usage, match="too long to be started"):
        ask(["echo", "x" * (room + 1)])


def test_a_time_that_is_none_is_sick(files: WitnessFiles) -> None:
    leave(files, "a1.ended.json", '{"duration_s": null, "exit_code": null, "how": "wrapper_killed", "time": "soon"}')
    with pytest.raises(Sick, match="where a time belongs"):
        files.read("r", 1)
