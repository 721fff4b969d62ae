"""Does a run that carries out a plan say what it waits for, whatever its target directory holds?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from merlin_es import waiting


def put(directory: Path, outcome: str, **fields: object) -> str:
    task = {"message": "the disk is full"}
    document = {"outcome": outcome, "current_task": "build", "tasks": {"build": task}, **fields}
    (directory / "execution_state.json").write_text(json.dumps(document))
    return str(directory)


def test_a_question_is_named_with_what_to_do(tmp_path: Path) -> None:
    where = put(tmp_path, "awaiting_operator", open_question_id="build-device")
    said = waiting.advice(waiting.WORKFLOW, where)
    assert said.startswith("it stopped to ask build-device: ")
    assert f"merlin targetgen status --target-dir {tmp_path}" in said
    assert f"merlin targetgen execute --engine ray --from-dir {tmp_path}" in said
    found = waiting.execution(waiting.WORKFLOW, where)
    assert found
    assert (found["outcome"], found["open_question_id"]) == ("awaiting_operator", "build-device")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("awaiting_response", "it stopped for the response to the prompt of build: write it, "),
        ("blocked", "build was blocked: the disk is full"),
        ("completed", ""),
        ("something new", ""),
    ],
)
def test_every_other_outcome_says_what_there_is_to_say(tmp_path: Path, outcome: str, said: str) -> None:
    found = waiting.advice(waiting.WORKFLOW, put(tmp_path, outcome))
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"\xff", b'{"tasks": 3, "outcome": []}', b'{"tasks": null}']
)
def test_a_directory_that_holds_no_execution_says_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "execution_state.json").write_bytes(content)
    assert waiting.advice(waiting.WORKFLOW, str(tmp_path)) == ""


def test_runs_of_other_kinds_are_not_looked_at(tmp_path: Path) -> None:
    assert waiting.execution("bringup", put(tmp_path, "blocked")) is None
    assert waiting.advice("bringup", str(tmp_path)) == ""
