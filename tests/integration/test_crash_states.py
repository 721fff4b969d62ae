"""Does every state that a power cut can leave on disk recover, with all that was acknowledged by then?"""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventlog import BlobStore, Disk, FileLog, NotSynced, verify
from eventlog.disk import replace_file
from tests.conftest import Figure
from tests.disks import CrashState, RecordingDisk, crash_states
from tests.examples import fill, happened, unsynced, whats

STREAM = "run/a"


class SyncFailsOnce(RecordingDisk):
    """A recording disk whose `nth` sync of a file fails."""

    def __init__(self, top: Path, nth: int) -> None:
        super().__init__(top)
        self._left = nth

    def sync(self, fd: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError(errno.EIO, "input/output error")
        super().sync(fd)


def append(disk: RecordingDisk, top: Path, what: str, *, events: int = 1, text: str = "") -> None:
    FileLog(top / "root", disk=disk).append(STREAM, [happened(what, text=text)] * events)
    disk.mark(f"{what} {events}")


def one_append(disk: RecordingDisk, top: Path) -> None:
    append(disk, top, "one", text="x" * 900)


def a_batch(disk: RecordingDisk, top: Path) -> None:
    append(disk, top, "batch", events=3, text="y" * 250)


def two_appends(disk: RecordingDisk, top: Path) -> None:
    append(disk, top, "one")
    append(disk, top, "two", text="z" * 500)


def a_failed_sync(disk: RecordingDisk, top: Path) -> None:
    log = FileLog(top / "root", disk=disk)
    with pytest.raises(NotSynced):
        log.append(STREAM, [happened("refused")])
    disk.mark("refused 0")
    log.append(STREAM, [happened("one")])
    disk.mark("one 1")


def an_append_after_a_torn_one(disk: RecordingDisk, top: Path) -> None:
    with (top / "root" / STREAM / "events.jsonl").open("ab") as file:
        file.write(b'{"v":1,"seq":3,"id":"01')
    start_again(disk, top)
    append(disk, top, "one")


def start_again(disk: RecordingDisk, top: Path) -> None:
    disk.log.clear()
    disk.start = disk.adopt(top)  # type: ignore[attr-defined]  # set by recorded()


@pytest.mark.parametrize(
    ("scene", "existing"),
    [
        *itertools.product((one_append, a_batch, two_appends, a_failed_sync), (0, 2)),
        (an_append_after_a_torn_one, 2),
    ],
)
def test_every_crash_state_of_an_append_recovers(
    tmp_path: Path, figure: Figure, scene: Callable[[RecordingDisk, Path], None], existing: int
) -> None:
    states = 0
    for state, top in played(tmp_path, scene, existing, fails=1 if scene is a_failed_sync else 0):
        told = dict(text.split() for text in state.told)
        log = FileLog(top / "root", disk=unsynced())
        found = [what for what in whats(log, STREAM) if what != "log.repaired"]
        assert found[:existing] == list(range(existing))
        for what, count in told.items():
            assert found.count(what) == int(count), f"{what}: {count} were acknowledged"
        assert found.count("batch") in (0, 3)
        log.append(STREAM, [happened("after")])
        assert [what for what in whats(log, STREAM) if what != "log.repaired"] == [*found, "after"]
        assert verify(log.path(STREAM)).state == "whole"
        states += 1
    assert states > 10
    figure(f"{states} states")


def played(
    tmp_path: Path, scene: Callable[[RecordingDisk, Path], None], existing: int, *, fails: int = 0
) -> Iterator[tuple[CrashState, Path]]:
    """Play `scene` on a log of `existing` events and yield each crash state with the directory that holds it."""
    live = tmp_path / "live"
    (live / "root").mkdir(parents=True, exist_ok=True)
    fill(FileLog(live / "root"), STREAM, existing)
    disk = SyncFailsOnce(live, fails)
    disk.start = disk.adopt(live)  # type: ignore[attr-defined]  # a scene may start again
    scene(disk, live)
    for number, state in enumerate(crash_states(disk.start, disk.log)):  # type: ignore[attr-defined]
        top = tmp_path / f"state-{number}"
        state.materialize(top)
        yield state, top
        shutil.rmtree(top)


def test_a_log_that_a_dead_process_made_is_named_durably_before_the_next_one_is_told_anything(tmp_path: Path) -> None:
    """The first process dies after its sync and before that of the directory; the second must not rely on the first."""
    live = tmp_path / "live"
    live.mkdir()
    FileLog(live / "root", disk=unsynced()).append(STREAM, [happened("unsynced")])
    disk = RecordingDisk(live)
    durable = disk.adopt(live)
    for name in list(durable.names):
        if name != ".":
            disk.log.append(("name", name, durable.names.pop(name)))
    append(disk, live, "told")
    states = 0
    for number, state in enumerate(crash_states(durable, disk.log)):
        if state.told:
            state.materialize(tmp_path / str(number))
            assert whats(FileLog(tmp_path / str(number) / "root"), STREAM) == ["unsynced", "told"]
            states += 1
    assert states


def test_directories_made_above_the_top_are_durable_too_before_anybody_is_told(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    disk = RecordingDisk(live)
    start = disk.adopt(live)
    FileLog(live / "a" / "b" / "root", disk=disk).append(STREAM, [happened("told")])
    disk.mark("told")
    told = [state for state in crash_states(start, disk.log) if state.told]
    assert told
    for number, state in enumerate(told):
        state.materialize(tmp_path / str(number))
        assert whats(FileLog(tmp_path / str(number) / "a" / "b" / "root"), STREAM) == ["told"]


def test_every_crash_state_of_a_replaced_file_is_the_old_or_the_new(tmp_path: Path, figure: Figure) -> None:
    live = tmp_path / "live"
    live.mkdir()
    old, new = b"o" * 1300, b"n" * 2100
    (live / "record.json").write_bytes(old)
    disk = RecordingDisk(live)
    start = disk.adopt(live)
    replace_file(disk, live / "record.json", new)
    disk.mark("replaced")
    seen = set()
    count = 0
    for number, state in enumerate(crash_states(start, disk.log)):
        top = tmp_path / str(number)
        state.materialize(top)
        content = (top / "record.json").read_bytes()
        assert content in (old, new)
        assert content == new or not state.told
        replace_file(Disk(), top / "record.json", b"next")
        assert (top / "record.json").read_bytes() == b"next"
        seen.add(content)
        count += 1
    assert seen == {old, new}
    figure(f"{count} states, each the old content or the new")


def test_every_crash_state_of_a_stored_blob_has_it_whole_or_not_at_all(tmp_path: Path, figure: Figure) -> None:
    live = tmp_path / "live"
    live.mkdir()
    disk = RecordingDisk(live)
    start = disk.adopt(live)
    content = b"b" * 1300
    digest = BlobStore(live / "blobs", disk=disk).put(content)
    disk.mark("stored")
    count = 0
    for number, state in enumerate(crash_states(start, disk.log)):
        top = tmp_path / str(number)
        state.materialize(top)
        store = BlobStore(top / "blobs", disk=unsynced())
        stored = list(store.digests())
        assert stored == [digest] or (stored == [] and not state.told)
        assert [store.get(digest) for digest in stored] in ([], [content])
        assert store.put(content) == digest
        assert store.get(digest) == content
        assert list((top / "blobs" / "incoming").iterdir()) == []
        count += 1
    figure(f"{count} states")


def test_the_states_include_the_ugly_ones(tmp_path: Path) -> None:
    """The enumeration itself is tested: without it, the tests above would prove nothing."""
    live = tmp_path / "live"
    live.mkdir()
    disk = RecordingDisk(live)
    start = disk.adopt(live)
    append(disk, live, "one", text="x" * 900)
    contents = {
        content for state in crash_states(start, disk.log) for content in state.model.files.values() if not state.told
    }
    whole = FileLog(live / "root").path(STREAM).read_bytes()
    assert b"" in contents
    assert whole[:-1] in contents
    assert bytes(512) + whole[512:] in contents
    assert whole[:512] + bytes(len(whole) - 512) in contents
    assert any(set(state.model.names) == {"."} for state in crash_states(start, disk.log))
    assert list(itertools.islice(crash_states(start, []), 2)) == [CrashState(start, ())]
