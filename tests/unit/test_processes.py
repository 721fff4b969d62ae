"""Is a process named for good, found with all that belongs to it, and never mistaken for another one?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from merlin_es import processes
from merlin_es.ports import ProcessId

LIMIT_S = 20.0
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give a function that starts a shell command in a session of its own, marked or not; all end with the test."""
    with ExitStack() as stack:

        def shell(command: str, mark: str | None = None) -> subprocess.Popen[bytes]:
            name, _, value = (mark or "UNMARKED=1").partition("=")
            child = subprocess.Popen(
                ["/bin/sh", "-c", command], env={name: value, "PATH": os.defpath}, start_new_session=True
            )
            stack.callback(child.wait)
            stack.callback(_kill_group, child.pid)
            return child

        yield shell


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def identified(pid: int) -> ProcessId:
    process = processes.identify(pid)
    assert process is not None
    return process


def pid_in(path: Path) -> int:
    """Wait until a shell has written a pid there."""
    until = time.monotonic() + LIMIT_S
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(path.read_text())


def mark_of(path: Path) -> str:
    return f"MARK={path}"


def test_this_process_is_alive() -> None:
    assert processes.is_alive(identified(os.getpid()))


def test_a_name_with_brackets_and_spaces_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        try:
            until = time.monotonic() + LIMIT_S
            while "a) R" not in Path(f"/proc/{child.pid}/stat").read_text():
                assert time.monotonic() < until
            assert processes.is_alive(identified(child.pid))
            assert processes.session(identified(child.pid)) == os.getsid(0)
        finally:
            child.kill()


def test_a_pid_that_belongs_to_another_process_now_is_not_alive(start: Start) -> None:
    child = identified(start("sleep 60").pid)
    assert not processes.is_alive(replace(child, started=child.started - 1))


def test_a_process_of_another_boot_is_not_alive() -> None:
    assert not processes.is_alive(replace(identified(os.getpid()), boot_id="another"))


def test_a_zombie_is_named_and_not_alive(start: Start) -> None:
    child = start("exit 0")
    process = identified(child.pid)
    assert processes.wait_gone([process], LIMIT_S) == []
    assert processes.identify(child.pid) == process  # It is still there, for its parent to ask for.
    child.wait()
    assert processes.identify(child.pid) is None


def test_a_signal_goes_to_the_process_that_was_meant(start: Start) -> None:
    child = start("sleep 60")
    assert processes.send(identified(child.pid), signal.SIGTERM)
    assert child.wait(LIMIT_S) == -signal.SIGTERM


def test_a_signal_never_goes_to_the_next_owner_of_a_pid(start: Start) -> None:
    child = identified(start("sleep 60").pid)
    assert not processes.send(replace(child, started=child.started - 1), signal.SIGKILL)
    assert not processes.send(replace(child, boot_id="another"), signal.SIGKILL)
    assert processes.wait_gone([child], 0.2) == [child]


def test_a_signal_to_a_process_that_is_gone_says_so(start: Start) -> None:
    child = start("sleep 60")
    process = identified(child.pid)
    child.kill()
    child.wait()
    assert not processes.send(process, signal.SIGTERM)


def test_a_mark_finds_a_process_that_left_its_session_and_its_parent(start: Start, tmp_path: Path) -> None:
    start(f"(setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' &)", mark_of(tmp_path)).wait()
    stray = identified(pid_in(tmp_path / "pid"))
    assert processes.family(mark_of(tmp_path)) == [stray]
    assert processes.send(stray, signal.SIGKILL)


def test_a_mark_finds_a_child_that_has_thrown_it_away(start: Start, tmp_path: Path) -> None:
    shell = f"env -i setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & wait"
    parent = start(shell, mark_of(tmp_path))
    child = identified(pid_in(tmp_path / "pid"))
    assert {parent.pid, child.pid} <= {each.pid for each in processes.family(mark_of(tmp_path))}
    assert processes.send(child, signal.SIGKILL)


def test_a_marked_leader_brings_its_session(start: Start, tmp_path: Path) -> None:
    command = f"(env -i sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' &) ; sleep 60"
    leader = start(command, mark_of(tmp_path))
    orphan = pid_in(tmp_path / "pid")
    found = {each.pid for each in processes.family(mark_of(tmp_path))}
    assert {leader.pid, orphan} <= found


def test_a_dead_leader_still_brings_its_session(start: Start, tmp_path: Path) -> None:
    child = start(f"env -i sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & wait")
    leader = identified(child.pid)
    orphan = identified(pid_in(tmp_path / "pid"))
    child.kill()
    child.wait()
    assert processes.family(mark_of(tmp_path), leader) == [orphan]
    assert processes.family(mark_of(tmp_path), replace(leader, boot_id="another")) == []


def test_the_session_of_the_next_owner_of_a_pid_is_left_alone(start: Start, tmp_path: Path) -> None:
    leader = identified(start("sleep 60").pid)
    assert processes.family(mark_of(tmp_path), replace(leader, started=leader.started - 1)) == []


def test_a_session_that_began_before_the_leader_is_not_its_own(start: Start, tmp_path: Path) -> None:
    child = start(f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & wait")
    leader = identified(child.pid)
    pid_in(tmp_path / "pid")
    child.kill()
    child.wait()
    later = replace(leader, started=leader.started + 60 * os.sysconf("SC_CLK_TCK"))
    assert processes.family(mark_of(tmp_path), later) == []


def test_a_mark_that_begins_like_another_is_another(start: Start, tmp_path: Path) -> None:
    child = start("sleep 60", mark_of(tmp_path / "ab"))
    assert processes.family(mark_of(tmp_path / "a")) == []
    assert [each.pid for each in processes.family(mark_of(tmp_path / "ab"))][:1] == [child.pid]


def test_nobody_finds_itself(tmp_path: Path) -> None:
    ask = "import sys; from merlin_es import processes; print(len(processes.family(sys.argv[1])))"
    name, _, value = mark_of(tmp_path).partition("=")
    answer = subprocess.run(
        [sys.executable, "-c", ask, mark_of(tmp_path)], env={name: value}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    assert answer.stdout == "0\n"
