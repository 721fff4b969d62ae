"""What can go wrong with a log, and what should whoever meets it do next?

EventLogError
├── Invalid              what was asked for can never be written or read: name, size, JSON
│   └── TooLarge         the same content fits once it lies in the blob store
├── Conflict             the stream is not where the caller thought: fold again, decide again
│   └── KeyReused        an idempotency key came back with other content
├── Archived             nothing is appended to a log that is archived
├── Locked               somebody has held the log for longer than anybody should
├── NotWritten           the disk refused; nothing was recorded, the log is as it was
│   └── NotSynced        the disk took the bytes but would not vouch for them
├── NotReadable          the system would not let the log be read
├── Damaged              what is on disk is not what was written
│   ├── Corrupt          a line that was whole is not any more
│   └── Vanished         a log that was there is gone
└── BlobError
    ├── BlobMissing      nothing is stored under that digest
    └── BlobCorrupt      the stored bytes are not those that the digest names
"""

from __future__ import annotations

import errno
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "free space on that file system, then repeat the call",
    errno.EDQUOT: "free space or raise the quota, then repeat the call",
    errno.EFBIG: "raise the file size limit (`ulimit -f`), then repeat the call",
    errno.EROFS: "mount that file system for writing, then repeat the call",
    errno.EACCES: "give this user the right to do so, then repeat the call",
    errno.EPERM: "give this user the right to do so, then repeat the call",
    errno.EMFILE: "close files or raise the limit (`ulimit -n`), then repeat the call",
    errno.ENFILE: "close files on this host, then repeat the call",
    errno.ENOENT: "check the path, or bring its directory back, then repeat the call",
    errno.ENOTDIR: "move the file that stands where a directory belongs, then repeat the call",
    errno.EEXIST: "move the file that stands where a directory belongs, then repeat the call",
    errno.EISDIR: "move the directory that stands where the file belongs, then repeat the call",
    errno.EIO: "look at the kernel's log for the disk, mend it, then repeat the call",
    errno.ENOTSUP: "use a file system that supports this call, then repeat it",
}
_ANY_ADVICE = "remove the cause, then repeat the call"


class EventLogError(Exception):
    """The root of every error that this package raises on purpose."""


class Invalid(EventLogError):
    """What was asked for can never be written or read as it is."""


class TooLarge(Invalid):
    """An event or an append is larger than a log takes."""


class Conflict(EventLogError):
    """The stream's head is not the one the caller decided on."""


class KeyReused(Conflict):
    """An idempotency key came back with other content than it was first recorded with."""


class Archived(EventLogError):
    """Something was to be appended to a log that is archived."""

    def __init__(self, path: Path, stream: str) -> None:
        super().__init__(f"{stream} is archived, and nothing was appended to it: `unarchive` it, then repeat the call")
        self.path = path


class Locked(EventLogError):
    """The log stayed locked for longer than the limit."""

    def __init__(self, path: Path, waited_s: float, holder: str) -> None:
        super().__init__(
            f"{path} is locked by {holder} and stayed so for {waited_s:g} s; "
            "nothing was recorded: let that process go on or end it, then repeat the call"
        )
        self.path = path


class NotWritten(EventLogError):
    """The disk refused the append; the log is as it was before."""

    def __init__(self, path: Path, cause: OSError, note: str = "nothing was recorded and the log is as it was") -> None:
        advice = _ADVICE.get(cause.errno or 0, _ANY_ADVICE)
        super().__init__(f"{path} cannot be written ({cause.strerror or cause}); {note}: {advice}")
        self.path = path
        self.errno = cause.errno


class NotSynced(NotWritten):
    """The disk would not confirm that the append is durable, so it counts as not recorded."""


class NotReadable(EventLogError):
    """The system would not let a log be read; that says nothing about the log."""

    def __init__(self, path: Path, cause: OSError) -> None:
        advice = _ADVICE.get(cause.errno or 0, _ANY_ADVICE)
        super().__init__(f"{path} cannot be read ({cause.strerror or cause}): {advice}")
        self.path = path
        self.errno = cause.errno


class Damaged(EventLogError):
    """What is on disk is not what was written there."""


class Corrupt(Damaged):
    """A line of a log is not what was written; what stands before it can still be read.

    `line` counts from 1 and is the seq that the event should have; `offset` is in bytes.
    """

    def __init__(self, path: Path | str, line: int, offset: int, why: str) -> None:
        super().__init__(
            f"{path}, line {line} (byte {offset}), is not what was written ({why}; what stands before it can be read, "
            "and nothing more is appended): restore the file from a copy, or keep it as evidence and go on in a new "
            "stream"
        )
        self.path = path
        self.line = line
        self.offset = offset
        self.why = why


class Vanished(Damaged):
    """A log that this process has seen, or that a state file vouches for, is not there any more, or empty."""

    def __init__(self, path: Path, head: str) -> None:
        super().__init__(
            f"{path} is gone or empty (its head was {head}. No new log is started in its place): "
            "mount its file system, or restore it from a copy, then repeat the call"
        )
        self.path = path


class BlobError(EventLogError):
    """The blob store cannot give what was asked for."""


class BlobMissing(BlobError):
    """Nothing is stored under that digest."""


class BlobCorrupt(BlobError):
    """The stored bytes do not have the digest that they are stored under."""
