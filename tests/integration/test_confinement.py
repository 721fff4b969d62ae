"""Can any name that somebody types, or that stands in a log, make us read or write outside of where it belongs?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import FileLog, NewEvent
from projections.layout import RESOURCES, StateLayout, TargetLayout, run_stream
from tests.examples import unsynced
from tests.run_examples import RUN, Books, completed, indexed, intended, requested, started, submitted
from tests.words import typed

EVIL = (
    "../../victim", "/etc/passwd", "a/../../../victim", "..", "a/b", "a\nb", "a\0b", "x" * 300, "~root", "\udcff",
    "a\u202eb", " ", "*", "%2e%2e%2fvictim", "a\\..\\b",
)  # fmt: skip

OF_RUNS = (
    "jobs status", "jobs logs", "jobs cancel", "jobs retry", "jobs wait -t 0", "artifacts list", "artifacts index",
    "artifacts fetch {run} {evil}", "artifacts fetch {evil} a.txt", "replay", "state", "events", "why {evil} status",
    "diff {evil} {run}", "diff {run} {evil}", "wait {evil} completed", "fork", "verify", "verify --expect", "head",
    "seal", "archive", "unarchive", "export",
)  # fmt: skip
OF_LEASES = (
    "resources reserve --owner ada", "resources reserve k2 --run {evil} --owner ada", "resources release",
    "resources release --key", "resources renew", "resources transfer --to bob", "resources check --fence 1",
    "resources leave", "resources declare", "resources drain --reason r", "resources enable",
    "resources retire --reason r", "resources history", "resources who", "resources hold --owner ada {evil} -- true",
)  # fmt: skip
OF_WISHES = (
    "jobs submit --target {evil} --workflow w --target-dir out -- true",
    "jobs submit --target t --workflow w --target-dir out --lease {evil} -- true",
)


class House:
    """A directory with a state root in it, and a file beside that nobody may touch."""

    def __init__(self, top: Path) -> None:
        self.top, self.root = top, top / "house" / "state"
        (top / "victim").write_text("untouched")
        (top / "house" / "pyproject.toml").parent.mkdir()
        (top / "house" / "pyproject.toml").touch()
        self.books = Books(self.root)
        self.books.change(RUN, requested(), intended(), submitted(), started(), indexed("a.txt"), completed())

    def outside(self) -> dict[str, bytes]:
        """Give everything that is not of the state root."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for directory, names, files in os.walk(self.top):
            if Path(directory) == self.root:
                names.clear()
                continue
            for name in files:
                yield f"{directory}/{name}", Path(directory, name).read_bytes()

    def type(self, *words: str) -> int:
        return typed("ray", "--state-root", str(self.root), *words, cwd=self.top / "house").returncode


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("confined"))


@pytest.mark.parametrize("verb", [*OF_RUNS, *OF_LEASES, *OF_WISHES])
def test_no_name_that_is_typed_leads_out_or_is_taken_for_one(house: House, verb: str) -> None:
    before, inside = house.outside(), {path for path in house.root.rglob("*") if path.is_dir()}
    for evil in EVIL:
        words = verb.split() if "{evil}" in verb else [*verb.split(), "{evil}"]
        code = house.type(*(word.replace("{evil}", evil).replace("{run}", RUN) for word in words))
        asked = ("resources history", "resources who", "resources declare")
        assert code in (2, 3, 4, 7, 20) or (verb in asked and code in (0, 2)), (verb, evil, code)
    assert house.outside() == before
    new = {path for path in house.root.rglob("*") if path.is_dir()} - inside
    assert {path.relative_to(house.root).parts[0] for path in new} <= {"snapshots", "resources", "ledger", "blobs"}, new


