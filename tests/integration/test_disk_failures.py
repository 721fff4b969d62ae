"""Is the old log whole after every refusal of the disk, does the error say what to do, and does work go on?"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eventlog import (
    Append,
    Conflict,
    Corrupt,
    FileLog,
    Invalid,
    NotReadable,
    NotSynced,
    NotWritten,
    UnsyncedDisk,
    Vanished,
    verify,
)
from tests import writers
from tests.conftest import Figure
from tests.disks import FailingDisk
from tests.examples import ROOT, fill, happened, unsynced, whats
from tests.writers import context


@pytest.mark.parametrize("short_bytes", [0, 1, 100, 399])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS])
def test_a_write_that_fails_part_way_leaves_the_log_as_it_was(tmp_path: Path, number: int, short_bytes: int) -> None:
    disk = FailingDisk(short_bytes=short_bytes)
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 2)
    before = log.path("s").read_bytes()
    disk.failures = [("write", number)]
    with pytest.raises(NotWritten, match=r"nothing was recorded and the log is as it was: .*repeat the call") as caught:
        log.append("s", [happened("lost"), happened("too")], key="k")
    assert caught.value.errno == number
    assert log.path("s").read_bytes() == before
    assert log.append("s", [happened("again")], key="k").first == 3
    assert whats(log, "s") == [0, 1, "again"]


def test_a_write_that_fails_where_cutting_back_fails_too_is_cut_by_the_next_append(tmp_path: Path) -> None:
    disk = FailingDisk(short_bytes=50)
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 2)
    disk.failures = [("write", errno.ENOSPC), ("truncate", errno.EIO)]
    with pytest.raises(NotWritten, match="the next append cuts it off"):
        log.append("s", [happened("lost")])
    assert whats(log, "s") == [0, 1]
    assert [event.type for event in log.append("s", [happened(2)]).news] == ["log.repaired", "thing.happened"]
    assert verify(log.path("s")).state == "whole"


def test_after_a_failed_sync_the_descriptor_is_not_asked_again_and_the_log_moves_to_a_new_file(tmp_path: Path) -> None:
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 3)
    path = log.path("s")
    before, inode = path.read_bytes(), path.stat().st_ino
    disk.failures = [("sync", errno.EIO)]
    with pytest.raises(NotSynced, match="goes on in a new file"):
        log.append("s", [happened("not durable")])
    assert path.stat().st_ino != inode
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["events.jsonl"]
    assert log.append("s", [happened(3)]).first == 4
    assert whats(FileLog(tmp_path), "s") == [0, 1, 2, 3]


def test_while_the_copy_fails_too_the_stream_is_refused_and_then_goes_on(tmp_path: Path) -> None:
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 3)
    before = log.path("s").read_bytes()
    disk.failures = [("sync", errno.EIO), ("sync", errno.EIO)]
    with pytest.raises(NotSynced, match="before the log can be copied"):
        log.append("s", [happened("not durable")])
    assert log.path("s").read_bytes() == before, "an event that nobody vouches for can be read"
    for call in ("open", "write", "sync", "rename"):
        disk.failures = [(call, errno.EIO)]
        with pytest.raises(NotSynced, match="nothing was recorded"):
            log.append("s", [happened("refused")])
        assert log.path("s").read_bytes() == before
    assert log.append("s", [happened(3)]).first == 4
    assert whats(log, "s") == [0, 1, 2, 3]
    assert [entry.name for entry in log.path("s").parent.iterdir()] == ["events.jsonl"]


def test_a_copy_that_does_not_read_back_as_what_was_written_never_takes_the_log_s_place(tmp_path: Path) -> None:
    class Forgetful(FailingDisk):
        forgets = False

        def write(self, fd: int, data: bytes) -> int:
            return super().write(fd, bytes(len(data)) if self.forgets else data)

    disk = Forgetful()
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 3)
    before = log.path("s").read_bytes()
    disk.failures = [("write", 0), ("sync", errno.EIO)]
    disk.forgets = True
    with pytest.raises(NotSynced, match="the copy is not whole"):
        log.append("s", [happened("not durable")])
    assert log.path("s").read_bytes() == before
    disk.forgets = False
    assert log.append("s", [happened(3)]).first == 4


def test_another_process_that_waited_for_the_old_file_goes_on_in_the_new_one(tmp_path: Path) -> None:
    disk = FailingDisk()
    log, other = FileLog(tmp_path, disk=disk), FileLog(tmp_path)
    fill(log, "s", 1)
    fill(other, "s", 1)
    log.append("s", [happened("mine")])
    disk.failures = [("sync", errno.EIO)]
    with pytest.raises(NotSynced):
        log.append("s", [happened("not durable")])
    other.append("s", [happened("theirs")])
    log.append("s", [happened("mine again")])
    assert whats(FileLog(tmp_path), "s") == [0, 0, "mine", "theirs", "mine again"]
    assert verify(log.path("s")).state == "whole"


@pytest.mark.parametrize("call", ["mkdir", "open", "sync_directory", "write", "sync"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_first_append_that_fails_anywhere_leaves_an_empty_stream(tmp_path: Path, call: str, number: int) -> None:
    disk = FailingDisk()
    log = FileLog(tmp_path / "new" / "top", disk=disk)
    disk.failures = [(call, number)]
    with pytest.raises(NotWritten):
        log.append("run/a", [happened()])
    assert whats(log, "run/a") == []
    assert log.append("run/a", [happened("again")], expected=0).first == 1


@pytest.mark.parametrize("call", ["write", "sync"])
def test_of_a_group_that_cannot_be_written_nobody_is_told_that_it_was(tmp_path: Path, call: str) -> None:
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    log.append("s", [happened("known")], key="k")
    group = [
        Append((happened("new"),), key="n"),
        Append((happened("known"),), key="k"),
        Append((happened("new"),), key="n"),
        Append((happened(2),), 99),
    ]
    disk.failures = [(call, errno.ENOSPC)]
    refused = "NotWritten" if call == "write" else "NotSynced"
    assert [type(result).__name__ for result in log.commit("s", group)] == [refused, refused, refused, "Conflict"]
    assert whats(log, "s") == ["known"]
    assert [type(result).__name__ for result in log.commit("s", group)] == ["Appended"] * 3 + ["Conflict"]
    assert whats(log, "s") == ["known", "new"]


def test_a_repeated_append_is_synced_before_it_is_called_recorded(tmp_path: Path) -> None:
    FileLog(tmp_path, disk=unsynced()).append("s", [happened()], key="k")  # As by a writer killed before its sync.
    disk = FailingDisk()
    assert FileLog(tmp_path, disk=disk).append("s", [happened()], key="k").repeated
    assert "sync" in disk.calls
    disk.failures = [("sync", errno.EIO)]
    with pytest.raises(NotWritten):
        FileLog(tmp_path, disk=disk).append("s", [happened()], key="k")


def test_a_failed_sync_of_what_is_repeated_moves_the_log_to_a_new_file_too(tmp_path: Path) -> None:
    FileLog(tmp_path, disk=unsynced()).append("s", [happened()], key="k")
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    inode = log.path("s").stat().st_ino
    disk.failures = [("sync", errno.EIO)]
    with pytest.raises(NotSynced):
        log.append("s", [happened()], key="k")
    assert log.path("s").stat().st_ino != inode
    assert log.append("s", [happened()], key="k").repeated


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_repair_whose_record_the_disk_refuses_is_recorded_by_the_next_append(tmp_path: Path, call: str) -> None:
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 2)
    with log.path("s").open("ab") as file:
        file.write(b'{"v":1,"seq":3,"id":"01')
    # The torn bytes are kept first, with a write and a sync of their own.
    disk.failures = [(call, 0), (call, errno.ENOSPC)]
    with pytest.raises(NotWritten):
        log.append("s", [happened("refused")])
    news = log.append("s", [happened("after")]).news
    assert [event.type for event in news] == ["log.repaired", "thing.happened"]
    assert whats(FileLog(tmp_path), "s") == [0, 1, "log.repaired", "after"]


def test_an_interrupt_at_any_call_gives_the_lock_back(tmp_path: Path) -> None:
    class Interrupting(FailingDisk):
        def _meet(self, call: str) -> None:
            self.calls.append(call)
            if self.failures and self.failures[0][0] == call:
                self.failures.clear()
                raise KeyboardInterrupt

    disk = Interrupting()
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 1)
    for call in ("write", "sync"):
        disk.failures = [(call, 0)]
        with pytest.raises(KeyboardInterrupt):
            log.append("s", [happened("interrupted")], key=call)
        FileLog(tmp_path, lock_limit_s=0.1).append("s", [happened("other")])
        log.append("s", [happened("interrupted")], key=call)
    assert whats(log, "s").count("interrupted") == 2


def test_a_refused_append_makes_no_file(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "top")
    for events, expected in (([happened()], 3), ([], 0), ([happened(float("nan"))], 0)):
        with pytest.raises((Conflict, Invalid)):
            log.append("run/typo", events, expected=expected)
    assert not (tmp_path / "top").exists()


def test_a_file_size_limit_stops_an_append_and_nothing_else(tmp_path: Path, figure: Figure) -> None:
    mine, theirs = context.Pipe(duplex=False)
    limit = 20_000
    process = context.Process(target=writers.append_under_size_limit, args=(tmp_path, limit, theirs), daemon=True)
    process.start()
    count, message, number, size, last = mine.recv()
    process.join()
    assert number == errno.EFBIG
    assert "ulimit -f" in message
    assert size <= limit
    assert last == count + 1
    assert whats(FileLog(tmp_path), "s") == [*range(count), "after"]
    figure(f"{count} events up to a limit of {limit} bytes, then the refusal, then one more")


FULL_DISK = """
import os, sys, errno
from pathlib import Path
from eventlog import BlobStore, FileLog, NotWritten, verify
from tests.examples import happened, whats
top = Path(sys.argv[1])
log, blobs, count = FileLog(top), BlobStore(top / "blobs"), 0
kept = blobs.put(b"kept")
while True:
    try:
        log.append("s", [happened(count, text="x" * (count * 7919 % 3000))])
    except NotWritten as error:
        assert error.errno == errno.ENOSPC and "free space" in str(error), error
        break
    count += 1
