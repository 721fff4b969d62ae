"""Does the blob store keep what it is given, once, whoever gives it?"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from eventlog import BlobCorrupt, BlobMissing, BlobStore, Invalid, NotReadable, NotWritten
from tests.disks import FailingDisk
from tests.examples import unsynced

MIB = 1024 * 1024


class Zeros(io.RawIOBase):
    """A source of `size` zero bytes that holds none of them."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1) -> bytes:
        taken = min(size, self._left)
        self._left -= taken
        return bytes(taken)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", disk=unsynced())


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 3 * MIB, os.urandom(MIB + 1)], ids=len)
def test_what_was_put_is_got_by_its_digest(store: BlobStore, content: bytes) -> None:
    digest = store.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert store.get(digest) == content
    assert store.verify(digest) == len(content)
    assert list(store.digests()) == [digest]
    path = store.path(digest)
    assert path.parts[-3:] == ("sha256", digest[:2], digest[2:])
    assert path.stat().st_mode & 0o222 == 0, "a blob is written once"


def test_the_same_content_twice_is_one_blob_that_is_not_written_again(store: BlobStore) -> None:
    digest = store.put(b"content")
    before = store.path(digest).stat()
    assert store.put(io.BytesIO(b"content")) == digest
    after = store.path(digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_many_writers_of_the_same_content_agree(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    with ThreadPoolExecutor(16) as pool:
        digests = set(pool.map(lambda _: BlobStore(tmp_path / "blobs", disk=unsynced()).put(content), range(64)))
    [digest] = digests
    assert BlobStore(tmp_path / "blobs").get(digest) == content
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


def test_a_file_is_stored_as_it_is_now(store: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    path.write_bytes(b"first")
    first = store.put_file(path)
    path.write_bytes(b"second")
    assert store.get(first) == b"first"
    assert store.get(store.put_file(path)) == b"second"
    with pytest.raises(NotReadable, match="check the path"):
        store.put_file(tmp_path / "missing")
    with pytest.raises(NotReadable):
        store.put_file(tmp_path)


def test_a_large_blob_is_streamed_and_never_whole_in_memory(store: BlobStore) -> None:
    size = 64 * MIB
    tracemalloc.start()
    digest = store.put(cast("BinaryIO", Zeros(size)))
    assert store.verify(digest) == size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_what_is_not_stored_is_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissing, match="bring it back"):
        store.get("0" * 64)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "../" + "0" * 61, "0" * 63 + "\n"])
def test_what_is_not_a_digest_is_refused(store: BlobStore, digest: str) -> None:
    with pytest.raises(Invalid, match="64 lower-case hex digits"):
        store.get(digest)


def test_a_blob_that_has_gone_bad_is_found_and_mended_by_putting_it_again(store: BlobStore) -> None:
    digest = store.put(b"content")
    path = store.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"CONTENT")
    with pytest.raises(BlobCorrupt, match="store the right content again"):
        store.get(digest)
    assert store.put(b"content") == digest
    assert store.get(digest) == b"content"


@pytest.mark.parametrize("call", ["open", "write", "sync", "rename", "sync_directory", "mkdir"])
def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path, call: str) -> None:
    disk = FailingDisk()
    disk.failures = [(call, errno.ENOSPC)]
    store = BlobStore(tmp_path / "blobs", disk=disk)
    with pytest.raises(NotWritten, match="the blob was not stored: free space"):
        store.put(b"content")
    left = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and "incoming" in path.parts]
    assert left == []
    assert store.get(store.put(b"content")) == b"content"


def test_what_a_dead_writer_left_is_swept_away_and_what_a_living_one_writes_is_not(store: BlobStore) -> None:
    store.put(b"content")
    incoming = store.path("0" * 64).parent.parent.parent / "incoming"
    (incoming / "dead").write_bytes(b"half")
    with (incoming / "alive").open("wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        BlobStore(incoming.parent, disk=unsynced()).put(b"other")
        assert [path.name for path in incoming.iterdir()] == ["alive"]


def test_a_new_file_that_is_swept_away_before_it_is_locked_is_made_again(tmp_path: Path) -> None:
    class SweptOnce(FailingDisk):
        def open(self, path: Path, flags: int) -> int:
            fd = super().open(path, flags)
            if flags & os.O_EXCL and self.calls.count("open") == 1:
                path.unlink()
            return fd

    store = BlobStore(tmp_path / "blobs", disk=SweptOnce())
    assert store.get(store.put(b"content")) == b"content"
