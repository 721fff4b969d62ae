"""Which append was recorded under an idempotency key, in all the past of a stream?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from eventlog.frame import Position, peek
from eventlog.scan import BLOCK_BYTES, Walk, line_around


class KeyIndex:
    """The keys of one log file, as far as they are known: those behind byte `unread` by name, the others by looking.

    A process that asks once gets by with one search through the bytes of the past; one that asks again reads the past
    into memory (about 150 bytes a key) and never looks again.
    """

    def __init__(self, unread: int) -> None:
        self._offsets: dict[str, int] = {}
        self._unread = unread
        self._searched = False

    def add(self, key: str | None, offset: int) -> None:
        """Note that the line at byte `offset` has `key`, if it has one."""
        if key is not None:
            self._offsets[key] = offset

    def add_all(self, keyed: Iterable[tuple[str, int]]) -> None:
        """Note keys, each with the offset of its line."""
        self._offsets.update(keyed)

    @property
    def is_asked(self) -> bool:
        """Whether this process has looked for a key."""
        return self._searched

    def skip(self, offset: int) -> None:
        """Note that what stands before byte `offset` was not read: whoever asks for a key has to look there."""
        self._unread = offset

    def find(self, fd: int, stream: str, start: Position, key: str) -> int | None:
        """Give the offset of the line with `key`, or None; raises BadLine where the past cannot be read."""
        first, self._searched = not self._searched, True
        if key not in self._offsets and self._unread:
            if first:
                return next(_search(fd, key, self._unread), None)
            walk = Walk(fd, stream, start)
            for _ in walk.appends(self._unread):
                self.add_all(walk.keyed)
            self._unread = 0
        return self._offsets.get(key)


def _search(fd: int, key: str, end: int) -> Iterator[int]:
    """Yield the offset of each line before `end` whose envelope has `key`, which has one spelling only."""
    needle = b',"key":"' + key.encode() + b'"'
    offset, rest = 0, b""
    while offset < end and (block := os.pread(fd, min(BLOCK_BYTES, end - offset), offset)):
        text = rest + block
        at = text.find(needle)
        while at >= 0:
            line_at, line = line_around(fd, offset - len(rest) + at)
            event = peek(line)
            if event is not None and event.key == key:
                yield line_at
            at = text.find(needle, at + 1)
        offset += len(block)
        rest = text[-len(needle) + 1 :]
