"""What was the state of the resources when somebody last decided, so that nobody has to fold their past?

A cache: it is believed only whole, and only where the log still ends with, or goes on from, the head that it names.
There are two files, written in turn and in place, so that one of them is whole whenever who writes the other is killed:
to write beside and rename costs a hundred times as much where the file system then flushes what was renamed, as ext4.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from eventlog.names import Head
from projections.fresh import LEASE_FOLD
from projections.layout import resources_path
from projections.lease_state import Resources

_DIGEST: Final = 32


class _Checkpoint(msgspec.Struct, array_like=True):
    fold: int
    seq: int
    h: str
    state: Resources


_decoder = msgspec.msgpack.Decoder(_Checkpoint)


def checkpoint_paths(root: Path) -> tuple[Path, Path]:
    """Give the files of the checkpoint; they can be deleted at any time."""
    return resources_path(root) / "checkpoint.0", resources_path(root) / "checkpoint.1"


def load(root: Path) -> tuple[Resources, Head] | None:
    """Give the state that was kept last, and the head that it was folded up to; None when there is none to believe."""
    newest: _Checkpoint | None = None
    for body in sorted(filter(None, map(_body, checkpoint_paths(root))), key=_seq, reverse=True):
        with suppress(msgspec.MsgspecError):
            newest = _decoder.decode(body[8:])
        if newest is not None and newest.fold == LEASE_FOLD:
            return newest.state, Head(newest.seq, newest.h)
    return None


def store(root: Path, state: Resources, head: Head) -> None:
    """Keep a state. One process at a time may; a reader sees the one before or this one."""
    body = head.seq.to_bytes(8, "big") + msgspec.msgpack.encode(
        _Checkpoint(LEASE_FOLD, head.seq, head.h, replace(state, touched=None))
    )
    first, second = checkpoint_paths(root)
    path = first if _seq(_body(first)) <= _seq(_body(second)) else second
    with suppress(OSError):  # The log has everything: without a checkpoint it takes longer.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(fd, hashlib.sha256(body).digest() + len(body).to_bytes(8, "big") + body, 0)
        finally:
            os.close(fd)


def _body(path: Path) -> bytes:
    """Give what was kept in one file; nothing when it is not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    body = content[_DIGEST + 8 : _DIGEST + 8 + int.from_bytes(content[_DIGEST : _DIGEST + 8], "big")]
    return body if hashlib.sha256(body).digest() == content[:_DIGEST] else b""


def _seq(body: bytes) -> int:
    return int.from_bytes(body[:8], "big") if body else -1
