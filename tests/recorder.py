"""What did the live system publish, and does a replay of its logs come to the same at each of these points?

Every state file gets its name by one call, the rename of the disk port, while nobody else publishes: there a recorder
keeps it, as a second name for the same bytes. `hook` has each Python that is started below do so, so what is recorded
is what the shipped program did in all its processes, and `prove` compares it with what the logs come to.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import eventlog
from eventlog import FileLog, Head, UnsyncedDisk
from merlin_es.past import Past
from projections.execution_files import execution_folds
from projections.layout import (
    ARTIFACTS,
    BOOTSTRAP,
    CATALOG,
    EXECUTION_BUNDLE,
    EXECUTION_DIRECTORIES,
    EXECUTION_STATE,
    RESOURCES,
    RUN_RECORD,
    RUN_REQUEST,
    StateLayout,
    TargetLayout,
)
from projections.patch import diff
from projections.snapshots import Snapshots

BESIDE: Final = {
    RUN_RECORD: (RUN_REQUEST, ARTIFACTS, RUN_RECORD),
    BOOTSTRAP: (BOOTSTRAP,),
    EXECUTION_STATE: (EXECUTION_BUNDLE, EXECUTION_STATE),
}
"""The file that is written last of its stream, and those beside it of which it says what they were folded from."""
VIEWS: Final = 4
"""How many events lie between two snapshots here: views of short logs begin at one, too."""


class RecordingDisk(UnsyncedDisk):
    """A disk that keeps each version of each state file under `kept`."""

    kept: Path

    def rename(self, source: Path, target: Path) -> None:
        """Put a file in its place, then keep it, and with a stamped file all that lie beside it then."""
        super().rename(source, target)
        if target.name in BESIDE:
            self._keep(target.parent, target, _of_the_same(target))
        elif target.name == CATALOG or target.parent.name == "leases":
            base = target.parent if target.name == CATALOG else target.parent.parent
            self._keep(base, target, [target])

    def _keep(self, base: Path, stamped: Path, files: Iterable[Path]) -> None:
        stamp = json.loads(stamped.read_bytes())["as_of"]
        place = place_of(self.kept, base) / f"{stamp['seq']}:{stamp['h']}"
        for file in files:
            name = place / file.relative_to(base)
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, name)
            except FileExistsError:
                if name.read_bytes() != file.read_bytes():  # It said two things of one point: neither is lost.
                    os.link(file, name.with_name(f"{name.name}.{os.getpid()}.{os.urandom(4).hex()}"))


def _of_the_same(stamped: Path) -> Iterator[Path]:
    directory = stamped.parent
    yield from (path for name in BESIDE[stamped.name] if (path := directory / name).exists())
    if stamped.name == EXECUTION_STATE:
        for name in EXECUTION_DIRECTORIES:
            yield from (directory / name).glob("*.json")


def record(kept: Path) -> type[UnsyncedDisk]:
    """Give the disk that records there."""
    return type("RecordingDisk", (RecordingDisk,), {"kept": kept})


@contextmanager
def recording(kept: Path) -> Iterator[None]:
    """Record what this process publishes meanwhile."""
    plain, eventlog.UnsyncedDisk = eventlog.UnsyncedDisk, record(kept)  # type: ignore[misc]  # as the hook does
    try:
        yield
    finally:
        eventlog.UnsyncedDisk = plain  # type: ignore[misc]  # likewise


def hook(directory: Path, kept: Path) -> Path:
    """Make a directory that, on PYTHONPATH, has every Python record: Python itself imports this module at its start."""
    directory.mkdir(parents=True)
    lines = ["import eventlog", "from pathlib import Path", "from tests.recorder import record"]
    lines.append(f"eventlog.UnsyncedDisk = record(Path({str(kept)!r}))")
    (directory / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return directory


def place_of(kept: Path, base: Path) -> Path:
    """Give where the versions are of the files of the log in `base`."""
    return kept / quote(str(base), safe="")


def seq_of(path: Path) -> int:
    """Give the number of the event that a version was folded up to."""
    return next(int(part.partition(":")[0]) for part in reversed(path.parts) if ":" in part)


def newest(kept: Path) -> dict[Path, bytes]:
    """Give each file that was published, with its last content."""
    found: dict[Path, bytes] = {}
    for place in kept.iterdir():
        for path in sorted((path for path in place.rglob("*") if path.is_file()), key=seq_of):
            version = next(each for each in path.parents if each.parent == place)
            found[Path(unquote(place.name)) / path.relative_to(version)] = path.read_bytes()
    return found


@dataclass
class Proof:
    """What was compared: of how many streams and events how many points (`prefixes`) with how many `files`.

    `differences` name a point, a file and what is wrong with it.
    """

    streams: int = 0
    events: int = 0
    prefixes: int = 0
    files: int = 0
    differences: list[str] = field(default_factory=list)

    def compare(self, point: str, kept: Mapping[str, bytes], folded: Mapping[str, bytes]) -> None:
        """Compare what was published at a point with what the log comes to there."""
        self.prefixes += 1
        for name, content in kept.items():
            self.files += 1
            if name not in folded:
                self.differences.append(f"{point}: {name} was published, and the fold has no such file")
            elif content != folded[name]:
                self.differences.append(f"{point}: {name} is not what was published{_where(content, folded[name])}")


def prove(kept: Path, *roots: Path) -> Proof:
    """Compare all that was kept with what the logs of these state roots, and of target directories, come to."""
    proof = Proof()
    with tempfile.TemporaryDirectory() as snapshots:  # None that another fold, changed by a line, has left.
        for place in sorted(kept.iterdir()):
            _prove_stream(proof, *_open(Path(unquote(place.name)), roots, Path(snapshots)), place)
    return proof


def _prove_stream(proof: Proof, base: Path, past: Past, stream: str, place: Path) -> None:
    versions = {_head(each.name): _content(each) for each in place.iterdir()}
    heads = set()
    proof.streams += 1
    projection = past.folds.projection_of(stream)
    prefix = f"{base.relative_to(past.root)}/" if base != past.root else ""
    for _, event, stand in past.snapshots.steps(stream):
        proof.events += 1
        heads.add(stand.head)
        if stand.head in versions:
            files = _under(prefix, projection.files(stream, *stand))
            proof.compare(f"{stream}#{event.seq} {event.type}", versions[stand.head], files)
    for head in sorted(heads & set(versions), reverse=True):  # Each view by itself, as a person asks for it.
        stand = past.at(stream, head.seq)
        if _is_other(stream, versions[head], _under(prefix, past.folds.all_files(stream, *stand))):
            proof.differences.append(f"{stream}#{head.seq}: the view of it is not what was published")
    proof.differences += [f"{stream} has no event {head}, which was published" for head in set(versions) - heads]


def _open(base: Path, roots: Sequence[Path], top: Path) -> tuple[Path, Past, str]:
    """Give the past of the stream whose log lies in `base`, and its name."""
    for root in roots:
        if base.is_relative_to(root):
            log = FileLog(StateLayout(root))
            stream = next(each for each in log.streams() if log.path(each).parent == base)
            return (
                base,
                Past(log, root, lambda: datetime.now(UTC), Snapshots(log, top / place_of(top, root).name, every=VIEWS)),
                stream,
            )
    layout = TargetLayout(base)
    log, found = FileLog(layout), layout.stream()
    assert found is not None
    folds = execution_folds(lambda digest: json.loads((eventlog.BlobStore(base / "blobs")).get(digest)))
    snapshots = Snapshots(log, top, every=VIEWS, projections=folds.projection_of)
    return base, Past(log, base, lambda: datetime.now(UTC), snapshots, folds), found


def _is_other(stream: str, kept: Mapping[str, bytes], view: Mapping[str, bytes]) -> bool:
    """Tell whether a view says something else; that of leases has those that go on, stamped with its own head."""
    names = [name for name in kept if name == CATALOG] if stream == RESOURCES else list(kept)
    return any(view.get(name) != kept[name] for name in names)


def _under(prefix: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(prefix): content for name, content in files.items()}


def _content(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def _head(name: str) -> Head:
    seq, _, h = name.partition(":")
    return Head(int(seq), h)


def _where(published: bytes, folded: bytes) -> str:
    return "".join(f", at {each.path}" for each in diff(json.loads(published), json.loads(folded))[:1])


def main(words: list[str]) -> int:
    """Prove a recording in a process of its own: `python -m tests.recorder KEPT ROOT…`."""
    warnings.simplefilter("ignore")
    proof = prove(*map(Path, words))
    sys.stdout.write("".join(f"{difference}\n" for difference in proof.differences))
    return 1 if proof.differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
