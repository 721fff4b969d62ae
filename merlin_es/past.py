"""What did a stream say at some moment of its past, what changed between two of them, and why?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Final, cast

import msgspec

from eventlog import Event, Invalid
from eventlog.layout import LOG_NAME, stream_of
from eventlog.present import has_log
from merlin_es.chronicles import Chronicle
from merlin_es.errors import NotFound, Usage
from merlin_es.moments import Point
from projections import alignment, patch
from projections.alignment import Pair
from projections.causes import LED_TO_BY, Trail, is_of_the_same
from projections.history import ABSENT, Absent, Change, Step, changes, steps
from projections.layout import execution_id_of, run_id_of
from projections.patch import Json, NoSuchPlace
from projections.projection import STATE_ROOT, Files, Folds
from projections.snapshots import Snapshots, Stand
from projections.timeline import cause_of

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


@dataclass(frozen=True, slots=True)
class End:
    """One side of a comparison: a stream at one of its events; `main` is the file that says where it stands."""

    past: Past
    stream: str
    main: str
    point: Point
    stand: Stand

    def events(self, first: int, last: int) -> Iterator[Event]:
        """Yield events of the stream, the last one too."""
        return self.past.events(self.stream, first, last)

    def files(self) -> Files:
        """Give what the files say at that event."""
        return self.past.folds.all_files(self.stream, *self.stand)

    @property
    def own_name(self) -> str:
        """What it may call itself by: a run by its id, an execution by the directory in which it lies."""
        return run_id_of(self.stream) or (str(self.past.root) if execution_id_of(self.stream) else "")


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

    @property
    def is_of_one(self) -> bool:
        """Whether both sides are of one stream; a copied directory is another one, whatever its events say."""
        return (self.one.stream, self.one.past.root) == (self.two.stream, self.two.past.root)


class Past(Chronicle, frozen=True):
    """The past of all streams of a state root, or of one execution, as `folds` says."""

    snapshots: Snapshots
    folds: Folds = STATE_ROOT

    def folded(self, name: str) -> str:
        """Give the stream of that name, of which there are states; raises NotFound and Usage."""
        stream = self.stream(name)
        if not self.folds.has(stream):
            raise Usage(f"nothing is folded from {stream}: `merlin ray events {stream}` shows what is in it")
        return stream

    def at(self, stream: str, seq: int) -> Stand:
        """Give the state of `stream` after event `seq`."""
        return self.snapshots.at(stream, seq)

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
        return End(self, stream, self.folds.main(stream), point, self.at(stream, point.seq))

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

    def _stream_in(self, path: Path) -> str | None:
        try:
            return stream_of(path)
        except (Invalid, OSError):
            return None

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


def difference(one: End, two: End) -> Difference:
    """Compare two sides, which may lie in two places."""
    changed = tuple(changes(*_comparable(one, two)))
    found = Difference(one, two, (), (), changed)
    if found.is_of_one:
        first, last = sorted((one.point.seq, two.point.seq))
        return replace(found, between=tuple(one.events(first + 1, last)))
    told = [alignment.told(end.events(1, end.point.seq), end.own_name) for end in (one, two)]
    return replace(found, pairs=tuple(alignment.align(*told)))


def patch_between(one: End, two: End, file: str | None) -> list[Json]:
    """Give the JSON Patch that leads from a file of the one side to that of the other, stamps included."""
    files = _comparable(one, two)
    names = {each for side in files for each in side}
    wanted = one.main if file is None else next((each for each in sorted(names) if f"/{each}".endswith(f"/{file}")), "")
    documents = [cast("Json", msgspec.json.decode(side[wanted])) for side in files if wanted in side]
    if len(documents) != 2:
        there = ", ".join(sorted({each.rpartition("/")[2] for each in names}))
        raise NotFound(f"{file or wanted} is not there on both sides: there are {there}")
    return [operation.as_json() for operation in patch.diff(*documents)]


def _comparable(one: End, two: End) -> tuple[Files, Files]:
    """Give the files of two sides, those of the second under the names of the first."""
    top, other = (end.main.rpartition("/")[0] for end in (one, two))
    renamed = {
        f"{top}/{name.removeprefix(other).lstrip('/')}".lstrip("/"): content for name, content in two.files().items()
    }
    return one.files(), renamed


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