def test_a_lease_whose_name_in_the_log_leads_out_is_written_nowhere(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.type("resources", "reserve", "board", "--owner", "ada") == 0
    log = FileLog(StateLayout(house.root), disk=unsynced())
    granted = next(event for event in log.read(RESOURCES) if event.type == "lease.granted")
    queued = next(event for event in log.read(RESOURCES) if event.type == "claim.queued")
    for number, evil in enumerate(("../../../victim", "/tmp/victim-of-merlin", "a/b")):
        claim = {**queued.data, "claim_id": f"claim-000000000{number}", "keys": [f"k{number}"]}
        lease = {
            **granted.data,
            "claim_id": claim["claim_id"],
            "lease_id": evil,
            "key": f"k{number}",
            "keys": [f"k{number}"],
        }
        events: list[tuple[str, Any]] = [("claim.queued", claim), ("lease.granted", lease)]
        log.append(RESOURCES, [NewEvent(type=type_, data=data, actor="eve", door="cli") for type_, data in events])
    before = house.outside()
    for words in (("resources", "list", "--all"), ("rebuild",), ("rebuild", "--check"), ("doctor",), ("state",)):
        house.type(*words)
    assert house.outside() == before
    assert not Path("/tmp/victim-of-merlin.json").exists()
    assert sorted(path.name[:6] for path in (house.root / "resources" / "leases").iterdir()) == ["lease-"]


def test_an_artifact_whose_name_in_the_log_leads_out_is_not_fetched(tmp_path: Path) -> None:
    house = House(tmp_path)
    other = RUN[:-1] + "2"
    for evil in ("../../victim", "/etc/passwd", "a/../../victim"):
        house.books.change(other, requested(other), indexed(evil))
        before = house.outside()
        assert house.type("artifacts", "fetch", other, evil) in (3, 4)
        assert house.outside() == before


def test_a_task_and_a_question_whose_names_in_the_log_lead_out_are_written_nowhere(tmp_path: Path) -> None:
    house = House(tmp_path)
    place = tmp_path / "house" / "plan"
    words = ("targetgen", "orchestrate", "--example", "nvidia_ada", "--out-dir", str(place.parent))
    assert typed(*words, cwd=place.parent).returncode == 0
    place = place.parent / "nvidia_ada"
    layout = TargetLayout(place)
    stream = layout.stream()
    assert stream
    option = {"id": "yes", "label": "yes", "description": ""}
    asked = {
        "request_id": "../../../victim", "task_id": "review_target_spec", "stage": "device", "question": "?",
        "options": [option], "recommended_option": "yes", "credential": None, "lease_key": None,
    }  # fmt: skip
    log = FileLog(layout, disk=unsynced())
    prepared: Any = next(log.read(stream)).data
    files = {f"{name}/../../../victim": next(iter(prepared["files"].values())) for name in ("briefs", "prompts")}
    evil: list[tuple[str, Any]] = [
        ("question.asked", asked),
        ("execution.prepared", {**prepared, "files": {**prepared["files"], **files}}),
    ]
    log.append(stream, [NewEvent(type=type_, data=data, actor="eve", door="cli") for type_, data in evil])
    before = {path for path in tmp_path.rglob("*") if place not in path.parents}
    for verb in (("rebuild",), ("status",), ("answer", "--question-id", "../../../victim", "--choice", "yes")):
        typed("targetgen", verb[0], "--target-dir", str(place), *verb[1:], cwd=place.parent)
    done = typed("targetgen", "execute", "--from-dir", str(place), "--resume", cwd=place.parent)
    assert done.returncode == 17, "and the plan goes on"
    assert {path for path in tmp_path.rglob("*") if place not in path.parents} == before
    assert (tmp_path / "victim").read_text() == "untouched"
    assert house.outside()


def test_a_link_in_the_place_of_a_log_or_of_its_directory_is_no_run(tmp_path: Path) -> None:
    house = House(tmp_path)
    linked = RUN[:-1] + "3"
    (tmp_path / "elsewhere").mkdir()
    (house.root / "runs" / linked).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    before = house.outside()
    assert linked not in {stream.removeprefix("run/") for stream in StateLayout(house.root).streams()}
    for words in (("jobs", "list"), ("rebuild",), ("verify", "--all"), ("doctor",)):
        house.type(*words)
    assert house.outside() == before
    assert run_stream(linked)
