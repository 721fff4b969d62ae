"""Does a log still end where somebody has noted its head?

Answered from the last bytes alone. The noted chain value vouches for the last line and for all before it.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from eventlog.names import Head

TIP_BYTES = 16 * 1024
_SEAL_BYTES = len(b',"h":"') + 43 + len(b'"}')
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def surely_ends_at(path: Path, head: Head) -> bool:
    """Tell whether the log at `path` ends with the line of `head`, whole; False also where its tip is not enough."""
    return ends_with(_tip(path), head)


def ends_with(tip: bytes, head: Head) -> bool:
    """Tell whether the last bytes of a log end with the line of `head`, whole."""
    lines = tip.rsplit(b"\n", 3)[-3:]
    if len(lines) < 3 or lines[-1]:
        return False
    before, line = lines[0], lines[1]
    digest = sha256(before[-45:-2] + line[:-_SEAL_BYTES]).digest()
    return line.endswith(b',"h":"%b"}' % head.h.encode()) and (
        b2a_base64(digest, newline=False)[:43].translate(_URL_SAFE) == head.h.encode()
        and line.startswith(b'{"v":1,"seq":%d,' % head.seq)
    )


def _tip(path: Path) -> bytes:
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # As open_log does.
        try:
            return os.pread(fd, TIP_BYTES, max(0, os.fstat(fd).st_size - TIP_BYTES))
        finally:
            os.close(fd)
    return b""
