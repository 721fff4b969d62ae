"""How is a log kept small that nothing more is appended to, and still read as if nothing had happened?

`events.jsonl.zst` has the same bytes as one zstd frame, with a checksum. While it is there, nothing is appended. Where
both files are there, because archiving or its opposite was interrupted, they say the same: the log itself is read, and
doing either again finishes it. Who reads an archived log reads a copy that has no name and is gone with its descriptor.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eventlog import repair
from eventlog.disk import Disk, write_all
from eventlog.errors import Corrupt, NotReadable, NotWritten
from eventlog.frame import origin
from eventlog.lock import quiet
from eventlog.present import archive_path

LEVEL = 9
"""A sixth of the size, most of it chain values, which nothing makes smaller; higher levels gain little."""
_CHUNK_BYTES = 64 * 1024
_RACES_MAX = 10


def open_log(path: Path) -> int | None:
    """Give a descriptor to read the log at `path` from, wherever it is; None when there is none. Raises Corrupt."""
    for _ in range(_RACES_MAX):
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # A pipe in its place would never open.
            if os.fstat(fd).st_size or not archive_path(path).exists():
                return fd
            os.close(fd)
        with suppress(FileNotFoundError):
            return _inflated(archive_path(path))
        if not path.exists():
            return None
    return None


def archive(disk: Disk, path: Path, stream: str, lock_limit_s: float) -> bool:
    """Put the archive of the log at `path` in its place, byte for byte the same; False when it was there already.

    Raises Corrupt for a log that is not what was written, NotReadable, NotWritten and Locked; then nothing has changed.
    """
    with quiet(path, lock_limit_s) as fd:
        if fd is None:
            raise NotReadable(path, FileNotFoundError(2, "there is no such log"))
        if not _is_at(fd, path):
            return False
        tail = repair.examine(fd, stream, origin(stream))
        if tail.state == "corrupt":
            raise Corrupt(path, tail.line, tail.offset, tail.why)
        target = archive_path(path)
        try:
            _put(disk, target, _deflated(fd), stat.S_IMODE(os.fstat(fd).st_mode))
            copy = _inflated(target)
            try:
                if _digest(copy) != _digest(fd):
                    raise Corrupt(target, 1, 0, "it does not hold what the log does")
            finally:
                os.close(copy)
            disk.unlink(path)
            disk.sync_directory(path.parent)
        except OSError as error:
            raise NotWritten(target, error, "the log is as it was, and read from where it was") from error
    return True


def unarchive(disk: Disk, path: Path, lock_limit_s: float) -> bool:
    """Put the log back that was archived, byte for byte the same; False when it was not archived.

    Raises Corrupt for an archive that cannot be unpacked, NotReadable, NotWritten and Locked.
    """
    with quiet(path, lock_limit_s) as fd:
        if fd is None:
            raise NotReadable(path, FileNotFoundError(2, "there is no such log"))
        target = archive_path(path)
        try:
            if _is_at(fd, path) and os.fstat(fd).st_size:
                if not target.exists():
                    return False
            else:
                copy = _inflated(target)
                try:
                    _put(disk, path, _chunks(copy), stat.S_IMODE(target.stat().st_mode))
                finally:
                    os.close(copy)
            disk.unlink(target)
            disk.sync_directory(path.parent)
        except OSError as error:
            raise NotWritten(path, error, "the log is read from its archive") from error
    return True


def _put(disk: Disk, path: Path, chunks: Iterator[bytes], mode: int) -> None:
    """Make `chunks` the content of `path`, durably: a reader, or a crash at any point, sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.new")
    fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        try:
            os.fchmod(fd, mode)
            for chunk in filter(None, chunks):
                write_all(disk, fd, chunk)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.sync_directory(path.parent)


def _deflated(fd: int) -> Iterator[bytes]:
    import zstandard  # Only who has archives needs it.

    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=os.fstat(fd).st_size)
    for chunk in _chunks(fd):
        yield compressor.compress(chunk)
    yield compressor.flush()


def _inflated(path: Path) -> int:
    """Give a descriptor of a nameless file with the content of an archive; raises FileNotFoundError and Corrupt."""
    import tempfile

    import zstandard

    with path.open("rb") as file:
        fd, name = tempfile.mkstemp(prefix="eventlog-")
        try:
            Path(name).unlink()
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof and (chunk := file.read(_CHUNK_BYTES)):
                _write(fd, frame.decompress(chunk))
            if not frame.eof or frame.unused_data or file.read(1):
                raise Corrupt(path, 1, 0, "the archive ends early, or something stands behind it")
        except zstandard.ZstdError as error:
            os.close(fd)
            raise Corrupt(path, 1, 0, f"the archive cannot be unpacked ({error})") from None
        except BaseException:
            os.close(fd)
            raise
    return fd


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _chunks(fd: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(fd, _CHUNK_BYTES, offset):
        yield chunk
        offset += len(chunk)


def _digest(fd: int) -> bytes:
    digest = hashlib.sha256()
    for chunk in _chunks(fd):
        digest.update(chunk)
    return digest.digest()


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
