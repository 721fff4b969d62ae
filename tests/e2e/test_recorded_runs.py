"""Is what is said of the past what the live system published then, in all that runs can go through on real Ray?

The runs are made once, in a minute, by processes that record what they publish; each test then looks at what they left.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from eventlog import Event, FileLog
from merlin_es.ray_adapter.heads import LocalHeads
from projections.layout import StateLayout, run_record_path, run_stream
from tests.conftest import Figure
from tests.e2e import stories
from tests.e2e.stories import PLAIN, RECONCILERS_DIE, SUBMITTER_DIES, Recorded
from tests.e2e.test_targetgen_on_ray import Workshop
from tests.mutants import Line, Mutant
from tests.ray_cluster import ENOUGH_FOR_ALL_TESTS, OwnHead, RunningHead, free_place, watched_directory
from tests.recorder import newest, place_of, prove, recording, seq_of

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(1500)]
RUNS_MIN = 50
KINDS_MIN = 15

ARTIFACTS = Line("projections/run_record.py", "artifacts=len(files) + (", "artifacts=len(files) + 1 + (")
FENCE = Line("projections/leases.py", "fence=event.fence,\n        live", "fence=event.fence + 1,\n        live")
COMPLETED = Line("projections/execution.py", "completed_how=how, message=None", 'completed_how=how, message="so"')
VERSION = Line("projections/fresh.py", "RUN_FOLD: Final = 1\n", "RUN_FOLD: Final = 2\n")


class Recording(NamedTuple):
    """What was recorded: the labs, the first of which has most of it, and every version of every state file."""

    labs: tuple[Recorded, ...]
    kept: Path

    @property
    def roots(self) -> tuple[Path, ...]:
        """The state roots."""
        return tuple(lab.root for lab in self.labs)

    def events(self, run_id: str) -> list[Event]:
        """Give the events of a run of the first lab."""
        return list(FileLog(StateLayout(self.labs[0].root)).read(run_stream(run_id)))

    def versions(self, run_id: str) -> list[bytes]:
        """Give each record of a run of the first lab that was published, oldest first."""
        place = place_of(self.kept, run_record_path(self.labs[0].root, run_id).parent)
        return [path.read_bytes() for path in sorted(place.glob("*/run_record.json"), key=seq_of)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, ray_head: RunningHead) -> Iterator[Recording]:
    """Have everything happen, beside one another."""
    top = tmp_path_factory.mktemp("recorded")
    kept = top / "kept"
    kept.mkdir()
    with ExitStack() as stack:
        stack.enter_context(recording(kept))
        lab = Recorded(top / "lab", kept, None, None)
        stories.before_the_cluster(lab, ray_head.dashboard_url, ray_head.token_path)
        directory = stack.enter_context(watched_directory())
        others: list[Recorded] = []

        def on_a_head_that_dies() -> None:
            head = OwnHead(LocalHeads(ENOUGH_FOR_ALL_TESTS), free_place(directory))
            stack.callback(head.stop)
            others.append(Recorded(top / "other", kept, head.dashboard_url, head.token_path))
            stories.cluster_dies(others[0], head)

        told: list[Callable[[], None]] = [on_a_head_that_dies, partial(stories.keys, lab)]
        told += [partial(stories.plan, lab, "gemmini", Workshop(lab))]
        told += [partial(story, lab) for story in (stories.forked, stories.cancelled_before_it_starts)]
        told += [partial(story, lab) for story in (stories.supervisor_dies, stories.stopped_by_others)]
        told += [partial(stories.cancelled_while_it_runs, lab, each) for each in stories.CANCELLER_DIES]
        told += [partial(stories.plain, lab, row) for row in range(len(PLAIN))]
        told += [partial(story, lab) for story in (stories.kept_for_good, stories.people, stories.submitted_after_all)]
        stories.tell([partial(stories.submitter_dies, lab, each) for each in SUBMITTER_DIES], workers=3)
        with lab.reconcilers(RECONCILERS_DIE):
            stories.tell(told, workers=8)
        for each in (lab, *others):
            each.type("rebuild")  # Who was killed between append and publish has left a file that is behind.
        yield Recording((lab, *others), kept)


def changed(files: dict[Path, bytes]) -> list[Path]:
    """Give the files that have another content now."""
    return [path for path, content in files.items() if path.read_bytes() != content]


def put(path: Path, content: bytes) -> None:
    """Change a state file, and not what was kept of it, which is another name for the same bytes."""
    path.unlink()
    path.write_bytes(content)


def test_of_fifty_runs_the_state_at_each_prefix_is_what_was_published_then(recorded: Recording, figure: Figure) -> None:
    counted: Counter[str] = stories.kinds(recorded.labs)
    assert counted.total() >= RUNS_MIN
    assert len(counted) >= KINDS_MIN
    assert recorded.labs[0].died == len(RECONCILERS_DIE), "each loop was killed where it was to be"
    proof = prove(recorded.kept, *recorded.roots)
    assert proof.differences == []
    assert proof.prefixes > proof.events // 2, "of an append of several events only the last was published"
    known = {lab.root: set(lab.runs()) for lab in recorded.labs}
    assert {run_id for lab in recorded.labs for run_id in lab.kinds} == set().union(*known.values())
    figure(
        f"{counted.total()} runs of {len(counted)} kinds ({', '.join(f'{n} {kind}' for kind, n in counted.items())}); "
        f"{proof.prefixes} published prefixes of {proof.events} events in {proof.streams} streams, "
        f"{proof.files} files, 0 differences"
    )


def test_all_that_was_projected_and_the_index_come_back_the_same(recorded: Recording, figure: Figure) -> None:
    lab, *_ = recorded.labs
    before = newest(recorded.kept)
    assert changed(before) == [], "what lies there is what was published last"
    listed = {each.root: each.type("jobs", "list", "-o", "json") for each in recorded.labs}
    for path in [*before, *(path for each in recorded.labs for path in each.root.glob("index.sqlite*"))]:
        path.unlink()
    for each in recorded.labs:
        each.type("rebuild")
    workshop = Workshop.__new__(Workshop)
    workshop.lab, workshop.top = lab, lab.work
    executions = sorted({path.parent for path in before if path.name == "execution_state.json"})
    for directory in executions:
        workshop.merlin("rebuild", "--target-dir", str(directory))
    assert changed(before) == []
    assert {each.root: each.type("jobs", "list", "-o", "json") for each in recorded.labs} == listed
    figure(f"{len(before)} files of {len(recorded.labs)} state roots and {len(executions)} executions came back")


def test_a_file_that_was_edited_one_that_is_stale_and_one_of_another_fold_are_told_apart(
    recorded: Recording, tmp_path: Path
) -> None:
    lab, *_ = recorded.labs
    edited, stale, other = sorted(run_id for run_id, kind in lab.kinds.items() if kind == "failed")[:3]
    path = run_record_path(lab.root, edited)
    put(path, path.read_bytes().replace(b'"cpus": 0.05', b'"cpus": 64.0'))
    versions = recorded.versions(stale)
    put(run_record_path(lab.root, stale), versions[len(versions) // 2])
    shutil.copytree(lab.root / "runs" / other, tmp_path / "one" / "runs" / other)
    mutant = Mutant(tmp_path / "newer", VERSION)
    assert mutant.run("merlin_es", "ray", "--state-root", str(tmp_path / "one"), "rebuild").returncode == 0
    put(run_record_path(lab.root, other), run_record_path(tmp_path / "one", other).read_bytes())
    verdicts = json.loads(lab.type("rebuild", "--check", "-o", "json", code=4))
    found = {Path(each["path"]).parent.name: each for each in verdicts if each["state"] != "same"}
    assert {run_id: each["state"] for run_id, each in found.items()} == {
        edited: "edited",
        stale: "stale",
        other: "other_fold",
    }
    assert [each["path"] for each in found[edited]["patch"]] == ["/cpus"]
    assert [each["path"] for each in found[other]["patch"]] == ["/as_of/fold"]
    lab.type("rebuild")
    lab.type("rebuild", "--check")


def test_one_changed_line_of_a_fold_is_named_by_its_event_and_its_place(
    recorded: Recording, tmp_path: Path, figure: Figure
) -> None:
    lab, *_ = recorded.labs
    mutant = Mutant(tmp_path / "artifacts", ARTIFACTS)
    done = mutant.run("merlin_es", "ray", "--state-root", str(lab.root), "rebuild", "--check")
    assert done.returncode == 4, done.stderr
    diverged = [line for line in done.stdout.splitlines() if line.startswith("diverged  ")]
    for run_id in lab.kinds:
        events = recorded.events(run_id)
        indexed = next((event for event in events if event.type == "run.artifacts_indexed"), None)
        said = f"first at seq {indexed.seq} (run.artifacts_indexed), in run_record.json#/artifacts" if indexed else ""
        lines = [line for line in diverged if f"runs/{run_id}/" in line]
        assert [said in line for line in lines] == ([True] if indexed else [])
    assert len(diverged) > RUNS_MIN // 2
    figure(f"one line changed: {len(diverged)} runs diverge, each with the event and the place; first: {diverged[0]}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (ARTIFACTS, r"run/\S+ \S+: run_record\.json is not what was published, at /artifacts"),
        (FENCE, r"resources#\d+ \S+: \S+ is not what was published, at /\S*fence"),
        (COMPLETED, r"execution/\S+ task\.completed: \S+ is not what was published, at /\S*message"),
    ],
)
def test_one_changed_line_of_any_fold_comes_to_something_else_than_was_published(
    recorded: Recording, tmp_path: Path, line: Line, said: str
) -> None:
    mutant = Mutant(tmp_path / "mutant", line)
    done = mutant.run("tests.recorder", str(recorded.kept), *map(str, recorded.roots))
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(said, done.stdout.splitlines()[0])
