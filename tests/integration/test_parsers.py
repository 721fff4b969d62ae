"""Whatever lies where a file belongs that we read: is it told from a good one, and does nothing else come of it?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from eventlog import EventLogError, Head
from merlin_es import bootstrap, lease_variables, moments
from merlin_es.commands import Reserve
from merlin_es.errors import MerlinError
from merlin_es.settings import Settings, load
from merlin_es.targetgen.responses import ResponseFiles
from merlin_es.vault import Vault
from merlin_es.witness import WitnessFiles
from projections.layout import CLUSTER
from projections.rebuilding import rebuild
from tests.run_examples import CLUSTER_STARTED, RUN, Books, completed, indexed, intended, requested, started, submitted
from tests.words import Typed, typed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MONSTERS = {
    "empty": b"",
    "zeros": b"\0" * 4096,
    "binary": bytes(range(256)) * 32,
    "deep": b"[" * 200_000,
    "deep and whole": b'{"as_of":' * 50_000 + b"1" + b"}" * 50_000,
    "large": b'{"status":"' + b"x" * 8_000_000 + b'"}',
    "digits": b'{"as_of":{"seq":' + b"9" * 6000 + b"}}",
    "surrogate": b'{"status":"\\ud800","run_id":"\\ud800"}',
    "infinite": b'{"exit_code":Infinity}',
    "list": b"[]",
}
FILES = (
    f"runs/{RUN}/run_record.json",
    f"runs/{RUN}/run_request.json",
    f"runs/{RUN}/artifacts.json",
    "cluster/bootstrap.json",
    "resources/catalog.json",
    "resources/leases/lease-*.json",
    "resources/checkpoint.*",
    "resources/sightings.json",
    "index.sqlite",
)
LOOKS = (
    ("jobs", "status", "--cached", RUN),
    ("jobs", "status", "--cached", "-o", "json", RUN),
    ("jobs", "list"),
    ("artifacts", "list", RUN),
    ("resources", "list", "--all"),
    ("doctor", "-o", "json"),
    ("rebuild", "--check"),
)


class Root:
    """A state root with everything in it, and what it says while nobody has touched it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "state"
        self.settings = Settings(self.root, top, "ada@lab", sync=False)
        self.books = Books(self.root)
        self.books.change(RUN, requested(), intended(), submitted(), started(), indexed("a.txt"), completed())
        self.books.append(CLUSTER, replace(CLUSTER_STARTED, dashboard_url="http://127.0.0.1:9"))
        self.books.publisher.publish(CLUSTER)
        bootstrap.leases(self.settings).reserve(Reserve("claim-0000000001", "ada", "", ("board",)))
        self.good = self.said()

    def said(self) -> list[str]:
        """Give what the verbs print that only look; whether it came from a file is not a part of that."""
        said = [self.type(*words).stdout for words in LOOKS[:5]]
        said[1] = json.dumps({**json.loads(said[1]), "as_of": None})
        return said

    def type(self, *words: str) -> Typed:
        done = typed("ray", "--state-root", str(self.root), *words, cwd=self.top)
        assert done.returncode in (0, 4, 6, 7), (words, done)
        return done

    def spoil(self, names: Iterable[str], content: bytes) -> None:
        for name in names:
            for path in self.root.glob(name):
                path.write_bytes(content)

    def mend(self) -> None:
        list(rebuild(self.books.log, self.root))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return Root(tmp_path_factory.mktemp("parsers"))


@pytest.mark.parametrize("kind", MONSTERS)
def test_files_that_are_none_are_seen_through_by_every_verb_that_looks(root: Root, kind: str) -> None:
    root.mend()
    root.spoil(FILES, MONSTERS[kind])
    assert root.said() == root.good
    for words in LOOKS[5:]:
        root.type(*words)


@pytest.mark.parametrize("name", FILES)
def test_one_file_that_is_none_is_seen_through_beside_good_ones(root: Root, name: str) -> None:
    root.mend()
    root.spoil([name], MONSTERS["deep and whole"])
    assert root.said() == root.good


