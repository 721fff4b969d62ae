"""How does an execution go on from the past of another one, in a directory of its own?

What had happened by then is recorded there once more, each event with the one of the parent as its cause, and the bytes
that the events name are brought along. What was done in the parent's worktree is left out: it is done again, in a
worktree and on a branch of the fork's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import eventlog
from eventlog.disk import make_directories, replace_file
from merlin_es.errors import NotFound, Refused
from merlin_es.targetgen import answers as rules
from merlin_es.targetgen.target_dir import TargetDirectory
from projections.events.execution import EXECUTION_EVENTS, ExecutionForked
from projections.events.recorded import Recorded
from projections.execution import evolve
from projections.execution_state import ExecutionState
from projections.layout import execution_stream

APPEND_EVENTS_MAX: Final = 64
DOOR: Final = "fork"
_IN_WORKTREE: Final = frozenset({"mutation.worktree_prepared", "mutation.applied", "validation.ended"})
_REDONE: Final = _IN_WORKTREE | {"execution.files_delivered", "log.repaired"}
"""What is not taken over: it is about files that are not there yet."""
_DIGEST: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def point_for(parent: TargetDirectory, seq: int, answers: Mapping[str, str]) -> int:
    """Give the last event to go on from: `seq`, or the one before the first answer that is to be given otherwise.

    Raises what an answer to such a question raises, before anything is made.
    """
    events = _until(parent, seq)
    for event in reversed(events):
        if event.type == "question.answered" and event.data["request_id"] in answers:
            seq = event.seq - 1
    state = _fold(events[:seq])
    if not state.is_prepared:
        raise NotFound(f"{parent.path} had no plan at that moment: name a later one")
    for request_id, choice in answers.items():
        rules.answer(rules.AnswerRequest(request_id, choice), state)
    return seq


def fork(
    parent: TargetDirectory, seq: int, child: TargetDirectory, name: str, answers: Mapping[str, str]
) -> eventlog.Head:
    """Have the execution of `parent` up to event `seq` go on in `child`; gives the head that it goes on from.

    `name` tells its branches from those of the parent. Raises Refused for a directory that has something in it.
    """
    if child.path.exists() and any(child.path.iterdir()):
        raise Refused(f"{child.path} is there and not empty: name a new directory, so that nothing in it is mixed up")
    events = _until(parent, seq)
    stream, head = parent.stream, events[-1].head
    _bring_blobs(parent, child, events)
    state = _fold(events)
    forked = ExecutionForked(parent=str(stream), parent_head=str(head), name=name)
    recorded = [_with_door(forked, child), *_copies(events, state, parent.path, child.path)]
    own = execution_stream(f"{state.target}-{name}")
    for first in range(0, len(recorded), APPEND_EVENTS_MAX):
        child.log.append(own, recorded[first : first + APPEND_EVENTS_MAX], expected=first)
    _bring_files(child)
    for request_id, choice in answers.items():
        command = rules.AnswerRequest(request_id, choice)
        child.change(lambda now, command=command: rules.answer(command, now))  # type: ignore[misc]  # it is bound
    child.publish()
    return head


def _until(place: TargetDirectory, seq: int) -> list[eventlog.Event]:
    stream = place.stream
    if stream is None:
        raise NotFound(f"{place.path} holds no execution any more, so nothing of it can be brought back")
    return [event for event in place.log.read(stream) if event.seq <= seq]


def _fold(events: Sequence[eventlog.Event]) -> ExecutionState:
    state = ExecutionState()
    recorded: Recorded[Any]
    for recorded in EXECUTION_EVENTS.decode(events):
        state = evolve(state, recorded)
    return state


def _with_door(event: ExecutionForked, child: TargetDirectory) -> eventlog.NewEvent:
    return event.recorded_by(child.who.actor, child.who.door)


def _copies(
    events: Sequence[eventlog.Event], state: ExecutionState, old: Path, new: Path
) -> Iterator[eventlog.NewEvent]:
    """Yield the events as the fork has them: paths lead into its own directory."""
    moved = [(str(state.prompts_dir), f"{new}/prompts")] if state.prompts_dir is not None else []
    moved.append((str(old), str(new)))
    for event in events:
        data = _moved(event.data, moved)
        if event.type in _REDONE or (event.type == "task.completed" and data["how"] in ("validated", "applied")):
            continue
        if event.type == "execution.prepared":
            data["prompts_dir"] = None
        yield eventlog.NewEvent(
            type=event.type,
            data=data,
            actor=event.actor,
            door=DOOR,
            dv=event.dv,
            cause=f"{event.stream}#{event.seq}",
        )


def _moved(value: Any, prefixes: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401  whatever an event says
    match value:
        case dict():
            return {key: _moved(each, prefixes) for key, each in value.items()}
        case list():
            return [_moved(each, prefixes) for each in value]
        case str():
            for old, new in prefixes:
                if value == old or value.startswith(f"{old}/"):
                    return new + value.removeprefix(old)
    return value


def _bring_blobs(parent: TargetDirectory, child: TargetDirectory, events: Sequence[eventlog.Event]) -> None:
    """Copy what the events name, verified; what the parent has lost is missed where it is needed."""
    named = {match.decode() for event in events for match in _DIGEST.findall(bytes(event.raw))}
    for digest in sorted(named):
        path = parent.blobs.path(digest)
        if path.is_file():
            child.blobs.put_file(path)


def _bring_files(child: TargetDirectory) -> None:
    """Put what was answered, edited and produced where it is looked for; the rest is delivered by who executes."""
    state = child.state()
    wanted = {child.path / path: digest for path, digest in state.kept.items()}
    for task in state.tasks.values():
        wanted |= {child.path / name: digest for name, digest in task.outputs.items()}
        read = task.proposal.sha256 if task.proposal else task.refused_sha256
        if read is not None and task.response_path is not None:
            wanted[Path(task.response_path)] = read
    for path, digest in wanted.items():
        if path.resolve().is_relative_to(child.path.resolve()):
            make_directories(child.disk, path.parent)
            replace_file(child.disk, path, child.blobs.get(digest))
