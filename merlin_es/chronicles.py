"""What was recorded, of one stream or of all, in an order in which nothing comes before what led to it?

Nothing is folded here, so whoever only looks at events waits for no fold, nor for what reads moments where none is
given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from eventlog import Event, FileLog, Invalid
from eventlog.present import has_log
from merlin_es.elsewhere import Elsewhere
from merlin_es.errors import NotFound, Usage
from projections.fresh import vanished
from projections.layout import RESOURCES, is_run_id, run_id_of, run_stream
from projections.timeline import Concerns, Place, Timeline

if TYPE_CHECKING:
    from merlin_es.moments import Point

FOLLOW_S: Final = 0.1
"""How long a follower sleeps at least before it looks again."""
_NEVER: Final = 10**18
_LATER: Final = "9999"


class Chronicle(Struct, frozen=True, dict=True):
    """What was recorded in all streams of a state root, or of one execution; `root` is where their files lie.

    `now` is the wall clock, which only `2h ago` is read by.
    """

    log: FileLog
    root: Path
    now: Callable[[], datetime]

    @cached_property
    def elsewhere(self) -> Elsewhere:
        """The executions that lie outside of the state root."""
        return Elsewhere(self.log)

    def stream(self, name: str) -> str:
        """Give the stream of that name, or of the run with that id; raises NotFound when it has no events."""
        stream = run_stream(name) if is_run_id(name) and not self._has_events(name) else name
        if not self._has_events(stream):
            with suppress(Invalid):
                self.log.head(stream)  # Whoever was told of something in it hears that it is gone.
            raise NotFound(
                f"there is no run {name!r} in this state root, and no stream: "
                "`merlin ray jobs list` shows the runs there are",
                names_a="run",
                name=name,
            )
        return stream

    def knows(self, name: str) -> bool:
        """Tell whether there is a stream of that name, or a run with that id."""
        return self._has_events(name) or (is_run_id(name) and self._has_events(run_stream(name)))

    def point(self, stream: str, moment: str | None) -> Point:
        """Give the event of `stream` that is meant; the newest one when no moment is given."""
        from merlin_es.moments import SHOWN_MAX, AtSeq, Point, find, parse

        head = self.log.head(stream)
        if moment is None:
            return Point(head.seq)
        meant = parse(moment, self.now())
        if isinstance(meant, AtSeq):
            if 1 <= meant.seq <= head.seq:
                return Point(meant.seq)
            return find(meant, stream, self.log.read(stream, max(1, head.seq - SHOWN_MAX + 1)))
        return find(meant, stream, self.log.read(stream))

    def begin(self, stream: str, moment: str | None) -> Point:
        """Give the first event that is wanted: of a time the first one since then, which is the newest if none is."""
        from merlin_es.moments import AtTime, Point, parse

        if moment is None or not isinstance(parse(moment, self.now()), AtTime):
            return Point(1) if moment is None else self.point(stream, moment)
        return Point(min(self._first_since(stream, moment), self.log.head(stream).seq))

    def event(self, place: Place) -> Event | None:
        """Give one event."""
        if place.seq < 1 or not (place.stream in self.elsewhere.logs or self._has_events(place.stream)):
            return None
        event = next(self._log_of(place.stream).read(place.stream, place.seq), None)
        return event if event is not None and event.seq == place.seq else None

    def events(self, stream: str, first: int, last: int) -> Iterator[Event]:
        """Yield events of a stream, from one to another."""
        return takewhile(lambda event: event.seq <= last, self.log.read(stream, first))

    def timeline(self, name: str | None, since: str | None = None) -> Timeline:
        """Look at a stream, or at a run with all that concerns it, or, when nothing is named, at everything.

        `since` is the first event that is wanted; where there are several streams, it stands for its time.
        """
        timeline = Timeline(lambda stream, first: self._log_of(stream).read(stream, first))
        if name is None:
            self.widen(timeline, None, since)
            return timeline
        stream = self.stream(name)
        first = 1 if since is None else self._first_since(stream, since)
        timeline.add(stream, first)
        self.widen(timeline, name, since)
        return timeline

    def widen(self, timeline: Timeline, name: str | None, since: str | None = None) -> None:
        """Look at the streams too that have come into being."""
        if name is None:
            wants, streams = _since(self._time_since(since)), dict.fromkeys(self.log.streams())
            for stream in vanished(self.root, streams):
                timeline.add(stream)
            for stream in streams:
                timeline.add(stream, wants=wants)
                run_id = run_id_of(stream)
                if run_id is not None and (execution := self.execution_of(run_id)):
                    timeline.add(execution, wants=wants)
            return
        run_id = run_id_of(self.stream(name))
        if run_id is not None and RESOURCES not in timeline and self._has_events(RESOURCES):
            timeline.add(RESOURCES, wants=Concerns(run_id, self._begin_of(name, since)))
        execution = self.execution_of(run_id) if run_id is not None else None
        if execution is not None and execution not in timeline:
            timeline.add(execution, wants=_within(run_id, self._begin_of(name, since)))

    def execution_of(self, run_id: str) -> str | None:
        """Give the stream of the execution that lies in the target directory of a run; None when there is none."""
        return self.elsewhere.execution_of(run_id)

    def follow(
        self, timeline: Timeline, name: str | None, since: str | None = None, stop: threading.Event | None = None
    ) -> Iterator[Event]:
        """Yield what is recorded from now on, until `stop`; a look never takes more than a tenth of the time."""
        stop = stop or threading.Event()
        marks = dict.fromkeys(timeline.streams(), (0, 0, 0))
        pause_s = 0.0
        while not stop.wait(pause_s):
            begun = time.monotonic()
            self.widen(timeline, name, since)
            now = {stream: self.mark(stream) for stream in timeline.streams()}
            changed = [stream for stream, mark in now.items() if marks.get(stream) != mark]
            marks = now  # Taken before it is read: what comes after it is looked at again.
            pause_s = max(FOLLOW_S, 10 * (time.monotonic() - begun))
            yield from timeline.news(changed)

    def mark(self, stream: str) -> tuple[int, int, int]:
        """Give what changes whenever the log of a stream does."""
        try:
            found = self._log_of(stream).path(stream).stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_size, found.st_mtime_ns, found.st_ino)

    def _first_since(self, stream: str, since: str) -> int:
        """Give the first event that is wanted; of one that is still to come, only the number can be told."""
        from merlin_es.moments import AtSeq, AtTime, parse

        meant = parse(since, self.now())
        match meant:
            case AtSeq(seq=seq):
                return max(1, seq)
            case AtTime(time=time):
                return next((event.seq for event in self.log.read(stream) if event.time >= time), _NEVER)
        return self.point(stream, since).seq

    def _begin_of(self, name: str, since: str | None) -> str:
        """Give the time of the first event that is wanted of a run; there may be none yet."""
        if since is None:
            return ""
        stream = self.stream(name)
        first = next(self.log.read(stream, self._first_since(stream, since)), None)
        return first.time if first else _LATER

    def _time_since(self, since: str | None) -> str:
        if since is None:
            return ""
        from merlin_es.moments import AtTime, parse

        match parse(since, self.now()):
            case AtTime(time=time):
                return time
        raise Usage(f"--since {since} counts in one stream: name that, or give a time, or how long ago")

    def _log_of(self, stream: str) -> FileLog:
        return self.elsewhere.logs.get(stream, self.log)

    def _has_events(self, stream: str) -> bool:
        try:
            path = self.log.path(stream)
        except Invalid:
            return False
        return has_log(path)


def _within(run_id: str | None, since: str) -> Callable[[Event], bool]:
    """Want what was done within a run, and what people did meanwhile outside of any."""
    return lambda event: event.corr in (None, run_id) and event.time >= since


def _since(time: str) -> Callable[[Event], bool]:
    return lambda event: event.time >= time
