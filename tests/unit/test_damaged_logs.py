"""Who asks at night for what lies in a damaged log: are they told what, why and what to do, and shown all the rest?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from projections.files import Publisher
from projections.index import Index
from projections.layout import RESOURCES, run_stream
from tests.lease_examples import LEASE_EVENTS
from tests.past_examples import OTHER, Done, Hands, Type, log_in, record
from tests.run_examples import BLOCKED, RUN, requested

SICK: Final = 7
OPEN: Final = "saturn-20261123071351-abcdef03"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def be_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lead_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def be_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def hold_nothing(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: Final[dict[str, Callable[[Path], None]]] = {
    "torn after somebody was told": cut_short,
    "corrupt": flip,
    "not text": fill_with_noise,
    "a directory": be_a_directory,
    "unreadable": lead_to_itself,
    "a pipe": be_a_pipe,
    "empty": hold_nothing,
    "gone": Path.unlink,
}


@pytest.fixture
def root(hands: Hands, tmp_path: Path) -> Path:
    """Give a state root with three runs and leases, all of it published and in the index."""
    log = log_in(tmp_path / "s", hands)
    record(log, RESOURCES, LEASE_EVENTS)
    record(log, run_stream(OPEN), [requested(OPEN), BLOCKED])
    publisher = Publisher(log, tmp_path / "s")
    for stream in (RESOURCES, *map(run_stream, (RUN, OTHER, OPEN))):
        publisher.publish(stream)
    assert {row.run_id for row in Index(tmp_path / "s", sync=False).list()} == {RUN, OTHER, OPEN}
    return tmp_path / "s"


def told_in_three_lines(done: Done, path: Path) -> str:
    """See that one log is complained of; gives what to do."""
    what, why, advice = done.err.splitlines()[-3:]
    assert what.startswith(f"merlin: {path}"), done.err
    assert why.startswith("  why:  ")
    assert advice.startswith("  next: ")
    assert "merlin ray doctor" in advice
    assert "Traceback" not in done.err
    return advice


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_log_of_a_run_is_named_and_the_others_are_shown(root: Path, type_: Type, damage: str) -> None:
    path = root / "runs" / OPEN / "events.jsonl"
    DAMAGES[damage](path)
    for words in (("events", OPEN), ("jobs", "status", OPEN), ("jobs", "list"), ("state",), ("events",)):
        done = type_(*words)
        assert done.code == SICK, words
        told_in_three_lines(done, path)
        assert done.err.count("  why:  ") == 1, "once"
        assert OPEN in words or "completed" in done.out, "the others are shown"
    assert type_("events", RUN).code == type_("jobs", "status", RUN).code == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_log_of_the_resources_is_named_and_nobody_is_told_that_there_are_no_leases(
    root: Path, type_: Type, damage: str
) -> None:
    path = root / RESOURCES / "events.jsonl"
    DAMAGES[damage](path)
    listed = type_("resources", "list")
    if listed.code or damage != "corrupt":  # Far from its end it is not looked at for a list; `state` reads it all.
        assert (listed.code, listed.out) == (SICK, "")
        told_in_three_lines(listed, path)
    for verb in ("state", "events"):
        done = type_(verb)
        assert done.code == SICK, verb
        told_in_three_lines(done, path)
        assert done.err.count("  why:  ") == 1, "once"
        assert "completed" in done.out, "the others are shown"


def test_of_a_disk_that_took_all_logs_along_a_few_are_told_of_and_the_rest_is_counted(root: Path, type_: Type) -> None:
    logs = log_in(root)
    for number in range(6):
        name = f"board-20261123071351-abcdef1{number}"
        logs.path(run_stream(name)).parent.mkdir()
        logs.path(run_stream(name)).write_bytes(b"noise\n")
    done = type_("events")
    assert done.code == SICK
    assert done.err.count("  why:  ") == 5
    assert done.err.splitlines()[-1] == "merlin: 1 more cannot be read: `merlin ray doctor` names each"


def test_a_run_that_just_begins_is_not_taken_for_one_that_is_gone(root: Path) -> None:
    log = log_in(root)
    name = run_stream("board-20261123071351-abcdef99")
    log.path(name).parent.mkdir()
    assert list(log.read(name)) == []
    assert log.head(name).seq == 0
