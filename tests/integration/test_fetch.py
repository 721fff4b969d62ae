"""Does somebody who wants an artifact get it whole and as it was indexed, or a reason, and nothing else?"""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from eventlog import BlobStore
from merlin_es.artifacts import LIMITS, index
from merlin_es.errors import Ambiguous, NotFound, Refused, Usage
from merlin_es.fetch import Fetched, fetch, find
from merlin_es.tree import time_of
from projections.events.run import ArtifactSeen
from tests.examples import ROOT, unsynced

MIB = 1024 * 1024


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", disk=unsynced())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seen(name: str, content: bytes = b"x", *, captured: bool = False) -> ArtifactSeen:
    return ArtifactSeen(
        name=name,
        kind="file",
        size_bytes=len(content),
        sha256=sha256(content),
        modified_at="2026-03-25T13:00:00.000000Z",
        captured=captured,
    )


# Finding.


def test_a_whole_name_is_found_before_a_last_part() -> None:
    entries = [seen("a/x"), seen("x"), seen("b/y")]
    assert find(entries, "x").name == "x"
    assert find(entries, "a/x").name == "a/x"
    assert find(entries, "y").name == "b/y"


def test_a_last_part_that_several_have_is_ambiguous_and_they_are_listed() -> None:
    with pytest.raises(Ambiguous, match=r"2 artifacts are called x: give one of a/x, b/x$"):
        find([seen("b/x"), seen("a/x"), seen("c/y")], "x")
    with pytest.raises(Ambiguous, match=r"and 490 more$"):
        find([seen(f"{number}/x") for number in range(500)], "x")


def test_a_name_that_nothing_has_is_not_found_and_close_ones_are_named() -> None:
    entries = [seen("out/report.json"), seen("out/plan.yaml")]
    with pytest.raises(NotFound, match=r"did you mean out/report.json\?"):
        find(entries, "reprot.json")
    with pytest.raises(NotFound, match="artifacts list RUN"):
        find(entries, "zzzzzz")
    with pytest.raises(NotFound):
        find([], "../../etc/passwd")


# Fetching.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory that is the current one."""
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def indexed(top: Path, blobs: BlobStore, name: str, content: bytes, *captures: str) -> ArtifactSeen:
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / name).write_bytes(content)
    return find(index(top, captures, blobs).files, name)


def test_an_artifact_is_copied_whole_with_its_time_and_a_plain_mode(top: Path, blobs: BlobStore, place: Path) -> None:
    content = os.urandom(3 * MIB + 7)
    entry = indexed(top, blobs, "sub/file", content)
    (top / "sub" / "file").chmod(0o4755)
    before = os.umask(0o027)
    try:
        fetched = fetch(entry, top, None, blobs)
    finally:
        os.umask(before)
    assert fetched == Fetched(place / "file", len(content), from_blob=False, changed=False)
    assert (place / "file").read_bytes() == content
    status = (place / "file").stat()
    assert status.st_mode & 0o7777 == 0o640
    assert status.st_mtime_ns == (top / "sub" / "file").stat().st_mtime_ns
    assert left(place) == ["file"]


def test_it_goes_into_a_directory_or_under_the_name_that_is_given(top: Path, blobs: BlobStore, place: Path) -> None:
    entry = indexed(top, blobs, "-file", b"x")
    (place / "into").mkdir()
    assert fetch(entry, top, place / "into", blobs).path == place / "into" / "-file"
    assert fetch(entry, top, place / "other", blobs).path == place / "other"
    with pytest.raises(Usage, match=r"cannot be written \(No such file or directory\), and nothing was"):
        fetch(entry, top, place / "missing" / "file", blobs)
    assert left(place) == ["into", "other"]


def test_fetched_twice_is_fetched_once_and_another_file_there_is_refused_unless_forced(
    top: Path, blobs: BlobStore, place: Path
) -> None:
    entry = indexed(top, blobs, "file", b"x")
    fetch(entry, top, None, blobs)
    inode = (place / "file").stat().st_ino
    fetch(entry, top, None, blobs)
    assert (place / "file").stat().st_ino == inode
    (place / "file").write_bytes(b"y")
    with pytest.raises(Refused, match="is there and is another file"):
        fetch(entry, top, None, blobs)
    assert (place / "file").read_bytes() == b"y"
    assert left(place) == ["file"]
    fetch(entry, top, None, blobs, force=True)
    assert (place / "file").read_bytes() == b"x"
    assert left(place) == ["file"]


