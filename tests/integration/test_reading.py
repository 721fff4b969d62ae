"""Is reading cheap and calm: near a seq, from the end, while others write, and while nothing happens?"""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eventlog import CaughtUp, Corrupt, Event, FileLog, Vanished, verify
from eventlog.wake import Waker, inotify_waker, watchfiles_waker
from tests import writers
from tests.conftest import Figure
from tests.examples import fill, happened, unsynced, whats
from tests.writers import context


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> FileLog:
    log = FileLog(tmp_path_factory.mktemp("long"), disk=unsynced())
    for start in range(0, 30_000, 500):
        log.append("s", [happened(number, text="x" * (number % 300)) for number in range(start, start + 500)])
    return log


@pytest.mark.parametrize("first", [1, 2, 499, 500, 501, 15_000, 29_999, 30_000, 30_001, 10**9])
def test_reading_from_a_seq_begins_there(long_log: FileLog, first: int) -> None:
    expected = list(range(max(first, 1) - 1, 30_000))[:700]
    got = [event.data["what"] for event, _ in zip(long_log.read("s", first), range(700), strict=False)]
    assert got == expected
    backwards = [event.seq for event, _ in zip(long_log.read_backwards("s", first), range(700), strict=False)]
    assert backwards == list(range(min(first, 30_000), 0, -1))[:700]


def test_a_read_near_the_end_looks_at_a_small_part_of_the_file(
    long_log: FileLog, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    read = 0
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        block = pread(fd, size, offset)
        read += len(block)
        return block

    monkeypatch.setattr(os, "pread", counted)
    size = long_log.path("s").stat().st_size
    for look in (
        lambda: list(long_log.read("s", 29_990)),
        lambda: long_log.head("s"),
        lambda: next(iter(long_log.read_backwards("s"))),
        lambda: next(iter(long_log.read_backwards("s", 15_000))),
        lambda: next(iter(long_log.read("s", 15_000))),
    ):
        read = 0
        look()
        assert read < size / 5
    read = 0
    long_log.head("s")
    figure(f"head reads {read} of {size} bytes")


def test_memory_does_not_grow_with_the_log(long_log: FileLog, figure: Figure) -> None:
    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        work()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    whole = peak(lambda: deque(long_log.read("s"), maxlen=0))
    part = peak(lambda: deque(long_log.read("s", 27_000), maxlen=0))
    checked = peak(lambda: verify(long_log.path("s")))
    assert whole < 1.3 * part
    assert checked < 1.3 * part
    figure(f"verify of {long_log.path('s').stat().st_size} bytes takes {checked} bytes at most")


def test_readers_see_whole_appends_only_while_others_write_and_die(tmp_path: Path) -> None:
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=writers.append_until_killed, args=(tmp_path, "w", 0, theirs), daemon=True)
    process.start()
    mine.recv()
    for _ in range(200):
        events = list(FileLog(tmp_path).read("s"))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].batch is None or len(set(events[-1].batch.split("/"))) == 1
    process.kill()
    process.join()


WAKERS = [inotify_waker, watchfiles_waker]


@pytest.mark.parametrize("make", WAKERS)
def test_a_waker_wakes_when_the_file_grows_or_its_directory_appears(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[Waker]]
) -> None:
    """The limit is far longer than the test may take: whoever returns was woken."""
    path = tmp_path / "a" / "b" / "file"
    with make(path) as wake:
        for change in (
            (tmp_path / "a").mkdir,
            (tmp_path / "a" / "b").mkdir,
            path.touch,
            lambda: path.write_text("x"),
            lambda: path.rename(tmp_path / "elsewhere"),
        ):
            wake.arm()
            change()
            wake.wait(1000)


@pytest.mark.parametrize("make", WAKERS)
def test_a_waker_returns_at_its_limit(tmp_path: Path, make: Callable[[Path], AbstractContextManager[Waker]]) -> None:
    with make(tmp_path / "file") as wake:
        wake.arm()
        wake.wait(0.01)


def test_a_follower_looks_by_itself_where_nothing_wakes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system, where changes made elsewhere are not announced."""
    monkeypatch.setattr("eventlog.wake._nearest_directory", lambda _: tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    log = FileLog(tmp_path / "top")
    follower = log.follow("s", poll_s=0.01)
    assert isinstance(next(follower), CaughtUp)
    log.append("s", [happened("seen")])
    assert isinstance(event := next(follower), Event)
    assert event.data["what"] == "seen"


def test_a_follower_misses_and_doubles_nothing_while_another_process_writes(tmp_path: Path) -> None:
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=writers.append_until_killed, args=(tmp_path, "w", 0, theirs), daemon=True)
    process.start()
    stop = threading.Event()
    seqs = []
    for item in FileLog(tmp_path).follow("s", stop=stop):
        if isinstance(item, Event):
            seqs.append(item.seq)
            if item.seq >= 300:
                stop.set()
    process.kill()
    process.join()
    mine.close()
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_follower_goes_on_in_the_file_that_a_failed_sync_led_to(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    fill(log, "s", 2)
    follower = log.follow("s", 3)
    assert isinstance(next(follower), CaughtUp)
    path = log.path("s")
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    log.append("s", [happened("in the new file")])
    assert isinstance(event := next(follower), Event)
    assert (event.seq, event.data["what"]) == (3, "in the new file")


def test_a_follower_is_told_when_what_it_has_read_is_gone(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    fill(log, "s", 2)
    path = log.path("s")
    follower = log.follow("s")
    assert [type(next(follower)) for _ in range(3)] == [Event, Event, CaughtUp]
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(Corrupt, match="ends before what was already read"):
        next(follower)
    follower = FileLog(tmp_path).follow("s")
    assert [type(next(follower)) for _ in range(2)] == [Event, CaughtUp]
    path.unlink()
    with pytest.raises(Vanished):
        next(follower)


def test_a_key_is_found_in_a_long_past_by_a_process_that_has_not_read_it(long_log: FileLog, tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    log.path("s").parent.mkdir()
    log.path("s").write_bytes(long_log.path("s").read_bytes())
    appended = [log.append("s", [happened(key, n=n) for n in range(2)], key=key) for key in ("first", "second")]
    for number in range(3000):
        log.append("s", [happened(text="y" * 1000)], key=f"other-{number}")
    fresh = FileLog(tmp_path, disk=unsynced())
    for before, key in zip(appended * 2, ("first", "second") * 2, strict=True):
        again = fresh.append("s", [happened(key, n=n) for n in range(2)], key=key)
        assert (again.repeated, again.first, again.lines) == (True, before.first, before.lines)
    assert not fresh.append("s", [happened("new")], key="third").repeated
    assert whats(fresh, "s", 33_005) == ["new"]


def test_a_follower_is_woken_and_does_not_wait_for_its_next_look(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    follower = log.follow("s", poll_s=3_600)
    assert isinstance(next(follower), CaughtUp)
    appending = threading.Thread(target=fill, args=(log, "s", 1))
    appending.start()
    assert isinstance(next(follower), Event)  # The time limit of a test is less than an hour.
    appending.join()
