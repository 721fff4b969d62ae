"""Are two target directories compared each as it lies there, as one and a run of the state root are?"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

from projections import patch
from tests.execution_examples import Desk, through_the_gate
from tests.past_examples import Hands, Type
from tests.run_examples import RUN


def desks(top: Path) -> tuple[Desk, Desk]:
    """Give two target directories of one workspace, with the same plan."""
    one = Desk(top / "w")
    other = copy.copy(one)
    other.path = one.path.with_name("other")
    other.place = other.opened()
    other.orchestrate()
    return one, other


def test_two_target_directories_part_where_they_did(hands: Hands, type_: Type, tmp_path: Path) -> None:
    one, other = desks(tmp_path)
    one.execute()
    through_the_gate(other)
    done = type_("diff", str(one.path), str(other.path))
    assert done.code == 0
    assert done.lines[:2] == [
        f"{sign}  {desk.place.stream}#{len(desk.types())}  in {desk.path}" for sign, desk in (("-", one), ("+", other))
    ]
    last, first = len(one.types()), other.types()[len(one.types())]
    assert done.lines[2] == f"{last} events say the same, then they part:  no more  and  #{last + 1} {first}"
    steps = type_("diff", str(one.path), str(other.path), "-o", "jsonpatch").json
    document = patch.apply(
        _state(one), [patch.Operation(step["op"], step["path"], step.get("value")) for step in steps]
    )
    assert document == _state(other)
    back = type_("diff", str(other.path), str(one.path), "-o", "json").json
    assert [back[side]["stream"] for side in ("one", "two")] == [other.place.stream, one.place.stream]


def test_each_side_has_its_own_moment_also_in_a_copy_whose_events_have_the_same_name(
    hands: Hands, type_: Type, tmp_path: Path
) -> None:
    desk = Desk(tmp_path / "desk")
    desk.execute()
    copy = tmp_path / "copy"
    shutil.copytree(desk.path, copy)
    assert type_("diff", str(desk.path), str(copy)).lines[-1] == "nothing is different then, times and own paths aside"
    told = type_("diff", str(desk.path), str(copy), "--at", "2", "--at", "3", "-o", "json").json
    assert [told[side]["seq"] for side in ("one", "two")] == [2, 3]
    assert [pair["kind"] for pair in told["events"]] == ["same", "same", "added"]


def test_what_is_only_when_a_line_was_written_is_no_difference(hands: Hands, type_: Type, tmp_path: Path) -> None:
    one, other = desks(tmp_path)
    for desk in (one, other):
        desk.execute()
    logs = [json.loads(path.read_text())["logs"] for desk in (one, other) for path in _states(desk)]
    assert any(logs)
    assert (
        type_("diff", str(one.path), str(other.path)).lines[-1]
        == "nothing is different then, times and own paths aside"
    )


def test_a_run_and_a_directory_are_beside_each_other(hands: Hands, type_: Type, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    for words in ((RUN, str(desk.path)), (str(desk.path), RUN)):
        done = type_("diff", *words)
        assert (done.code, done.lines[0][0], done.lines[1][0]) == (0, "-", "+")
    assert type_("diff", str(desk.path), "nobody").code == 3


def _state(desk: Desk) -> Any:  # noqa: ANN401  what JSON gives
    return json.loads((desk.path / "execution_state.json").read_text())


def _states(desk: Desk) -> list[Path]:
    return sorted((desk.path / "task_states").glob("*.json"))
