"""How does a run look on its way from one state root to another? As a tar of plain files, and nothing else in it.

`manifest.json` says what follows, with sizes and digests; then `events.jsonl`, the log as it is; `files/…`, what was
folded from it; and `blobs/<sha256>`, what its events name. The same run gives the same bytes.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, Final, NamedTuple

import msgspec

from eventlog import Event
from merlin_es.errors import Refused

FORMAT: Final = "merlin-run/1"
MANIFEST: Final = "manifest.json"
LOG: Final = "events.jsonl"
FILES: Final = "files/"
BLOBS: Final = "blobs/"
MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024
MEMBERS_MAX: Final = 250_000
MEMBER_BYTES_MAX: Final = 8 * 1024**3 - 1
"""What the header of a tar can say."""
_BLOCK: Final = 512
_CHUNK_BYTES: Final = 1024 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PLAIN: Final = (b"0", b"\0")


class Content(msgspec.Struct, frozen=True):
    """How much there is of something, and which."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What is in a bundle; `blobs` has their sizes, and `missing_blobs` what is named by the log and was not there."""

    format: str
    run_id: str
    head: str
    status: str
    log: Content
    files: Mapping[str, Content]
    blobs: Mapping[str, int]
    missing_blobs: tuple[str, ...] = ()

    def members(self) -> Iterator[tuple[str, int, str]]:
        """Yield the name, size and digest of everything behind the manifest, in order."""
        yield LOG, self.log.size, self.log.sha256
        for name, content in self.files.items():
            yield FILES + name, content.size, content.sha256
        for digest, size in self.blobs.items():
            yield BLOBS + digest, size, digest


class BadBundle(Refused):
    """What was to be taken in is not what `merlin ray export` writes."""


@dataclass(frozen=True)
class Member:
    """One file of a bundle that is being read; its bytes can be read once, and only until the next one."""

    name: str
    size: int
    source: BinaryIO

    def chunks(self) -> Iterator[bytes]:
        """Yield the content; raises BadBundle where it ends early."""
        left = self.size
        while left:
            chunk = self.source.read(min(_CHUNK_BYTES, left))
            if not chunk:
                raise BadBundle(f"it ends within {self.name}: copy it again from where it was exported")
            left -= len(chunk)
            yield chunk


class Header(NamedTuple):
    """What a tar says of the file that follows."""

    name: str
    size: int


def write(out: BinaryIO, name: str, size: int, source: BinaryIO) -> None:
    """Write one file, with nothing of this host, this user and this day in its header."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    out.write(info.tobuf(tarfile.USTAR_FORMAT))
    left = size
    while left:
        chunk = source.read(min(_CHUNK_BYTES, left))
        if not chunk:
            raise OSError(5, "it has become shorter while it was read", name)
        out.write(chunk)
        left -= len(chunk)
    out.write(bytes(-size % _BLOCK))


def finish(out: BinaryIO) -> None:
    """Write the end of the archive."""
    out.write(bytes(2 * _BLOCK))


def read(source: BinaryIO) -> Iterator[Member]:
    """Yield the files of a bundle; raises BadBundle at anything that is not a plain file of a moderate name and size.

    Not by tarfile, which follows headers of any kind and size before anybody can say no.
    """
    for _ in range(MEMBERS_MAX):
        block = source.read(_BLOCK)
        if len(block) != _BLOCK:
            raise BadBundle("it ends early: copy it again from where it was exported")
        if not any(block):
            return
        header = _header(block)
        yield Member(header.name, header.size, source)
        source.read(-header.size % _BLOCK)
    raise BadBundle(f"it holds more than {MEMBERS_MAX} files")


def digest_of(chunks: Iterator[bytes]) -> str:
    """Give the digest of what is read."""
    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


class Named:
    """Gathers the digests that events name, and whether they say that the content was stored."""

    def __init__(self) -> None:
        self.digests: dict[str, bool] = {}

    def take(self, event: Event) -> Event:
        """Take what an event names, and give the event on."""
        if not event.type.startswith("log."):  # Whose digests are of files that lie beside the log.
            for digest, is_promised in _digests(event.data, is_promised=False):
                self.digests[digest] = self.digests.get(digest, False) or is_promised
        return event


def _digests(value: object, *, is_promised: bool) -> Iterator[tuple[str, bool]]:
    match value:
        case str() if is_digest(value):
            yield value, is_promised
        case dict():
            for key, each in value.items():
                yield from _digests(each, is_promised=key == "sha256" and value.get("captured") is not False)
        case list():
            for each in value:
                yield from _digests(each, is_promised=False)


def is_digest(text: str) -> bool:
    """Tell whether `text` can name a blob."""
    return _DIGEST.fullmatch(text) is not None


def _header(block: bytes) -> Header:
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise BadBundle(f"it is no tar that `merlin ray export` has written ({error})") from None
    if block[156:157] not in _PLAIN:
        raise BadBundle(f"{info.name!r} in it is not a plain file: nothing was taken in")
    if not 0 <= info.size <= MEMBER_BYTES_MAX:
        raise BadBundle(f"{info.name!r} in it says that it has {info.size} bytes: nothing was taken in")
    return Header(info.name, info.size)