def test_a_link_in_the_way_is_refused_and_when_forced_replaced_and_not_followed(
    top: Path, blobs: BlobStore, place: Path, tmp_path: Path
) -> None:
    entry = indexed(top, blobs, "file", b"x")
    victim = tmp_path / "victim"
    for content in [b"victim", b"x", None]:
        if content is not None:
            victim.write_bytes(content)
        else:
            victim.unlink()
        (place / "file").symlink_to(victim)
        with pytest.raises(Refused, match="another file"):
            fetch(entry, top, None, blobs)
        fetch(entry, top, None, blobs, force=True)
        assert not (place / "file").is_symlink()
        assert (victim.read_bytes() if victim.exists() else None) == content
        (place / "file").unlink()


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file_is_never_replaced(top: Path, blobs: BlobStore, place: Path, force: bool) -> None:
    entry = indexed(top, blobs, "file", b"x")
    os.mkfifo(place / "fifo")
    with pytest.raises(Refused, match="no regular file"):
        fetch(entry, top, place / "fifo", blobs, force=force)
    (place / "file").mkdir()
    with pytest.raises(Refused, match="no regular file"):
        fetch(entry, top, None, blobs, force=force)
    assert left(place) == ["fifo", "file"]


@pytest.mark.parametrize("change", ["other size", "same size", "gone", "directory", "link out", "fifo", "no top"])
def test_what_has_changed_is_refused_with_what_to_do_or_comes_from_the_blob_store(
    top: Path, blobs: BlobStore, place: Path, tmp_path: Path, change: str
) -> None:
    plain = indexed(top, blobs, "file", b"then")
    captured = indexed(top, blobs, "file", b"then", "*")
    path = top / "file"
    (tmp_path / "secret").write_bytes(b"then")
    path.unlink()
    match change:
        case "other size":
            path.write_bytes(b"now and longer")
        case "same size":
            path.write_bytes(b"noww")
        case "directory":
            path.mkdir()
        case "link out":
            path.symlink_to(tmp_path / "secret")
        case "fifo":
            os.mkfifo(path)
        case "no top":
            top.rmdir()
    kind = NotFound if change in {"gone", "no top"} else Refused
    with pytest.raises(kind, match=r"`merlin ray artifacts index RUN`.*`--capture file`") as caught:
        fetch(plain, top, None, blobs)
    assert type(caught.value) is kind
    if "size" in change:
        assert f"then 4 bytes, sha256 {sha256(b'then')[:12]}…, of {plain.modified_at}; now " in str(caught.value)
    assert left(place) == []
    assert fetch(captured, top, None, blobs) == Fetched(place / "file", 4, from_blob=True, changed=True)
    assert (place / "file").read_bytes() == b"then"
    assert time_of((place / "file").stat().st_mtime_ns) == captured.modified_at
    assert left(place) == ["file"]


def test_captured_bytes_that_are_missing_or_bad_are_never_half_given(top: Path, blobs: BlobStore, place: Path) -> None:
    entry = indexed(top, blobs, "file", b"then", "*")
    (top / "file").write_bytes(b"now")
    blob = blobs.path(entry.sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"spoilt")
    with pytest.raises(Refused, match=r"captured bytes cannot be had .*holds other content"):
        fetch(entry, top, None, blobs)
    blob.unlink()
    with pytest.raises(Refused, match=r"captured bytes cannot be had .*no blob"):
        fetch(entry, top, None, blobs)
    assert left(place) == []


