"""Where does content lie that is too large for an event, so that what an event names can always be brought back?"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from eventlog.disk import Disk, make_directories, write_all
from eventlog.errors import BlobCorrupt, BlobMissing, Invalid, NotReadable, NotWritten

CHUNK_BYTES = 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")
_INCOMING = "incoming"


class BlobStore:
    """Content under its SHA-256 (64 hex digits), in `<top>/sha256/ab/cdef…`; written once, never changed.

    Safe for any number of writers, also of the same content; memory use does not depend on the size of a blob.
    """

    def __init__(self, top: Path, *, disk: Disk | None = None) -> None:
        self._top = top
        self._disk = disk or Disk()
        self._swept = False

    def path(self, digest: str) -> Path:
        """Give the file that holds the content of `digest`, whether it is there or not; raises Invalid."""
        if not _DIGEST.fullmatch(digest):
            raise Invalid(f"{digest!r} is not a digest: give the 64 lower-case hex digits of a SHA-256")
        return self._top / "sha256" / digest[:2] / digest[2:]

    def put(self, content: bytes | BinaryIO) -> str:
        """Store `content` (bytes, or a file that is read to its end) and give its digest; durable on return.

        What is stored already is not written again, unless the stored bytes have gone bad: then they are replaced.
        Raises NotWritten; nothing is then stored, and nothing that was is touched.
        """
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        try:
            return self._put(source)
        except OSError as error:
            raise NotWritten(self._top, error, "the blob was not stored") from error

    def put_file(self, path: Path) -> str:
        """Store the content that the file at `path` has now; see `put`. Raises NotReadable too."""
        try:
            source = path.open("rb")
        except OSError as error:
            raise NotReadable(path, error) from error
        with source:
            return self.put(source)

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yield the content in parts of at most 1 MiB; raises BlobMissing first, or BlobCorrupt at the end.

        So nothing may be done with the content before the iterator has ended.
        """
        path = self.path(digest)
        found = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    found.update(chunk)
                    yield chunk
        except FileNotFoundError:
            raise BlobMissing(f"no blob {digest} in {self._top}: bring it back from a copy of the store") from None
        except OSError as error:
            raise NotReadable(path, error) from error
        if found.hexdigest() != digest:
            raise BlobCorrupt(
                f"{path} holds other content than its name says: store the right content again to mend it"
            )

    def get(self, digest: str) -> bytes:
        """Give the whole content, verified; for what is known to be small."""
        return b"".join(self.chunks(digest))

    def verify(self, digest: str) -> int:
        """Read the whole content and give its size in bytes; raises BlobMissing and BlobCorrupt."""
        return sum(map(len, self.chunks(digest)))

    def digests(self) -> Iterator[str]:
        """Yield the digest of everything that is stored, sorted."""
        for directory in sorted((self._top / "sha256").glob("[0-9a-f][0-9a-f]")):
            for file in sorted(directory.iterdir()):
                if _DIGEST.fullmatch(digest := directory.name + file.name):
                    yield digest

    def _put(self, source: BinaryIO) -> str:
        incoming = self._top / _INCOMING
        make_directories(self._disk, incoming)
        self._sweep(incoming)
        temporary, fd = self._new_file(incoming)
        try:
            digest = self._receive(fd, source)
            target = self.path(digest)
            make_directories(self._disk, target.parent)
            if not self._holds(digest):
                os.fchmod(fd, 0o444 & os.fstat(fd).st_mode)
                self._disk.sync(fd)
                self._disk.rename(temporary, target)
            # Also for what was there: who put it there may have died before it was durable.
            self._sync(target)
        finally:
            self._disk.close(fd)
            with suppress(OSError):
                self._disk.unlink(temporary)
        return digest

    def _new_file(self, incoming: Path) -> tuple[Path, int]:
        """Give a new file, with a lock that is held while we live, so that nobody sweeps it away."""
        while True:
            temporary = incoming / os.urandom(16).hex()
            fd = self._disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return temporary, fd
            self._disk.close(fd)  # It was swept away before it was locked.

    def _receive(self, fd: int, source: BinaryIO) -> str:
        digest = hashlib.sha256()
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            write_all(self._disk, fd, chunk)
        return digest.hexdigest()

    def _holds(self, digest: str) -> bool:
        try:
            self.verify(digest)
        except (BlobMissing, BlobCorrupt):
            return False
        return True

    def _sync(self, target: Path) -> None:
        fd = self._disk.open(target, os.O_RDONLY)
        try:
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        for directory in (target.parent, target.parent.parent, self._top, self._top.parent):
            self._disk.sync_directory(directory)

    def _sweep(self, incoming: Path) -> None:
        """Once in a store's life: remove what writers left that died on the way."""
        if self._swept:
            return
        self._swept = True
        for left in incoming.iterdir():
            with suppress(OSError):
                fd = os.open(left, os.O_RDWR)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._disk.unlink(left)
                finally:
                    os.close(fd)