try:
    blobs.put(os.urandom(100_000))
    raise SystemExit("a blob fitted on a full disk")
except NotWritten as error:
    assert "free space" in str(error), error
assert verify(log.path("s")).state == "whole" and log.head("s").seq == count
assert blobs.get(kept) == b"kept" and list(blobs.digests()) == [kept]
(top / "ballast").unlink()
assert log.append("s", [happened("after")]).first == count + 1
assert whats(FileLog(top), "s") == [*range(count), "after"]
print(count)
"""


def test_a_full_disk_stops_an_append_and_nothing_else(tmp_path: Path, figure: Figure) -> None:
    """On a real file system of 512 KiB, mounted in a name space of its own, which needs no root where users may."""
    script = (
        f'mount -t tmpfs -o size=512k full "{tmp_path}" && head -c 100000 /dev/zero > "{tmp_path}/ballast" '
        f'&& "{sys.executable}" - "{tmp_path}"'
    )
    unshare = shutil.which("unshare")
    isolated = [str(unshare), "--user", "--map-root-user", "--mount"]
    if not unshare or subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a name space of their own")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*isolated, "sh", "-c", script], input=FULL_DISK, text=True, capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    figure(f"{done.stdout.strip()} events on a tmpfs of 512 KiB, then ENOSPC, then one more")


def test_where_nothing_may_be_written_the_log_can_still_be_read(tmp_path: Path) -> None:
    top = tmp_path / "top"
    fill(FileLog(top), "s", 2)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    for path in (top, top / "s", top / "s" / "events.jsonl"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=writers.append_as_nobody, args=(top, theirs), daemon=True)
    process.start()
    refusals, seqs = mine.recv()
    process.join()
    for path in (top, top / "s"):
        path.chmod(0o755)
    assert [number for _, number in refusals] == [errno.EACCES, errno.EACCES]
    assert all("give this user the right" in message for message, _ in refusals)
    assert seqs == [1, 2]


def test_a_directory_that_vanishes_is_not_replaced_by_an_empty_log_and_work_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    log = FileLog(tmp_path / "top")
    fill(log, "s", 2)
    for _ in range(2):
        (tmp_path / "top").rename(tmp_path / "away")
        for _ in range(2):
            with pytest.raises(Vanished, match="No new log is started"):
                log.append("s", [happened()])
        assert not (tmp_path / "top").exists()
        (tmp_path / "away").rename(tmp_path / "top")
        log.append("s", [happened("back")])
    assert whats(log, "s") == [0, 1, "back", "back"]


def test_a_file_where_a_directory_belongs_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(NotWritten, match="move the file that stands where a directory belongs"):
        FileLog(tmp_path).append("run/a", [happened()])


def test_a_file_that_takes_a_directory_s_place_does_not_keep_the_lock(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    fill(log, "run/a", 1)
    (tmp_path / "run" / "a").rename(tmp_path / "moved")
    (tmp_path / "run" / "a").write_text("in the way")
    with pytest.raises(NotWritten, match="move the file"):
        log.append("run/a", [happened()])
    with (tmp_path / "moved" / "events.jsonl").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_this_process_knows_of_a_stream_outlives_any_number_of_others(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "gone", 1)
    for number in range(30):
        log.append("sick", [happened(number, filling="." * 100_000)])
    shutil.rmtree(tmp_path / "gone")
    damaged = bytearray(log.path("sick").read_bytes())
    damaged[500] ^= 1
    log.path("sick").write_bytes(damaged)
    with pytest.raises(Corrupt):
        list(log.read("sick"))
    for number in range(100):
        fill(log, f"other/{number}", 1)
    with pytest.raises(Vanished):
        log.append("gone", [happened()])
    with pytest.raises(Corrupt):
        log.append("sick", [happened()])


def test_a_stream_that_is_locked_does_not_hold_up_the_others(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced(), lock_limit_s=60)
    for number in range(64):
        fill(log, f"s{number}", 1)
    with log.path("s0").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = threading.Thread(target=fill, args=(log, "s0", 1))
        waiting.start()
        for number in range(1, 70):
            fill(log, f"s{number}", 1)
        assert waiting.is_alive()
    waiting.join(60)
    assert log.head("s0").seq == 2


def test_permissions_outlive_a_repair_and_a_move_to_a_new_file(tmp_path: Path) -> None:
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    fill(log, "s", 1)
    log.path("s").chmod(0o640)
    disk.failures = [("sync", errno.EIO)]
    with pytest.raises(NotSynced):
        fill(log, "s", 1)
    with log.path("s").open("ab") as file:
        file.write(b'{"v":1,"seq":2,"id":"')
    fill(log, "s", 1)
    modes = {path.name.partition("-")[0]: path.stat().st_mode & 0o777 for path in (tmp_path / "s").iterdir()}
    assert modes == {"events.jsonl": 0o640, "events.jsonl.torn": 0o640}


def test_directories_that_are_no_streams_are_passed_over(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    fill(log, "s", 1)
    for name in ("", ".trash", "a b"):
        (tmp_path / name).mkdir(exist_ok=True)
        shutil.copy(log.path("s"), tmp_path / name / "events.jsonl")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "events.jsonl").symlink_to(tmp_path / "nowhere")
    assert list(log.streams()) == ["s"]


def test_a_directory_in_the_place_of_a_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "s" / "events.jsonl").mkdir(parents=True)
    with pytest.raises(NotWritten):
        FileLog(tmp_path).append("s", [happened()])
    with pytest.raises(NotReadable):
        list(FileLog(tmp_path).read("s"))
    with pytest.raises(NotReadable):
        verify(tmp_path / "s" / "events.jsonl", "s")


def test_a_disk_that_does_not_sync_says_so_loudly() -> None:
    with pytest.warns(RuntimeWarning, match="a power cut loses acknowledged events"):
        UnsyncedDisk()
