"""Is what stands at the end of a log the work of an interrupted append, or damage? And how is the former put right?

An interrupted write leaves a part of what it was to write: it ends early, or sectors in it read as zeros because the
file's length reached the disk before its content. Nothing else. Whatever cannot have come about that way is corrupt,
and so is every line that somebody was told is recorded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from eventlog.disk import Disk, replace_file, write_all
from eventlog.frame import APPEND_BYTES_MAX, LINE_BYTES_MAX, BadLine, Position, origin, peek, unseal
from eventlog.record import Head, NewEvent
from eventlog.scan import BLOCK_BYTES, Walk, line_start

_SECTOR_BYTES = 512
_ZEROS = re.compile(rb"\0+")


class Tail(NamedTuple):
    """What stands behind the last whole append, which ends at `at`: nothing, an interrupted append, or damage.

    `line` and `offset` are those of the first line that is not whole; `length` is in bytes, from `at` on.
    """

    state: Literal["whole", "torn", "corrupt"]
    at: Position
    length: int = 0
    line: int = 0
    offset: int = 0
    why: str = ""


def examine(fd: int, stream: str, at: Position, acknowledged: Head | None = None) -> Tail:
    """Say what stands in `fd` behind `at`, reading it afresh; `acknowledged` is a head that somebody was told of."""
    size = os.fstat(fd).st_size
    walk = Walk(fd, stream, at)
    try:
        for events in walk.appends(size):
            if acknowledged is None or not events[0].seq <= acknowledged.seq <= events[-1].seq:
                continue
            if events[acknowledged.seq - events[0].seq].h != acknowledged.h:
                offset = line_start(fd, acknowledged.seq, at, size)
                why = f"it is whole, but another line was acknowledged here, with the head {acknowledged}"
                return Tail("corrupt", at, size - at.offset, acknowledged.seq, offset, why)
    except BadLine as error:
        line, offset, why = error.line, error.offset, error.why
    else:
        if walk.at.offset >= size:
            return _unless_rolled_back(Tail("whole", walk.at), acknowledged, size)
        line, offset, why = walk.at.seq + 1, walk.at.offset, ""
    length = size - walk.at.offset
    if length > APPEND_BYTES_MAX:
        why = why or f"{length} bytes follow the last whole append, more than an interrupted one can leave"
    else:
        rest = os.pread(fd, length, walk.at.offset)
        why = _not_interrupted(rest, offset - walk.at.offset, walk.at, stream, why)
        if not why:
            torn = Tail("torn", walk.at, length, line, offset, "the last append was interrupted")
            return _unless_rolled_back(torn, acknowledged, size)
    return Tail("corrupt", walk.at, length, line, offset, why)


def _unless_rolled_back(tail: Tail, acknowledged: Head | None, size: int) -> Tail:
    """Give `tail`, or damage where it ends before what was acknowledged."""
    if acknowledged is None or tail.at.seq >= acknowledged.seq:
        return tail
    why = f"it is not whole, but events up to {acknowledged} were acknowledged"
    return Tail("corrupt", tail.at, size - tail.at.offset, tail.at.seq + 1, tail.at.offset, why)


def _not_interrupted(rest: bytes, bad: int, at: Position, stream: str, complaint: str) -> str:
    """Say why `rest`, which follows `at`, cannot be the work of an interrupted append; empty when it can.

    `complaint` is what is wrong with the finished line that begins at byte `bad` of it, if there is one.
    """
    if complaint and b"\0" not in rest[bad:].partition(b"\n")[0]:
        return complaint
    if b"\0" in rest:
        return _not_torn_by_holes(rest, at.offset)
    previous, seq = at.h, at.seq
    *lines, last = rest.split(b"\n")
    for line in lines:
        seq += 1
        previous = unseal(line, previous, seq, stream)[1]
    begin = b'{"v":1,"seq":%d,"id":"' % (seq + 1)
    if last[: len(begin)] != begin[: len(last)]:
        return "it does not begin as an event does"
    if len(last) >= LINE_BYTES_MAX:
        return f"it is longer than the {LINE_BYTES_MAX} bytes that a line can have"
    try:
        unseal(last[:-1], previous, seq + 1, stream)
    except BadLine:
        return ""
    return "its newline was overwritten"


def _not_torn_by_holes(rest: bytes, offset: int) -> str:
    for hole in _ZEROS.finditer(rest):
        begins = hole.start() == 0 or (offset + hole.start()) % _SECTOR_BYTES == 0
        ends = hole.end() == len(rest) or (offset + hole.end()) % _SECTOR_BYTES == 0
        if not (begins and ends):
            return "zero bytes stand in it where no sector begins or ends"
    # Only one append is ever cut: where another one stands behind the hole, this one was finished.
    for line in rest[rest.rfind(b"\0") :].split(b"\n")[1:-1]:
        event = peek(line)
        if event is not None and (event.batch is None or event.batch.startswith("1/")):
            return "sectors of it were lost: a later append stands whole behind it"
    return ""


def cut(disk: Disk, fd: int, path: Path, tail: Tail) -> None:
    """Keep the bytes of a torn tail beside the log, durably, then cut them off."""
    kept = os.pread(fd, tail.length, tail.at.offset)
    replace_file(disk, _free_name(path, tail.at.offset, kept), kept, mode=stat.S_IMODE(os.fstat(fd).st_mode))
    disk.truncate(fd, tail.at.offset)


def copy_whole(disk: Disk, fd: int, path: Path, stream: str, at: Position) -> int:
    """Put a verified, synced copy of the log up to `at` in its place; give its descriptor, locked.

    Raises OSError where the disk refuses and BadLine where `fd` no longer gives back what was written; the log at
    `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    copy = disk.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
    try:
        os.fchmod(copy, stat.S_IMODE(os.fstat(fd).st_mode))
        # Nobody may append to it between the rename and our return.
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for offset in range(0, at.offset, BLOCK_BYTES):
            write_all(disk, copy, os.pread(fd, min(BLOCK_BYTES, at.offset - offset), offset))
        disk.sync(copy)
        walk = Walk(copy, stream, origin(stream))
        for _ in walk.appends(at.offset):
            pass
        if walk.at != at:
            raise BadLine("the copy is not whole", walk.at.seq + 1, walk.at.offset)
        disk.rename(temporary, path)
        disk.sync_directory(path.parent)
    except BaseException:
        disk.close(copy)
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    return copy


def owed(path: Path, offset: int) -> list[NewEvent]:
    """Give the `log.repaired` events that a log which ends at `offset` still owes for what was cut there."""
    return [
        NewEvent(
            type="log.repaired",
            data={
                "offset": offset,
                "length": kept.stat().st_size,
                "sha256": hashlib.sha256(kept.read_bytes()).hexdigest(),
                "kept": kept.name,
            },
            actor="eventlog",
            door="log",
        )
        for kept in _kept(path, offset)
    ]


def _kept(path: Path, offset: int) -> list[Path]:
    """List what was cut off at `offset`, oldest first: `<log>.torn-<offset>`, then `.2`, `.3` …"""
    first = path.with_name(f"{path.name}.torn-{offset}")
    if not first.exists():
        return []
    later: list[Path] = []
    while (kept := first.with_name(f"{first.name}.{len(later) + 2}")).exists():
        later.append(kept)
    return [first, *later]


def _free_name(path: Path, offset: int, content: bytes) -> Path:
    """Give the name to keep `content` under; the same as before when it was kept before a crash prevented the cut."""
    earlier = _kept(path, offset)
    if earlier and earlier[-1].read_bytes() == content:
        return earlier[-1]
    name = f"{path.name}.torn-{offset}"
    return path.with_name(f"{name}.{len(earlier) + 1}" if earlier else name)
