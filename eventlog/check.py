"""Is a log what was written, from its first line to its last?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import Literal

from eventlog import repair
from eventlog.archive import open_log
from eventlog.errors import NotReadable
from eventlog.frame import origin
from eventlog.layout import stream_of
from eventlog.record import Head, check_stream


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at every line of one log found.

    `head` is the end of what is whole; of an empty file, `stream` and `h` are empty. `torn`: an interrupted append
    stands behind it, which nobody was told is recorded and which the next append sets aside. `corrupt`: line `line`, at
    byte `offset`, is not what was written.
    """

    path: Path
    stream: str
    state: Literal["whole", "torn", "corrupt"]
    head: Head
    size: int
    line: int = 0
    offset: int = 0
    why: str = ""


def verify(path: Path, stream: str | None = None, expect: Head | None = None) -> Verdict:
    """Check every line of the log at `path`, in constant memory and without a lock.

    `stream` is the name that it must have, else what its first line says; a head that was noted before, as `expect`,
    shows also what was cut off at the end. Raises Invalid when the file names no stream and NotReadable.
    """
    try:
        fd = open_log(path)
        if fd is None:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
    except OSError as error:
        raise NotReadable(path, error) from error
    try:
        size = os.fstat(fd).st_size
        if not size and stream is None and expect is None:
            return Verdict(path, "", "whole", Head(0, ""), 0)
        name = check_stream(stream) if stream is not None else stream_of(path)
        tail = repair.examine(fd, name, origin(name), expect)
    except OSError as error:
        raise NotReadable(path, error) from error
    finally:
        os.close(fd)
    return Verdict(path, name, tail.state, tail.at.head, size, tail.line, tail.offset, tail.why)
