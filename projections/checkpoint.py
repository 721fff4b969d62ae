"""What was the state of the resources when somebody last decided, so that nobody has to fold their past?

A cache: it is believed only whole, and only where the log still ends with, or goes on from, the head that it names.
There are two files, written in turn and in place, so that one of them is whole whenever who writes the other is killed:
to write beside and rename costs a hundred times as much where the file system then flushes what was renamed, as ext4.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from eventlog.names import Head
from eventlog.tip import surely_ends_at
from projections.fresh import LEASE_FOLD
from projections.layout import RESOURCES, StateLayout, resources_path
from projections.lease_state import Resources

_DIGEST: Final = 32
_USUAL_BYTES: Final = 64 * 1024


class _Checkpoint(msgspec.Struct, array_like=True):
    fold: int
    seq: int
    h: str
    state: Resources


_decode = msgspec.msgpack.Decoder(_Checkpoint).decode
_encode = msgspec.msgpack.Encoder().encode


def checkpoint_paths(root: Path) -> tuple[Path, Path]:
    """Give the files of the checkpoint; they can be deleted at any time."""
    return resources_path(root) / "checkpoint.0", resources_path(root) / "checkpoint.1"


class Checkpoint:
    """The checkpoint of one state root. What was decoded or stored last is remembered, and its files stay open."""

    def __init__(self, root: Path) -> None:
        self._paths = checkpoint_paths(root)
        self._fds: tuple[int, ...] = ()
        self._place = 0  # Which of the two files says more, as far as is known.
        self._last: tuple[bytes, tuple[Resources, Head]] | None = None

    def load(self) -> tuple[Resources, Head] | None:
        """Give the state that was kept last, and the head that it was folded up to; None where none can be believed."""
        heads = self._heads()
        is_second_newer = len(heads) > 1 and heads[1][_DIGEST + 8 :] > heads[0][_DIGEST + 8 :]
        for place in (1, 0) if is_second_newer else range(len(heads)):
            last = self._last
            if last is not None and heads[place][:_DIGEST] == last[0]:
                self._place = place
                return last[1]
            content = _content(self._fds[place])
            if (body := _body(content)) and (kept := _decoded(body)):
                self._last, self._place = (content[:_DIGEST], kept), place
                return kept
        return None

    def seq(self) -> int:
        """Give how far the state goes that was kept last, unread: what is broken, or of another fold, counts too."""
        return max((int.from_bytes(head[_DIGEST + 8 :], "big") for head in self._heads()), default=0)

    def store(self, state: Resources, head: Head) -> None:
        """Keep a state, over the older one of the two that there are. Whoever does has loaded, in the same turn."""
        state = replace(state, touched=None)
        body = head.seq.to_bytes(8, "big") + _encode(_Checkpoint(LEASE_FOLD, head.seq, head.h, state))
        digest = hashlib.sha256(body).digest()
        with suppress(OSError):  # The log has everything: without a checkpoint it takes longer.
            fds = self._fds or self._open(os.O_RDWR | os.O_CREAT)
            os.pwrite(fds[1 - self._place], digest + len(body).to_bytes(8, "big") + body, 0)
            self._last, self._place = (digest, (state, head)), 1 - self._place

    def reopen(self) -> None:
        """Look for the files anew: somebody may have deleted them, and another one made new ones."""
        fds, self._fds = self._fds, ()
        for fd in fds:
            os.close(fd)

    def _heads(self) -> list[bytes]:
        """Give of each file the digest, the length and the seq."""
        with suppress(OSError):
            return [os.pread(fd, _DIGEST + 16, 0) for fd in self._fds or self._open(os.O_RDWR)]
        return []

    def _open(self, flags: int) -> tuple[int, ...]:
        fds: list[int] = []
        try:
            fds += [os.open(path, flags, 0o666) for path in self._paths]
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        self._fds = tuple(fds)
        return self._fds

    def __del__(self) -> None:
        self.reopen()


def at_rest(root: Path) -> Resources | None:
    """Give the state when the log ends there and nothing in it can have ended by itself: nobody has to decide then."""
    kept = Checkpoint(root).load()
    if kept is None or not surely_ends_at(StateLayout(root).path(RESOURCES), kept[1]):
        return None
    state = kept[0]
    if state.claims or any(lease.alive.ends_by_itself or lease.guard for lease in state.leases.values()):
        return None
    return None if any(state.keys[lease.key].max_duration_s for lease in state.leases.values()) else state


def _decoded(body: bytes) -> tuple[Resources, Head] | None:
    with suppress(msgspec.MsgspecError):
        kept = _decode(body[8:])
        if kept.fold == LEASE_FOLD:
            return kept.state, Head(kept.seq, kept.h)
    return None


def _content(fd: int) -> bytes:
    content = os.pread(fd, _USUAL_BYTES, 0)
    return content if len(content) < _USUAL_BYTES else os.pread(fd, os.fstat(fd).st_size, 0)


def _body(content: bytes) -> bytes:
    """Give what was kept; nothing when it is not whole."""
    body = content[_DIGEST + 8 : _DIGEST + 8 + int.from_bytes(content[_DIGEST : _DIGEST + 8], "big")]
    return body if hashlib.sha256(body).digest() == content[:_DIGEST] else b""
