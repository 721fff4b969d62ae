"""Does a log hold when any number of processes use it at once, and when they die at any moment?"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from eventlog import FileLog, Locked, verify
from tests import writers
from tests.conftest import Figure
from tests.examples import descriptors_under, fill, happened, whats
from tests.writers import context

KILLS = 220
SLOTS = 4


def test_writers_killed_at_random_moments_lose_and_double_nothing_that_was_acknowledged(
    tmp_path: Path, figure: Figure
) -> None:
    chance = random.Random(20261123)
    oracle: dict[str, int] = {}
    next_number = dict.fromkeys(range(SLOTS), 0)

    def start(slot: int) -> tuple[ForkServerProcess, Connection]:
        mine, theirs = context.Pipe(duplex=False)
        arguments = (tmp_path, f"w{slot}", next_number[slot], theirs)
        process = context.Process(target=writers.append_until_killed, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return process, mine

    def take(slot: int, acknowledged: tuple[int, int]) -> None:
        number, seq = acknowledged
        oracle[f"w{slot}-{number}"] = seq
        next_number[slot] = number + 1

    running = {slot: start(slot) for slot in range(SLOTS)}
    for _ in range(KILLS):
        slot = chance.randrange(SLOTS)
        process, acknowledged = running[slot]
        for _ in range(chance.randrange(1, 6)):
            take(slot, acknowledged.recv())
        for _ in range(chance.randrange(3000)):
            pass  # A random moment within the next append, which takes as long as some thousand of these.
        process.kill()
        process.join()
        try:
            while True:
                take(slot, acknowledged.recv())
        except EOFError:
            acknowledged.close()
        running[slot] = start(slot)
    for process, acknowledged in running.values():
        process.kill()
        process.join()
        acknowledged.close()

    log = FileLog(tmp_path)
    log.append("s", [happened("the end")])  # Sets a torn tail aside, if the last kill left one.
    assert verify(log.path("s")).state == "whole"
    recorded = {event.key: event.seq for event in log.read("s") if event.key}
    keys = [event.key for event in log.read("s") if event.key]
    assert len(keys) == len(recorded), "a key was recorded twice"
    assert {key: recorded.get(key) for key in oracle} == oracle, "an acknowledged event is missing or elsewhere"
    parts = Counter(event.data["what"] for event in log.read("s") if event.type == "thing.happened")
    assert all(parts[key] == 1 + int(key.split("-")[1]) % 3 for key in recorded), "a batch is not whole"
    for slot in range(SLOTS):
        numbers = sorted(int(key.split("-")[1]) for key in recorded if key.startswith(f"w{slot}-"))
        assert numbers == list(range(len(numbers))), "a writer's events have a gap"
    torn = sum(event.type == "log.repaired" for event in log.read("s"))
    figure(f"{KILLS} kills, {len(oracle)} acknowledged appends, {torn} torn tails repaired, none lost, none doubled")


def test_sixteen_processes_that_compare_and_append_leave_no_gap_and_no_double(tmp_path: Path, figure: Figure) -> None:
    count, each = 16, 20
    ready = context.Barrier(count)
    processes = [
        context.Process(target=writers.append_on_head, args=(tmp_path, f"w{n}", each, ready), daemon=True)
        for n in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    log = FileLog(tmp_path)
    assert verify(log.path("s")).state == "whole"
    assert [event.seq for event in log.read("s")] == list(range(1, count * each + 1))
    assert Counter(whats(log, "s")) == Counter(f"w{n}-{k}" for n in range(count) for k in range(each))
    figure(f"{count} processes, {count * each} appends, each on the head that it was decided on")


def test_sixteen_processes_with_one_key_record_it_once(tmp_path: Path, figure: Figure) -> None:
    count = 16
    fill(FileLog(tmp_path), "s", 3)
    ready = context.Barrier(count)
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=writers.append_same_key, args=(tmp_path, ready, theirs), daemon=True)
        for _, theirs in pipes
    ]
    for process in processes:
        process.start()
    answers = [mine.recv() for mine, _ in pipes]
    for process in processes:
        process.join()
    assert sorted(answers) == [(4, False)] + [(4, True)] * (count - 1)
    assert whats(FileLog(tmp_path), "s") == [0, 1, 2, "once"]
    figure(f"{count} processes with the same key, recorded once")


def test_a_process_that_is_stopped_with_the_lock_is_named_to_those_who_wait(tmp_path: Path) -> None:
    mine, theirs = context.Pipe()
    process = context.Process(target=writers.hold_the_lock, args=(tmp_path, theirs), daemon=True)
    process.start()
    mine.recv()
    os.kill(process.pid or 0, signal.SIGSTOP)
    impatient = FileLog(tmp_path, lock_limit_s=0.05)
    for _ in range(2):
        with pytest.raises(Locked, match=rf"locked by process {process.pid} .*nothing was recorded"):
            impatient.append("s", [happened("impatient")])
    os.kill(process.pid or 0, signal.SIGCONT)
    mine.send("go on")
    assert mine.recv() == "appended"
    assert impatient.append("s", [happened("now")]).first == 2
    process.join()
    assert whats(impatient, "s") == ["held", "now"]


def test_a_lock_is_not_leaked_into_children_that_outlive_their_killed_parent(tmp_path: Path) -> None:
    mine, theirs = context.Pipe()
    process = context.Process(target=writers.hold_the_lock_with_children, args=(tmp_path, theirs), daemon=False)
    process.start()
    children = mine.recv()
    with pytest.raises(Locked):
        FileLog(tmp_path, lock_limit_s=0.01).append("s", [happened("not yet")])
    process.kill()
    process.join()
    try:
        for child in children:
            os.kill(child, 0)  # Both are alive.
        FileLog(tmp_path, lock_limit_s=5).append("s", [happened("free")])
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    assert whats(FileLog(tmp_path), "s") == ["held", "free"]


def test_a_log_can_be_used_on_both_sides_of_a_fork_in_the_middle_of_an_append(tmp_path: Path) -> None:
    mine, theirs = context.Pipe()
    process = context.Process(target=writers.append_and_fork, args=(tmp_path, theirs), daemon=False)
    process.start()
    assert [mine.recv(), mine.recv()] == ["forked", "done"]
    process.join()
    assert whats(FileLog(tmp_path), "s") == ["parent", "child"]
    assert whats(FileLog(tmp_path), "other") == ["child"]
    assert verify(FileLog(tmp_path).path("s")).state == "whole"


def test_no_file_is_left_beside_the_logs(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    fill(log, "run/a", 3)
    log.close()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["events.jsonl"]


def test_descriptors_are_closed_on_exec_and_do_not_pile_up(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    for number in range(100):
        log.append(f"run/{number}", [happened()])
    opened = descriptors_under(tmp_path)
    assert 0 < len(opened) <= 64
    assert not any(os.get_inheritable(fd) for fd in opened)
    log.close()
    assert descriptors_under(tmp_path) == []
