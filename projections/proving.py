"""What does a log say of its own folds, so that a replay can prove itself and find where it went another way?

A `log.checkpoint` closes each append that ends a run, and one in a thousand others. See Checkpointed for what it holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from eventlog import Event, Head
from projections.events.cluster import ClusterCheckpointed
from projections.events.fact import Checkpointed, Fact
from projections.events.run import RunCheckpointed, RunImported
from projections.layout import CLUSTER, run_id_of
from projections.patch import Json, diff, pointer_of
from projections.projection import Files, Projection
from projections.statuses import TERMINAL

EVERY: Final = 1000
"""How many events there are at most from one checkpoint to the next."""
ENDS: Final = frozenset(
    {
        "run.completed",
        "run.failed",
        "run.cancelled",
        "run.submission_failed",
        "run.dry_run_recorded",
        "run.sealed",
    }
)
"""What ends a run, or is the last that is said of it; a run may also have ended before it was imported."""
TRAIL_BYTES_MAX: Final = 64 * 1024
"""Of a longer trail the end is kept: an append has room for it beside the artifacts that come with the end of a run."""
_REMOVED: Final = "-"
_DIGITS: Final = 4
_PLAIN: Final = "/~"
"""What a pointer keeps as it is within a trail, where spaces and equals signs have a meaning."""


class Step(NamedTuple):
    """An event, what it came to, and the head of the stream then."""

    event: Event
    state: Any
    head: Head


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a replay first came to something else than the fold of those who wrote the log: at which event and place.

    `file` is empty where that cannot be told: then it lies between the checkpoint before `seq` and the one at
    `checkpoint`. `is_of_other_fold` says that another version of the fold wrote the checkpoint, which may differ.
    """

    seq: int
    type: str
    file: str
    pointer: str
    checkpoint: int
    is_of_other_fold: bool

    def __str__(self) -> str:
        if self.is_of_other_fold:
            return f"the checkpoint at seq {self.checkpoint} was made with another version of the fold"
        if not self.file:
            return (
                f"the fold comes to something else than the checkpoint at seq {self.checkpoint} says, at an event that "
                f"its trail does not tell, at or before seq {self.seq}: the code of the fold has changed without a new "
                "version"
            )
        return (
            f"the fold comes to something else than when this was recorded, first at seq {self.seq} ({self.type}), in "
            f"{self.file}#{self.pointer}: its code has changed without a new version"
        )


def is_due(seq: int, events: Sequence[Fact]) -> bool:
    """Tell whether an append of these events behind `seq` is to be closed by a checkpoint."""
    return any(map(_is_end, events)) or seq // EVERY != (seq + len(events) + 1) // EVERY


def _is_end(event: Fact) -> bool:
    return event.type in ENDS or (isinstance(event, RunImported) and event.status in TERMINAL)


def kind_of(stream: str) -> type[RunCheckpointed | ClusterCheckpointed] | None:
    """Give the checkpoint that a stream of this name can have."""
    if stream == CLUSTER:
        return ClusterCheckpointed
    return RunCheckpointed if run_id_of(stream) else None


def steps(projection: Projection[Any, Any], events: Iterable[Event], state: Any) -> Iterator[Step]:  # noqa: ANN401  likewise
    """Fold `events` on top of `state`; yield each with what it comes to."""
    for event in events:
        for recorded in projection.codec.decode([event]):
            state = projection.evolve(state, recorded)
        yield Step(event, state, event.head)


def content_of(
    projection: Projection[Any, Any], stream: str, base: Step | None, steps: Sequence[Step]
) -> dict[str, Any]:
    """Give what a checkpoint says behind `steps`; `base` is the step before them, None where they are all."""
    files = {_name(path): content for path, content in _files(projection, stream, steps[-1]).items()}
    trail = list(_trail(projection, stream, base, steps))
    room = TRAIL_BYTES_MAX
    kept = 0
    for text in reversed(trail):
        room -= len(text) + len('"",')
        if room < 0:
            break
        kept += 1
    return {
        "fold": projection.version,
        "files": {name: sha256(content).hexdigest() for name, content in files.items()},
        "trail_from": steps[-kept].head.seq if kept else 0,
        "trail": trail[len(trail) - kept :],
    }


