"""What did a stream say at some moment of its past, what changed between two of them, and why?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Final, cast

import msgspec

from eventlog import Event, FileLog, Invalid
from eventlog.layout import LOG_NAME, stream_of
from eventlog.present import has_log
from merlin_es import moments
from merlin_es.elsewhere import Elsewhere
from merlin_es.errors import NotFound, Usage
from merlin_es.moments import AtSeq, AtTime, Point
from projections import alignment, patch
from projections.alignment import Pair
from projections.causes import LED_TO_BY, Trail, is_of_the_same
from projections.history import ABSENT, Absent, Change, Step, changes, steps
from projections.layout import RESOURCES, is_run_id, run_id_of, run_stream
from projections.patch import Json, NoSuchPlace
from projections.projection import STATE_ROOT, Files, Folds
from projections.snapshots import Snapshots, Stand
from projections.timeline import Concerns, Place, Timeline, cause_of

CAUSES_MAX: Final = 1_000
"""How long a chain of causes may get before it is cut; one that leads in a circle never ends."""
FOLLOW_S: Final = 0.1
"""How long a follower sleeps at least before it looks again."""
_NEVER: Final = 10**18
_LATER: Final = "9999"


@dataclass(frozen=True, slots=True)
class Reason:
    """An event in a chain of causes; `recorded` says that its log names what led to it, else the rules do."""

    event: Event
    recorded: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, from the event on that set it; ABSENT from where it was removed."""

    value: Json | Absent
    event: Event


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every value that a place of a file has had, oldest first, and the causes of the last one, nearest first."""

    file: str
    pointer: str
    settings: tuple[Setting, ...]
    causes: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class End:
    """One side of a comparison: a stream at one of its events; `main` is the file that says where it stands."""

    stream: str
    main: str
    point: Point
    stand: Stand


@dataclass(frozen=True, slots=True)
class Difference:
    """What lies between two sides: of one stream the events `between`, of two their events in `pairs`; and `changes`.

    The files of two runs are compared under the names that they have in the first.
    """

    one: End
    two: End
    between: tuple[Event, ...]
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Past:
    """The past of all streams of a state root, or of one execution, as `folds` says.

    `now` is the wall clock, which only `2h ago` is read by.
    """

    log: FileLog
    root: Path
    snapshots: Snapshots
    now: Callable[[], datetime]
    folds: Folds = STATE_ROOT

    @cached_property
    def elsewhere(self) -> Elsewhere:
        """The executions that lie outside of the state root."""
        return Elsewhere(self.log)

    def stream(self, name: str) -> str:
        """Give the stream of that name, or of the run with that id; raises NotFound when it has no events."""
        stream = run_stream(name) if is_run_id(name) and not self._has_events(name) else name
        if not self._has_events(stream):
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

    def folded(self, name: str) -> str:
        """Give the stream of that name, of which there are states; raises NotFound and Usage."""
        stream = self.stream(name)
        if not self.folds.has(stream):
            raise Usage(f"nothing is folded from {stream}: `merlin ray events {stream}` shows what is in it")
        return stream

    def point(self, stream: str, moment: str | None) -> Point:
        """Give the event of `stream` that is meant; the newest one when no moment is given."""
        head = self.log.head(stream)
        if moment is None:
            return Point(head.seq)
        meant = moments.parse(moment, self.now())
        if isinstance(meant, AtSeq):
            if 1 <= meant.seq <= head.seq:
                return Point(meant.seq)
            return moments.find(meant, stream, self.log.read(stream, max(1, head.seq - moments.SHOWN_MAX + 1)))
        return moments.find(meant, stream, self.log.read(stream))

    def begin(self, stream: str, moment: str | None) -> Point:
        """Give the first event that is wanted: of a time the first one since then, which is the newest if none is."""
        if moment is None or not isinstance(moments.parse(moment, self.now()), AtTime):
            return Point(1) if moment is None else self.point(stream, moment)
        return Point(min(self._first_since(stream, moment), self.log.head(stream).seq))

    def at(self, stream: str, seq: int) -> Stand:
        """Give the state of `stream` after event `seq`."""
        return self.snapshots.at(stream, seq)

    def event(self, place: Place) -> Event | None:
        """Give one event."""
        if place.seq < 1 or not (place.stream in self.elsewhere.logs or self._has_events(place.stream)):
            return None
        event = next(self._log_of(place.stream).read(place.stream, place.seq), None)
        return event if event is not None and event.seq == place.seq else None

    def replay(self, stream: str, first: int, last: int | None = None) -> Iterator[Step]:
        """Yield the events of `stream` from `first` to `last`, each with what it changed."""
        return steps(stream, self.snapshots.steps(stream, first, last), self.folds)

    def retell(self, stream: str, first: int, last: int | None = None) -> Iterator[tuple[Step, Reason | None]]:
        """Yield the same with what led to each of them."""
        trail = Trail()
        for event in takewhile(lambda event: event.seq < first, self.log.read(stream)) if first > 1 else ():
            trail.note(event)
        for step in self.replay(stream, first, last):
            yield step, self.reason(step.event, trail)
            trail.note(step.event)

    def reason(self, event: Event, trail: Trail) -> Reason | None:
        """Give what led to an event, which `trail` has come to."""
        place = cause_of(event)
        before = self.event(place) if place else trail.before(event)
        return Reason(before, place is not None) if before else None

    def end(self, name: str, moment: str | None) -> End:
        """Give one side of a comparison."""
        stream = self.folded(name)
        point = self.point(stream, moment)
        return End(stream, self.folds.main(stream), point, self.at(stream, point.seq))

    def difference(self, one: End, two: End) -> Difference:
        """Compare two sides."""
        between: tuple[Event, ...] = ()
        pairs: tuple[Pair, ...] = ()
        if one.stream == two.stream:
            first, last = sorted((one.point.seq, two.point.seq))
            between = tuple(self._events(one.stream, first + 1, last))
        else:
            told = [alignment.told(self._events(end.stream, 1, end.point.seq), _own_name(end)) for end in (one, two)]
            pairs = tuple(alignment.align(*told))
        return Difference(one, two, between, pairs, tuple(changes(*self._comparable(one, two))))

    def patch(self, one: End, two: End, file: str | None) -> list[Json]:
        """Give the JSON Patch that leads from a file of the one side to that of the other, stamps included."""
        files = self._comparable(one, two)
        names = {each for side in files for each in side}
        wanted = one.main if file is None else next((each for each in sorted(names) if each.endswith(f"/{file}")), "")
        documents = [cast("Json", msgspec.json.decode(side[wanted])) for side in files if wanted in side]
        if len(documents) != 2:
            there = ", ".join(sorted({each.rpartition("/")[2] for each in names}))
            raise NotFound(f"{file or wanted} is not there on both sides: there are {there}")
        return [operation.as_json() for operation in patch.diff(*documents)]

    def causes(self, event: Event) -> Iterator[Reason]:
        """Yield what led to `event`, the nearest first, back to where the story begins."""
        for _ in range(CAUSES_MAX):
            place = cause_of(event)
            before = self.event(place) if place else self._by_the_rules(event)
            if before is None:
                return
            yield Reason(before, place is not None)
            event = before

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
            wants = _since(self._time_since(since))
            for stream in self.log.streams():
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

    def why(self, file: str, pointer: str, moment: str | None = None) -> Explanation:
        """Tell how a place of a projected file came to say what it says; raises NotFound and Usage."""
        stream, name = self.file(file)
        last = self.point(stream, moment).seq
        try:
            keys = patch.keys_of(pointer)
        except NoSuchPlace as error:
            raise Usage(str(error)) from None
        if not keys:
            raise Usage(f"all of {name} changes with every event: say which field, like {name}#/status")
        settings = tuple(self._settings(stream, name, keys, last))
        if not settings:
            raise NotFound(f"{name} never had anything at {pointer!r}: {self._fields(stream, name, keys, last)}")
        return Explanation(name, pointer, settings, tuple(self.causes(settings[-1].event)))

    def why_field(self, name: str, field: str, moment: str | None = None) -> Explanation:
        """Tell the same of a field of a run, like `status` or `attempts/0/node_id`; raises NotFound and Usage."""
        pointer = f"/{field.lstrip('/')}"
        return self.why(str(self.root / self.folds.main(self.folded(name))), pointer, moment)

    def file(self, text: str) -> tuple[str, str]:
        """Give the stream that a file is folded from, and its path under the state root; raises NotFound."""
        for base in (self.root, Path.cwd()):
            path = Path(base, text).resolve()
            if not path.is_relative_to(self.root.resolve()):
                continue
            name = str(path.relative_to(self.root.resolve()))
            for directory in path.parents:
                if has_log(directory / LOG_NAME):
                    stream = self._stream_in(directory / LOG_NAME)
                    if stream and self.folds.has(stream) and self.folds.owns(stream, name):
                        return stream, name
                    break
        raise NotFound(
            f"{text!r} is no file that is folded from a log of {self.root}: "
            "give one by its path under the state root, like runs/RUN/run_record.json"
        )

    def _first_since(self, stream: str, since: str) -> int:
        """Give the first event that is wanted; of one that is still to come, only the number can be told."""
        meant = moments.parse(since, self.now())
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
        match moments.parse(since, self.now()):
            case AtTime(time=time):
                return time
        raise Usage(f"--since {since} counts in one stream: name that, or give a time, or how long ago")

    def _events(self, stream: str, first: int, last: int) -> Iterator[Event]:
        return takewhile(lambda event: event.seq <= last, self.log.read(stream, first))

    def _comparable(self, one: End, two: End) -> tuple[Files, Files]:
        """Give the files of two sides, those of the second under the names of the first."""
        sides = [self.folds.all_files(end.stream, *end.stand) for end in (one, two)]
        top, other = (end.main.rpartition("/")[0] for end in (one, two))
        return sides[0], {f"{top}{name.removeprefix(other)}": content for name, content in sides[1].items()}

    def _log_of(self, stream: str) -> FileLog:
        return self.elsewhere.logs.get(stream, self.log)

    def _stream_in(self, path: Path) -> str | None:
        try:
            return stream_of(path)
        except (Invalid, OSError):
            return None

    def _has_events(self, stream: str) -> bool:
        try:
            path = self.log.path(stream)
        except Invalid:
            return False
        return has_log(path)

    def _settings(self, stream: str, name: str, keys: tuple[str, ...], last: int) -> Iterator[Setting]:
        """Yield each value that a place had, with the event that set it."""
        value: Json | Absent = ABSENT
        part, seen = b"", None
        for _, event, stand in self.snapshots.steps(stream, 1, last):
            glimpsed = self.folds.glance(stand.state, name, keys[0])
            if glimpsed is not None and glimpsed == seen:
                continue
            seen = glimpsed
            content = self.folds.projection_of(stream).files(stream, *stand).get(name)
            if content is None or (new := _part(content, keys[0])) == part:  # What is not written out stays as it was.
                continue
            part = new
            was, value = value, _value(part, keys[1:] if content.startswith(b"{") else keys)
            if not _is_same(value, was):
                yield Setting(value, event)

    def _fields(self, stream: str, name: str, keys: tuple[str, ...], last: int) -> str:
        """Say which fields there are near a place that is not there."""
        content = self.folds.all_files(stream, *self.at(stream, last)).get(name)
        if content is None:
            return "the file is not there at that moment"
        document: Json = msgspec.json.decode(content)
        above: tuple[str, ...] = ()
        for key in keys:
            try:
                document, above = patch.resolve(document, patch.pointer_of([key])), (*above, key)
            except NoSuchPlace:
                break
        match document:
            case dict():
                return f"at {patch.pointer_of(above)!r} there are {', '.join(document) or 'no fields'}"
            case list():
                return f"at {patch.pointer_of(above)!r} is an array of {len(document)}"
        return f"at {patch.pointer_of(above)!r} stands {msgspec.json.encode(document).decode()}"

    def _by_the_rules(self, event: Event) -> Event | None:
        """Give the last event before this one that the rules let lead to it."""
        kinds = LED_TO_BY.get(event.type, ())
        if not kinds or event.seq == 1:
            return None
        data, before = event.data, self._log_of(event.stream).read_backwards(event.stream, event.seq - 1)
        return next((each for each in before if each.type in kinds and is_of_the_same(data, each.data)), None)


def _own_name(end: End) -> str:
    return run_id_of(end.stream) or ""


def _within(run_id: str | None, since: str) -> Callable[[Event], bool]:
    """Want what was done within a run, and what people did meanwhile outside of any."""
    return lambda event: event.corr in (None, run_id) and event.time >= since


def _since(time: str) -> Callable[[Event], bool]:
    return lambda event: event.time >= time


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _part(content: bytes, key: str) -> bytes:
    """Give the field of a file as it is written, or all of one that has no fields: mostly it has not changed."""
    return bytes(_members(content).get(key, b"")) if content.startswith(b"{") else content


def _value(part: bytes, keys: Sequence[str]) -> Json | Absent:
    try:
        return patch.resolve(cast("Json", msgspec.json.decode(part)), patch.pointer_of(keys)) if part else ABSENT
    except NoSuchPlace:
        return ABSENT


def _is_same(one: Json | Absent, other: Json | Absent) -> bool:
    if isinstance(one, Absent) or isinstance(other, Absent):
        return one is other
    return patch.is_same(one, other)
