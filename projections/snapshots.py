"""What was the state of a stream after some event of its past, without folding all that came before?

Every so many events that a fold passes, the state is kept as JSON under `snapshots/`. Such a file is a cache and never
the truth: it is believed when the log has the head that it names, the fold is still the one that made it, and its bytes
have the digest that it begins with. All of them can be deleted at any time; where they cannot be written, nothing is
kept.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from eventlog import Event, EventLog, Head
from eventlog.frame import origin
from projections.layout import snapshots_path
from projections.projection import Projection, projection_of

EVERY: Final = 512
"""How many events lie between two snapshots: what a view folds at most, once they are there."""
_SUFFIX: Final = ".json"
_DIGEST_BYTES: Final = 64


class Stand(NamedTuple):
    """A stream after one of its events: its state then, and the head."""

    state: Any
    head: Head


class _Kept(msgspec.Struct, array_like=True):
    """What a snapshot says of itself, before the state as JSON."""

    stream: str
    seq: int
    h: str
    fold: int
    state: msgspec.Raw


class Snapshots:
    """The past of the streams of a log. Threads and processes may use the same directory at once."""

    def __init__(
        self,
        log: EventLog,
        root: Path,
        *,
        every: int = EVERY,
        projections: Callable[[str], Projection[Any, Any]] = projection_of,
    ) -> None:
        self._log = log
        self._projection_of = projections
        self._top = snapshots_path(root)
        self.every = every

    def at(self, stream: str, seq: int) -> Stand:
        """Give the stream after event `seq`, which it has; 0 is before the first."""
        last = self._before(stream, seq)
        for _, last in self.go_on(stream, last, seq):  # noqa: B007, B020  the last one is the answer
            pass
        return last

    def steps(self, stream: str, first: int = 1, last: int | None = None) -> Iterator[tuple[Stand, Event, Stand]]:
        """Yield each event from `first` to `last` (else the newest) between what the stream was before and after."""
        before = self.at(stream, first - 1)
        for event, after in self.go_on(stream, before, last):
            yield before, event, after
            before = after

    def _before(self, stream: str, seq: int) -> Stand:
        """Give the nearest known state at or before `seq`."""
        projection = self._projection_of(stream)
        for kept_seq in self._kept(stream):
            if kept_seq <= seq and (stand := self._read(stream, kept_seq, projection)):
                return stand
        return Stand(projection.origin, origin(stream).head)

    def go_on(self, stream: str, begin: Stand, last: int | None = None) -> Iterator[tuple[Event, Stand]]:
        """Yield each event after `begin` up to `last` (else the newest) with what the stream was after it."""
        projection = self._projection_of(stream)
        seen: list[Event] = []
        known = set(self._kept(stream))

        def noted() -> Iterator[Event]:
            for event in self._log.read(stream, begin.head.seq + 1):
                if last is not None and event.seq > last:
                    return
                seen[:] = [event]
                yield event

        for state, head in projection.states(noted(), begin.state):
            if not head.seq % self.every and head.seq not in known:
                self._write(stream, Stand(state, head), projection)
            yield seen[0], Stand(state, head)

    def _kept(self, stream: str) -> list[int]:
        """Give the numbers that there are snapshots of, the newest first."""
        try:
            names = os.listdir(self._top / stream)  # noqa: PTH208  only the names are wanted
        except OSError:
            return []
        numbers = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return sorted((int(number) for number in numbers if number.isascii() and number.isdecimal()), reverse=True)

    def _read(self, stream: str, seq: int, projection: Projection[Any, Any]) -> Stand | None:
        """Read a snapshot; None for one that is not of this log, not of this fold, or not whole."""
        try:
            content = self._path(stream, seq).read_bytes()
            digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES + 1 :]
            if sha256(body).hexdigest().encode() != digest:
                return None
            kept = msgspec.json.decode(body, type=_Kept)
            if (kept.stream, kept.seq, kept.fold) != (stream, seq, projection.version):
                return None
            event = next(iter(self._log.read(stream, seq)), None)
            if event is None or event.head != Head(seq, kept.h):
                return None
            return Stand(msgspec.json.decode(kept.state, type=type(projection.origin)), event.head)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _write(self, stream: str, stand: Stand, projection: Projection[Any, Any]) -> None:
        """Keep a state, if it is the same when it is read again."""
        try:
            state = msgspec.json.encode(stand.state)
            if msgspec.json.decode(state, type=type(projection.origin)) != stand.state:
                return
        except (msgspec.MsgspecError, TypeError):
            return  # A state that JSON does not hold is folded each time.
        body = msgspec.json.encode(_Kept(stream, *stand.head, projection.version, msgspec.Raw(state)))
        path = self._path(stream, stand.head.seq)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def _path(self, stream: str, seq: int) -> Path:
        return self._top / stream / f"{seq}{_SUFFIX}"