def test_a_file_without_a_digest_is_given_while_its_size_and_time_are_those_of_the_index(
    top: Path, blobs: BlobStore, place: Path
) -> None:
    (top / "file").write_bytes(b"then")
    [entry] = index(top, [], blobs, limits=replace(LIMITS, read_bytes=0)).files
    assert entry.sha256 == ""
    fetch(entry, top, None, blobs)
    os.utime(top / "file", ns=(0, 0))
    with pytest.raises(Refused, match="has changed"):
        fetch(entry, top, place / "second", blobs)
    assert left(place) == ["file"]


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "x\0y", ""])
def test_a_name_that_leads_out_is_not_fetched(
    top: Path, blobs: BlobStore, place: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    with pytest.raises((Refused, NotFound)):
        fetch(seen(name), top, place / "to", blobs)
    assert left(place) == []


def test_a_file_that_grows_while_it_is_copied_comes_from_the_blob_store(
    top: Path, blobs: BlobStore, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = indexed(top, blobs, "file", b"then", "*")
    read_before = os.read

    def growing(fd: int, size: int) -> bytes:
        with (top / "file").open("ab") as file:
            file.write(b"more")
        return read_before(fd, size)

    monkeypatch.setattr(os, "read", growing)
    assert fetch(entry, top, None, blobs).from_blob
    assert (place / "file").read_bytes() == b"then"


def test_a_file_that_is_rewritten_while_it_is_copied_is_given_as_indexed_or_not_at_all(
    top: Path, blobs: BlobStore, place: Path
) -> None:
    good, bad = b"g" * MIB, b"b" * MIB
    entry = indexed(top, blobs, "file", good)
    done = threading.Event()

    def rewrite() -> None:
        with (top / "file").open("r+b") as file:
            for content in itertools.cycle([bad, good]):
                file.seek(0)
                file.write(content)
                if done.is_set() and content == good:
                    return

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for number in range(60):
            with suppress(Refused):
                fetch(entry, top, place / str(number), blobs)
    finally:
        done.set()
        thread.join()
    assert all(path.read_bytes() == good for path in place.iterdir())
    fetch(entry, top, place / "last", blobs)


FETCH = """
import resource, sys
from pathlib import Path
from eventlog import BlobStore
from merlin_es.artifacts import index
from merlin_es.errors import MerlinError
from merlin_es.fetch import fetch
top, place = map(Path, sys.argv[1:3])
blobs = BlobStore(top.parent / "blobs")
[entry] = index(top, [], blobs).files
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
try:
    fetch(entry, top, place, blobs, force=True)
except MerlinError as error:
    print(error)
"""


def test_a_disk_that_is_full_leaves_what_was_there(top: Path, place: Path) -> None:
    (top / "file").write_bytes(b"x" * 4 * MIB)
    (place / "file").write_bytes(b"before")
    done = subprocess.run(
        [sys.executable, "-c", FETCH, top, place], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"{place / 'file'} cannot be written (File too large), and nothing was" in done.stdout
    assert (place / "file").read_bytes() == b"before"
    assert left(place) == ["file"]


def test_where_a_file_system_has_no_links_a_file_there_is_refused_all_the_same(
    top: Path, blobs: BlobStore, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    entry = indexed(top, blobs, "file", b"x")
    fetch(entry, top, None, blobs)
    fetch(entry, top, None, blobs)
    (place / "file").write_bytes(b"y")
    with pytest.raises(Refused, match="another file"):
        fetch(entry, top, None, blobs)
    assert (place / "file").read_bytes() == b"y"


def test_of_many_who_fetch_to_one_name_all_end_well_and_of_two_different_one_is_refused(
    top: Path, blobs: BlobStore, place: Path
) -> None:
    entries = [indexed(top, blobs, f"{number}/file", bytes([number]) * MIB) for number in range(2)]
    outcomes: list[str] = []

    def get(entry: ArtifactSeen) -> None:
        try:
            fetch(entry, top, None, blobs)
            outcomes.append(entry.name)
        except Refused:
            outcomes.append("refused")

    threads = [threading.Thread(target=get, args=(entries[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [entry for entry in entries if sha256((place / "file").read_bytes()) == entry.sha256]
    assert sorted(outcomes) == [winner.name] * 8 + ["refused"] * 8
    assert left(place) == ["file"]


def test_memory_does_not_depend_on_the_size_of_an_artifact(top: Path, blobs: BlobStore, place: Path) -> None:
    import tracemalloc

    with (top / "file").open("wb") as file:
        _fill(file, 48 * MIB)
    tracemalloc.start()
    [entry] = index(top, ["*"], blobs).files
    fetch(entry, top, None, blobs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert entry.captured
    assert peak < 8 * MIB


def _fill(file: BinaryIO, size: int) -> None:
    file.writelines(b"\x55" * MIB for _ in range(size // MIB))
