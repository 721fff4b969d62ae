"""Is an archived log the same log, wherever the power fails and whoever reads or wants to append meanwhile?"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from eventlog import (
    Archived,
    CaughtUp,
    Corrupt,
    Event,
    FileLog,
    NotReadable,
    NotWritten,
    verify,
)
from eventlog.__main__ import main
from eventlog.archive import open_log
from eventlog.lock import quiet
from eventlog.present import archive_path, has_log
from tests.conftest import Figure
from tests.disks import FailingDisk, RecordingDisk, crash_states
from tests.examples import descriptors_under, fill, happened, log_with_tail, unsynced, whats


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path, disk=unsynced())


def answers(log: FileLog) -> list[object]:
    """Ask everything that can be asked of stream `s`."""
    followed: list[Event | CaughtUp] = []
    stop = threading.Event()
    for item in log.follow("s", stop=stop):
        followed.append(item)
        if isinstance(item, CaughtUp):
            stop.set()
    verdict = verify(log.path("s"), "s")
    return [
        list(log.streams()),
        list(log.read("s")),
        list(log.read("s", 4)),
        list(log.read_backwards("s")),
        list(log.read_backwards("s", 3)),
        log.head("s"),
        followed,
        (verdict.state, verdict.head, verdict.size),
        has_log(log.path("s")),
    ]


def test_an_archived_log_answers_every_question_as_before_and_comes_back_the_same(tmp_path: Path) -> None:
    path, _ = log_with_tail(tmp_path)
    path.chmod(0o640)
    log, content, before = FileLog(tmp_path), path.read_bytes(), answers(FileLog(tmp_path))
    assert log.archive("s")
    assert not path.exists()
    assert archive_path(path).stat().st_mode & 0o777 == 0o640
    assert answers(log) == before == answers(FileLog(tmp_path))
    assert not log.archive("s"), "twice is once"
    assert log.unarchive("s")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o640)
    assert not archive_path(path).exists()
    assert not log.unarchive("s")
    assert answers(log) == before
    assert whats(log, "s")[-1] == "last"
    log.append("s", [happened("on it goes")])


def test_a_long_log_takes_a_fraction_of_the_space(log: FileLog, figure: Figure) -> None:
    fill(log, "s", 3000)
    size = log.path("s").stat().st_size
    log.archive("s")
    small = archive_path(log.path("s")).stat().st_size
    assert [event.seq for event in log.read("s", 2990)] == list(range(2990, 3001))
    assert small < size / 4, "most of it are chain values, which nothing can make smaller"
    figure(f"{size} bytes became {small}")


def test_nothing_is_appended_to_an_archived_log_by_anybody(log: FileLog, tmp_path: Path) -> None:
    fill(log, "s", 3)
    other = FileLog(tmp_path, disk=unsynced())
    other.append("s", [happened("it has the file open")])
    log.archive("s")
    for each in (log, other, FileLog(tmp_path, disk=unsynced())):
        with pytest.raises(Archived, match=r"s is archived, .* `unarchive` it"):
            each.append("s", [happened("lost")])
        with pytest.raises(Archived):
            each.append("s", [happened("lost")], expected=0)
    assert not log.path("s").exists()
    log.unarchive("s")
    for each in (log, other):
        each.append("s", [happened("recorded")])
    assert log.head("s").seq == 6


def test_who_waited_for_the_lock_while_it_was_archived_appends_nothing(log: FileLog, tmp_path: Path) -> None:
    fill(log, "s", 3)
    path, errors = log.path("s"), []

    def append() -> None:
        try:
            FileLog(tmp_path, disk=unsynced()).append("s", [happened("late")])
        except Archived as error:
            errors.append(error)

    with quiet(path, 5):
        thread = threading.Thread(target=append)
        thread.start()
        threading.Event().wait(0.05)
        content = path.read_bytes()
        spare = FileLog(tmp_path / "spare", disk=unsynced())
        spare.path("s").parent.mkdir(parents=True)
        spare.path("s").write_bytes(content)
        spare.archive("s")
        archive_path(spare.path("s")).rename(archive_path(path))
        path.unlink()
    thread.join()
    assert len(errors) == 1
    assert log.head("s").seq == 3


def test_who_has_the_log_open_appends_nothing_once_an_archiver_has_died_over_it(log: FileLog, tmp_path: Path) -> None:
    fill(log, "s", 3)
    path = log.path("s")
    content = path.read_bytes()
    FileLog(tmp_path, disk=unsynced()).archive("s")
    archived = archive_path(path).read_bytes()
    log.unarchive("s")
    log.append("s", [happened("it has the file open")])
    path.write_bytes(content)
    archive_path(path).write_bytes(archived)
    with pytest.raises(Archived):
        log.append("s", [happened("lost")])
    assert path.read_bytes() == content


def test_a_file_that_lost_the_race_to_an_archive_is_no_second_truth(log: FileLog) -> None:
    fill(log, "s", 3)
    log.archive("s")
    log.path("s").touch()
    assert log.head("s").seq == 3
    with pytest.raises(Archived):
        log.append("s", [happened("lost")])
    assert log.unarchive("s")
    assert log.head("s").seq == 3


def test_whoever_reads_while_it_is_archived_and_brought_back_misses_nothing(log: FileLog, figure: Figure) -> None:
    fill(log, "s", 50)
    stop, reads = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            reads.append(len(list(log.read("s"))))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(60):
        assert log.archive("s")
        assert log.unarchive("s")
    stop.set()
    thread.join()
    assert set(reads) == {50}
    figure(f"{len(reads)} reads during 60 rounds")


@pytest.mark.parametrize("what", ["archive", "unarchive"])
def test_every_crash_state_of_archiving_leaves_one_truth(tmp_path: Path, what: str, figure: Figure) -> None:
    top = tmp_path / "top"
    top.mkdir()
    log_with_tail(top)
    content = FileLog(top).path("s").read_bytes()
    if what == "unarchive":
        FileLog(top, disk=unsynced()).archive("s")
    disk = RecordingDisk(top)
    start = disk.adopt(top)
    recording = FileLog(top, disk=disk)
    (recording.archive if what == "archive" else recording.unarchive)("s")
    disk.mark("done")
    count = 0
    for count, state in enumerate(crash_states(start, disk.log), 1):
        root = tmp_path / str(count)
        state.materialize(root)
        log = FileLog(root, disk=unsynced())
        path = log.path("s")
        assert [event.seq for event in log.read("s")] == [1, 2, 3, 4, 5, 6], state
        assert list(log.streams()) == ["s"]
        if state.told:
            assert path.exists() == (what == "unarchive")
            assert archive_path(path).exists() == (what == "archive")
        if archive_path(path).exists():
            with pytest.raises(Archived):
                log.append("s", [happened("lost")])
        if count % 2:  # Either way it can be finished.
            log.archive("s")
            assert not path.exists()
        log.unarchive("s")
        assert path.read_bytes() == content
        assert not archive_path(path).exists()
        log.append("s", [happened("on")])
    assert count > 5
    figure(f"{count} states after a crash of {what}")


@pytest.mark.parametrize("call", ["open", "write", "sync", "rename", "sync_directory"])
def test_a_disk_that_refuses_leaves_the_log_where_it_was(tmp_path: Path, call: str) -> None:
    path, _ = log_with_tail(tmp_path)
    content = path.read_bytes()
    disk = FailingDisk()
    log = FileLog(tmp_path, disk=disk)
    disk.failures = [(call, 28)]
    with pytest.raises(NotWritten, match="free space"):
        log.archive("s")
    assert path.read_bytes() == content
    assert log.head("s").seq == 6
    disk.failures = []
    assert log.archive("s")
    disk.failures = [(call, 28)]
    with pytest.raises(NotWritten, match="read from its archive"):
        log.unarchive("s")
    assert log.head("s").seq == 6
    disk.failures = []
    assert log.unarchive("s")
    assert path.read_bytes() == content


def test_every_changed_byte_of_an_archive_is_found(log: FileLog) -> None:
    fill(log, "s", 20)
    head = log.head("s")
    log.archive("s")
    path = archive_path(log.path("s"))
    whole = path.read_bytes()
    for offset in range(0, len(whole), 7):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x55]) + whole[offset + 1 :])
        assert is_corrupt(log), f"byte {offset} of {len(whole)}"
    for spoilt in (whole[:-1], whole[: len(whole) // 2], whole + b"x", whole + whole, b"no archive"):
        path.write_bytes(spoilt)
        with pytest.raises(Corrupt, match=r"events\.jsonl\.zst"):
            log.head("s")
        with pytest.raises(Corrupt):
            log.unarchive("s")
        assert path.read_bytes() == spoilt
        assert not log.path("s").exists()
    path.write_bytes(whole)
    assert log.head("s") == head


def is_corrupt(log: FileLog) -> bool:
    try:
        list(log.read("s"))
    except Corrupt:
        return True
    return False


def test_a_damaged_log_is_not_archived_and_none_is_no_log(log: FileLog) -> None:
    fill(log, "s", 3)
    log.close()
    path = log.path("s")
    path.write_bytes(path.read_bytes().replace(b"ada", b"eve", 1))
    content = path.read_bytes()
    with pytest.raises(Corrupt):
        log.archive("s")
    assert (path.read_bytes(), archive_path(path).exists()) == (content, False)
    for verb in (log.archive, log.unarchive):
        with pytest.raises(NotReadable, match="no such log"):
            verb("nothing")
    assert open_log(log.path("nothing")) is None


def test_a_torn_tail_comes_back_with_the_rest(log: FileLog) -> None:
    fill(log, "s", 3)
    with log.path("s").open("ab") as file:
        file.write(b'{"v":1,"seq":4,"id":"')
    log.close()
    content = log.path("s").read_bytes()
    log.archive("s")
    assert verify(log.path("s"), "s").state == "torn"
    assert log.head("s").seq == 3
    log.unarchive("s")
    assert log.path("s").read_bytes() == content


def test_an_archive_is_read_from_a_copy_that_leaves_nothing_behind(
    log: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log, "s", 3)
    log.archive("s")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert answers(log)
    assert list(scratch.iterdir()) == []
    assert descriptors_under(scratch) == []


def test_the_program_reads_archives_too(log: FileLog, capsys: pytest.CaptureFixture[str]) -> None:
    fill(log, "a/b", 3)
    head = log.head("a/b")
    log.archive("a/b")
    path = log.path("a/b")
    assert main(["verify", str(path.parent)]) == 0
    assert main(["head", str(path)]) == 0
    assert str(head) in capsys.readouterr().out.splitlines()[-1]
    assert main(["cat", str(path)]) == 0
