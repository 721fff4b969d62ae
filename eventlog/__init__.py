"""An append-only event log in plain files that anybody can read, check and keep for ever.

This text is the whole format: enough to write a reader, a checker or a writer in another language.

**Files.** A *stream* is a named sequence of events, and each stream is one file of UTF-8 text, `events.jsonl`. A name
is 1 to 8 parts joined by `/`; a part is 1 to 128 of `A-Z a-z 0-9 . _ -`, begins with a letter or digit, and `..`
occurs nowhere. By default the file of stream `a/b` is `<top>/a/b/events.jsonl`.

**Lines.** Each event is one JSON object on one line, which a newline (byte 10) ends; there are no other newlines and no
zero bytes. A line has at most 262,144 bytes with its newline. The object begins `{"v":1,"seq":`, has no white space
outside of strings, and these keys in this order (those marked * may be absent; JSON may bring others in a later `v`):

    v       1, the version of this envelope
    seq     1, 2, 3 … without gaps: the number of the line
    id      a UUIDv7 in its usual spelling
    type    what happened, `<noun>.<past tense>`
    stream  the name of the stream
    time    when it was recorded, UTC, `2026-11-23T07:13:51.123456Z`; order is `seq`, never `time`
    actor   who wanted it
    door    through what
    key*    idempotency key of the append, on its first event: 1 to 512 printable ASCII characters without space,
            quote and backslash; unique in the stream
    cause*  what led to it: a seq of this stream, or `stream#seq`
    corr*   what it all belongs to
    dv      1 or more, the version of the shape of `data` for this `type`
    batch*  `k/n`: this is event k of an append of n > 1 events, which count only when all n are there
    data    a JSON object
    h       the chain value, always last

**Chain.** `h` of a line is the SHA-256 of (the `h` of the line before, as its 43 ASCII characters) followed by (the
bytes of this line up to and without `,"h":`), in base64url without padding. In place of the line before, line 1 takes
the SHA-256, written the same way, of `eventlog/1`, a newline, and the name of the stream. The *head* of a stream is
`seq:h` of its last line; who notes a head can later prove that nothing before it was changed or cut.

**Appending.** Take an exclusive flock(2) on the file. See that the path still names the file that is locked, else
open it anew. Before the first append of a process, fsync the directory of the file and those above it. Verify what was
added since the last look. Write all lines of the append with one write at the end of the file, at most 1,048,576 bytes;
fdatasync; and only then tell anybody. When a write fails, cut the file back to where it was. When a sync fails, do not
use that descriptor again: copy what was acknowledged to a new file and rename it into place.

**Reading** needs no lock. A reader takes whole lines, and of a batch all or nothing; what follows the last whole append
at the end of the file is either being written or *torn*. Torn is only what an interrupted write leaves: the last append
ends early, or runs of zero bytes in it begin and end where sectors of 512 bytes do (or where the append or the file
does). The next append first keeps the torn bytes as `events.jsonl.torn-<offset>` (then `.2`, `.3` …), cuts them off,
and records that as an event `log.repaired` with data `offset`, `length`, `sha256` and `kept`. Anything else that is
not the next line of the chain is *corrupt*, and so is every line at or before an acknowledged head: reading ends there
with an error, and nothing is appended.

**Archived** is a log of which `events.jsonl.zst`, in the same directory, holds the same bytes as one zstd frame with a
checksum. Where there is no `events.jsonl`, or an empty one, that is read. Nothing is appended while it is there.

`python -m eventlog verify --explain` prints a program of ten lines that checks a log by these rules.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventlog.blobs import BlobStore
    from eventlog.check import Verdict, verify
    from eventlog.cloudevents import to_cloudevent
    from eventlog.disk import Disk, UnsyncedDisk
    from eventlog.errors import (
        Archived,
        BlobCorrupt,
        BlobError,
        BlobMissing,
        Conflict,
        Corrupt,
        Damaged,
        EventLogError,
        Invalid,
        KeyReused,
        Locked,
        NotReadable,
        NotSynced,
        NotWritten,
        TooLarge,
        Vanished,
    )
    from eventlog.file_log import FileLog
    from eventlog.layout import Layout, Nested, OneFile
    from eventlog.lock import quiet
    from eventlog.log import CaughtUp, EventLog
    from eventlog.memory import MemoryLog
    from eventlog.record import ANY, Append, Appended, Event, Head, NewEvent
    from eventlog.upcast import Upcasters
    from eventlog.writer import Writer

__all__ = [
    "ANY",
    "Append",
    "Appended",
    "Archived",
    "BlobCorrupt",
    "BlobError",
    "BlobMissing",
    "BlobStore",
    "CaughtUp",
    "Conflict",
    "Corrupt",
    "Damaged",
    "Disk",
    "Event",
    "EventLog",
    "EventLogError",
    "FileLog",
    "Head",
    "Invalid",
    "KeyReused",
    "Layout",
    "Locked",
    "MemoryLog",
    "Nested",
    "NewEvent",
    "NotReadable",
    "NotSynced",
    "NotWritten",
    "OneFile",
    "TooLarge",
    "UnsyncedDisk",
    "Upcasters",
    "Vanished",
    "Verdict",
    "Writer",
    "quiet",
    "to_cloudevent",
    "verify",
]

_HOMES = {
    "ANY": "record",
    "Append": "record",
    "Appended": "record",
    "Archived": "errors",
    "BlobCorrupt": "errors",
    "BlobError": "errors",
    "BlobMissing": "errors",
    "BlobStore": "blobs",
    "CaughtUp": "log",
    "Conflict": "errors",
    "Corrupt": "errors",
    "Damaged": "errors",
    "Disk": "disk",
    "Event": "record",
    "EventLog": "log",
    "EventLogError": "errors",
    "FileLog": "file_log",
    "Head": "record",
    "Invalid": "errors",
    "KeyReused": "errors",
    "Layout": "layout",
    "Locked": "errors",
    "MemoryLog": "memory",
    "Nested": "layout",
    "NewEvent": "record",
    "NotReadable": "errors",
    "NotSynced": "errors",
    "NotWritten": "errors",
    "OneFile": "layout",
    "TooLarge": "errors",
    "UnsyncedDisk": "disk",
    "Upcasters": "upcast",
    "Vanished": "errors",
    "Verdict": "check",
    "Writer": "writer",
    "quiet": "lock",
    "to_cloudevent": "cloudevents",
    "verify": "check",
}
"""The module that each name lives in: who wants one of them need not wait until all are imported."""


def __getattr__(name: str) -> object:
    """Import what is asked for, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