@given(
    name=st.sampled_from(["run_record.json", "artifacts.json"]),
    changes=st.dictionaries(st.sampled_from(["status", "run_id", "message", "artifacts", "updated_at", "x"]), JSON),
    drop=st.sampled_from(["status", "target", "artifacts", "as_of", "message", "seq"]),
    replaced=JSON,
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_with_a_good_stamp_and_any_other_content_stops_no_verb(
    root: Root, name: str, changes: dict[str, object], drop: str, replaced: object
) -> None:
    root.mend()
    path = root.root / "runs" / RUN / name
    content = json.loads(path.read_bytes())
    if isinstance(content, dict):
        content.pop(drop, None)
        path.write_text(json.dumps({**content, **changes}))
    else:
        path.write_text(json.dumps(replaced))
    for words in LOOKS:
        root.type(*words)


class Desk:
    """A workspace with one of every file that people, agents, other tools or a crash may put before us."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "pyproject.toml").touch()
        books = Books(top / "state")
        books.change(RUN, requested(), intended(), submitted(), started(), completed())
        for words in (("orchestrate", "--example", "nvidia_ada"), ("execute", "--from-dir", str(self.plan))):
            assert typed("targetgen", *words, cwd=top).returncode in (0, 17)
        self.kept = {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}

    @property
    def plan(self) -> Path:
        """The directory of an execution."""
        return self.top / "build/generated/targetgen/nvidia_ada"

    def lay(self, name: str, content: bytes) -> Path:
        path = self.top / name.replace("PLAN", str(self.plan.relative_to(self.top)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def mend(self) -> None:
        """Have everything as it was."""
        for path in self.top.rglob("*"):
            if path.is_file() and path not in self.kept:
                path.unlink()
        for path, content in self.kept.items():
            path.write_bytes(content)

    def type(self, words: str) -> int:
        words = words.replace("PLAN", str(self.plan)).replace("RUN", RUN)
        return typed(*words.split(), cwd=self.top, env={"MERLIN_STATE_ROOT": str(self.top / "state")}).returncode


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


READERS = {
    "a spec": ("spec.yaml", "targetgen validate spec.yaml", {2}),
    "an overlay": ("o.yaml", "targetgen plan --example nvidia_ada --overlay o.yaml", {0, 2}),
    "a file of the workspace": ("pyproject.toml", "settings", {0, 2}),
    "what is asked of that": (
        "pyproject.toml",
        "ray jobs submit --target t --workflow w --target-dir o -- true",
        {2, 5},
    ),
    "a bundle": ("bundle.tar", "ray import bundle.tar", {2, 4, 7}),
    "a record of the old tool": ("old/runs/r1/run_record.json", "ray import old", {0, 4}),
    "a log": (f"state/runs/{RUN}/events.jsonl", "ray jobs status RUN", {0, 3, 7}),
    "a log to verify": (f"state/runs/{RUN}/events.jsonl", "ray verify RUN", {0, 3, 7}),
    "a packed log": (f"state/runs/{RUN}2/events.jsonl.zst", "ray verify RUN2", {0, 3, 7}),
    "a state of an execution": ("PLAN/execution_state.json", "targetgen status --target-dir PLAN", {0}),
    "a question": (
        "PLAN/operator_requests/implement_runtime_hal-device.json",
        "targetgen status --target-dir PLAN",
        {0},
    ),
    "a plan that was prepared": ("PLAN/execution_bundle.json", "targetgen execute --from-dir PLAN", {17}),
    "a log of an execution": ("PLAN/events.jsonl", "targetgen status --target-dir PLAN", {1, 2, 3, 7}),
    "a note of a wrapper": (f"state/runs/{RUN}/witness/a1.ended.json", "ray reconcile --once", {0, 6, 7}),
    "a secret": (f"state/secrets/{RUN}.json", "ray doctor", {0, 4, 7}),
    "a secret of a fork": (f"state/secrets/{RUN}.json", "ray fork RUN", {0, 5, 7}),
    "a snapshot": (f"state/snapshots/run/{RUN}/3.json", "ray state RUN --at 4", {0}),
}
"""What is read: where it lies, who reads it, and how that may end."""


@pytest.mark.parametrize("what", READERS)
def test_what_people_tools_and_crashes_leave_is_read_or_refused(desk: Desk, what: str) -> None:
    name, words, codes = READERS[what]
    for kind, content in MONSTERS.items():
        desk.lay(name, content)
        code = desk.type(words)
        assert code in codes, (kind, code)
        desk.mend()


@pytest.mark.parametrize("kind", MONSTERS)
def test_a_response_that_is_none_is_refused_or_is_prose(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "response.md"
    path.write_bytes(MONSTERS[kind])
    reading = ResponseFiles().read(path, ("docs/",))
    assert reading.changes == ()


@given(content=st.binary(max_size=300), text=st.text(max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_words_of_ours(tmp_path: Path, content: bytes, text: str) -> None:
    files = WitnessFiles(tmp_path / "runs")
    (directory := files.directory(RUN)).mkdir(parents=True, exist_ok=True)
    (directory / "a1.ended.json").write_bytes(content)
    vault = Vault(tmp_path)
    (tmp_path / "secrets").mkdir(exist_ok=True)
    vault.path(RUN).write_bytes(content)
    (tmp_path / "response.md").write_bytes(content)
    (tmp_path / "pyproject.toml").write_bytes(content)
    ResponseFiles().read(tmp_path / "response.md", ("docs/",))
    leases = {"MERLIN_LEASE_ID": text, "MERLIN_LEASE_FENCE": text[::-1], "MERLIN_LEASE_KEY": text}
    readers: tuple[Callable[[], object], ...] = (
        lambda: files.read(RUN, 1),
        lambda: vault.get(RUN),
        lambda: load(None, {}, tmp_path),
        lambda: lease_variables.read(leases),
        lambda: moments.parse(text, datetime(2026, 11, 23, tzinfo=UTC)),
        lambda: Head.parse(text),
    )
    for read in readers:
        with suppress(MerlinError, EventLogError):
            read()


@pytest.mark.parametrize("fence", ["9" * 6000, "-1", "٣", "1e3", " 7", ""])
def test_a_fence_in_the_environment_that_is_none_tells_of_no_lease(fence: str) -> None:
    told = {"MERLIN_LEASE_ID": "lease-1", "MERLIN_LEASE_KEY": "k", "MERLIN_LEASE_FENCE": fence}
    assert lease_variables.read(told) == ()