class Prover:
    """Walks a replay along, and compares it with each checkpoint that it comes to."""

    def __init__(self, projection: Projection[Any, Any], stream: str) -> None:
        self._projection = projection
        self._stream = stream
        self._steps: deque[Step] = deque(maxlen=2 * EVERY)
        self.passed = 0
        self.divergence: Divergence | None = None

    def take(self, event: Event, state: Any, head: Head) -> None:  # noqa: ANN401  the state of any projection
        """Take the next event of the log, and what the replay has come to with it."""
        if event.type == "log.checkpoint" and self._steps:
            if kind_of(self._stream) is not None and self.divergence is None:
                for recorded in self._projection.codec.decode([event]):
                    self._compare(recorded.event, event.seq)
            last = self._steps[-1]
            self._steps.clear()
            self._steps.append(last)
        self._steps.append(Step(event, state, head))

    def _compare(self, checkpoint: Checkpointed, seq: int) -> None:
        last = self._steps[-1]
        found = {_name(path): sha256(content).hexdigest() for path, content in self._files(last).items()}
        if found == checkpoint.files:
            self.passed += 1
            return
        is_of_other_fold = checkpoint.fold != self._projection.version
        for step, difference in self._differences(checkpoint):
            number, slash, pointer = difference.partition("=")[0].partition("/")
            file = dict(enumerate(checkpoint.files)).get(int(number), "")
            place = unquote(slash + pointer)
            self.divergence = Divergence(step.head.seq, step.event.type, file, place, seq, is_of_other_fold)
            return
        self.divergence = Divergence(last.head.seq, last.event.type, "", "", seq, is_of_other_fold)

    def _differences(self, checkpoint: Checkpointed) -> Iterable[tuple[Step, str]]:
        """Yield, event by event, each change that only one of the replay and the trail has."""
        steps = [step for step in self._steps if step.head.seq >= checkpoint.trail_from]
        base = next((step for step in reversed(self._steps) if step.head.seq < checkpoint.trail_from), None)
        if not checkpoint.trail or (base is None and checkpoint.trail_from > 1):
            return
        ours = _trail(self._projection, self._stream, base, steps)
        for step, mine, theirs in zip(steps, ours, checkpoint.trail, strict=False):
            if set(mine.split()) != set(theirs.split()):
                yield step, _first_difference(mine.split(), theirs.split(), self._fields(step))

    def _files(self, step: Step) -> Files:
        return _files(self._projection, self._stream, step)

    def _fields(self, step: Step) -> list[list[str]]:
        """Give the names of the fields of each file, in their order."""
        return [
            list(document) if isinstance(document, dict) else [] for document in documents(self._files(step)).values()
        ]


def documents(files: Files) -> dict[str, Json]:
    """Give what each file says, without the stamp, by its name beside the log."""
    found: dict[str, Json] = {}
    for path, content in files.items():
        document = msgspec.json.decode(content)
        if isinstance(document, dict):
            document.pop("as_of", None)
        found[_name(path)] = document
    return found


def _files(projection: Projection[Any, Any], stream: str, step: Step) -> Files:
    return projection.files(stream, step.state, step.head)


def _trail(projection: Projection[Any, Any], stream: str, base: Step | None, steps: Sequence[Step]) -> Iterable[str]:
    names = [_name(path) for path in _files(projection, stream, steps[-1])] if steps else []
    before = documents(_files(projection, stream, base)) if base else {}
    for step in steps:
        after = documents(_files(projection, stream, step))
        yield " ".join(_changes(names, before, after, step.event.time))
        before = after


def _changes(names: Sequence[str], before: Mapping[str, Json], after: Mapping[str, Json], time: str) -> Iterable[str]:
    for name, document in after.items():
        number = names.index(name) if name in names else len(names)
        if name not in before:
            values = document.values() if isinstance(document, dict) else [document]
            yield f"{number}={''.join(map(_short, values))}"
            continue
        for change in diff(before[name], document):
            if change.op == "remove":
                yield f"{number}{quote(change.path, safe=_PLAIN)}={_REMOVED}"
            elif change.value != time:
                yield f"{number}{quote(change.path, safe=_PLAIN)}={_short(change.value)}"


def _first_difference(mine: Sequence[str], theirs: Sequence[str], fields: Sequence[Sequence[str]]) -> str:
    """Give the first change that one side has and the other lacks; of a file that is new, its first such field."""
    for our in mine:
        if our not in theirs:
            place = our.partition("=")[0]
            their = next((each for each in theirs if each.partition("=")[0] == place), "")
            return _in_new_file(place, our, their, fields) if place.isdecimal() else our
    return next(their for their in theirs if their not in mine)


def _in_new_file(place: str, our: str, their: str, fields: Sequence[Sequence[str]]) -> str:
    begin = len(place) + 1
    names = fields[int(place)] if int(place) < len(fields) else ()
    if len(our) == len(their) == begin + _DIGITS * len(names):
        for at, name in enumerate(names):
            one = slice(begin + at * _DIGITS, begin + (at + 1) * _DIGITS)
            if our[one] != their[one]:
                return place + quote(pointer_of([name]), safe=_PLAIN)
    return our


def _short(value: Json) -> str:
    return sha256(msgspec.json.encode(value)).hexdigest()[:_DIGITS]


def _name(path: str) -> str:
    """Give the name of a file beside the log of its stream."""
    parts = path.split("/")
    return "/".join(parts[2:] if parts[0] == "runs" else parts[1:])
