"""What did a stream say at some moment of its past, what changed between two of them, and why?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, cast

import msgspec

from eventlog import Event, FileLog, Invalid
from eventlog.layout import LOG_NAME, stream_of
from merlin_es import moments
from merlin_es.errors import NotFound, Usage
from merlin_es.moments import AtSeq, Point
from projections import patch
from projections.causes import LED_TO_BY
from projections.history import ABSENT, Absent, Step, steps
from projections.layout import is_run_id, run_stream
from projections.patch import Json, NoSuchPlace
from projections.projection import file_names, has_projection, projection_of
from projections.snapshots import Snapshots, Stand
from projections.timeline import Place, cause_of

CAUSES_MAX: Final = 1_000
"""How long a chain of causes may get before it is cut; one that leads in a circle never ends."""


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


@dataclass(frozen=True)
class Past:
    """The past of all streams of a state root. `now` is the wall clock, which only `2h ago` is read by."""

    log: FileLog
    root: Path
    snapshots: Snapshots
    now: Callable[[], datetime]

    def stream(self, name: str) -> str:
        """Give the stream of that name, or of the run with that id; raises NotFound when it has no events."""
        stream = run_stream(name) if is_run_id(name) and not self._has_events(name) else name
        if not self._has_events(stream):
            raise NotFound(
                f"there is no run {name!r} in this state root, and no stream: "
                "`merlin ray jobs list` shows the runs there are"
            )
        return stream

    def folded(self, name: str) -> str:
        """Give the stream of that name, of which there are states; raises NotFound and Usage."""
        stream = self.stream(name)
        if not has_projection(stream):
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

    def at(self, stream: str, seq: int) -> Stand:
        """Give the state of `stream` after event `seq`."""
        return self.snapshots.at(stream, seq)

    def event(self, place: Place) -> Event | None:
        """Give one event."""
        if not self._has_events(place.stream):
            return None
        event = next(self.log.read(place.stream, place.seq), None) if place.seq >= 1 else None
        return event if event is not None and event.seq == place.seq else None

    def replay(self, stream: str, first: int, last: int | None = None) -> Iterator[Step]:
        """Yield the events of `stream` from `first` to `last`, each with what it changed."""
        return steps(stream, self.snapshots.steps(stream, first, last))

    def causes(self, event: Event) -> Iterator[Reason]:
        """Yield what led to `event`, the nearest first, back to where the story begins."""
        for _ in range(CAUSES_MAX):
            place = cause_of(event)
            before = self.event(place) if place else self._by_the_rules(event)
            if before is None:
                return
            yield Reason(before, place is not None)
            event = before

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

    def file(self, text: str) -> tuple[str, str]:
        """Give the stream that a file is folded from, and its path under the state root; raises NotFound."""
        for base in (self.root, Path.cwd()):
            path = Path(base, text).resolve()
            if not path.is_relative_to(self.root.resolve()):
                continue
            name = str(path.relative_to(self.root.resolve()))
            for directory in path.parents:
                if (directory / LOG_NAME).is_file():
                    stream = self._stream_in(directory / LOG_NAME)
                    if stream and has_projection(stream) and name in file_names(stream):
                        return stream, name
                    break
        raise NotFound(
            f"{text!r} is no file that is folded from a log of {self.root}: "
            "give one by its path under the state root, like runs/RUN/run_record.json"
        )

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
        return path.is_file() and path.stat().st_size > 0

    def _settings(self, stream: str, name: str, keys: tuple[str, ...], last: int) -> Iterator[Setting]:
        """Yield each value that a place had, with the event that set it."""
        value: Json | Absent = ABSENT
        part = b""
        for _, event, stand in self.snapshots.steps(stream, 1, last):
            content = projection_of(stream).files(stream, *stand).get(name, b"")
            if (new := _part(content, keys[0])) == part:
                continue
            part = new
            was, value = value, _value(part, keys[1:] if content.startswith(b"{") else keys)
            if not _is_same(value, was):
                yield Setting(value, event)

    def _fields(self, stream: str, name: str, keys: tuple[str, ...], last: int) -> str:
        """Say which fields there are near a place that is not there."""
        content = projection_of(stream).files(stream, *self.at(stream, last)).get(name)
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
        return next((each for each in self.log.read_backwards(event.stream, event.seq - 1) if each.type in kinds), None)


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
