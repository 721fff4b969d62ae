"""Whatever lies where a file of a state root belongs: is it told from a good one, and does nothing else come of it?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merlin_es import bootstrap
from merlin_es.commands import Reserve
from merlin_es.settings import Settings
from projections.files import rebuild
from projections.layout import CLUSTER
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
        self.books.append(CLUSTER, CLUSTER_STARTED.model_copy(update={"dashboard_url": "http://127.0.0.1:9"}))
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
