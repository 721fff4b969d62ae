"""Does a run arrive elsewhere whole, or not at all, whoever dies on the way and whatever the bundle holds?"""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from freezegun import freeze_time
from msgspec.structs import replace

from eventlog import BlobStore
from merlin_es import bootstrap, bundle, intake
from merlin_es.errors import Refused
from projections.events import run as r
from projections.layout import LEDGER, run_stream
from tests.conftest import Figure
from tests.custody import Archive
from tests.run_examples import artifact, requested

OUTPUT = b"what the driver wrote\n"
Members = list[tuple[str, bytes]]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "one" / "state")


@pytest.fixture
def other(tmp_path: Path) -> Archive:
    (tmp_path / "two").mkdir()
    return Archive(tmp_path / "two" / "state")


pytestmark = pytest.mark.filterwarnings("ignore:syncing is off:RuntimeWarning")


def ended(archive: Archive, run_id: str = "a") -> None:
    """Have a run end that names a captured artifact, its output, and a blob that is not there any more."""
    blobs = BlobStore(archive.root / "blobs")
    digest = blobs.put(OUTPUT)
    blobs.put(b"of another run")
    captured = replace(artifact("a.txt"), sha256=blobs.put(b"captured"), captured=True)
    lost = replace(artifact("b.txt"), sha256="f" * 64, captured=True)
    archive.ended(
        run_id,
        r.LogsCaptured(attempt=1, sha256=digest, size_bytes=len(OUTPUT)),
        r.ArtifactsIndexed(page=1, pages=1, files=(captured, lost, artifact("c.txt"))),
    )


def exported(archive: Archive, run_id: str = "a") -> bytes:
    done = archive.cli("export", run_id, "--to", "-")
    assert done.returncode == 0, done.stderr
    return done.output


def taken(archive: Archive, content: bytes) -> intake.TakenIn:
    return bootstrap.intake(archive.settings).take_in(io.BytesIO(content))


def members(content: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # all are files


def packed(parts: Members) -> bytes:
    out = io.BytesIO()
    for name, content in parts:
        bundle.write(out, name, len(content), io.BytesIO(content))
    bundle.finish(out)
    return out.getvalue()


def repacked(content: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """Give the bundle with other content, and a manifest that agrees."""
    parts = dict(members(content))
    change(parts)
    manifest = json.loads(parts[bundle.MANIFEST])
    log = parts[bundle.LOG]
    manifest["log"] = {"size": len(log), "sha256": sha256(log).hexdigest()}
    parts[bundle.MANIFEST] = json.dumps(manifest).encode()
    return packed(list(parts.items()))


def test_a_bundle_is_a_plain_tar_of_the_log_its_files_and_its_blobs(archive: Archive) -> None:
    ended(archive)
    parts = dict(members(exported(archive)))
    blobs = sorted([sha256(OUTPUT).hexdigest(), sha256(b"captured").hexdigest()])
    assert list(parts) == [
        "manifest.json",
        "events.jsonl",
        "files/run_request.json",
        "files/artifacts.json",
        "files/run_record.json",
        *(f"blobs/{digest}" for digest in blobs),
    ]
    assert parts["events.jsonl"] == archive.path("a").read_bytes()
    assert parts["files/run_record.json"] == (archive.root / "runs" / "a" / "run_record.json").read_bytes()
    manifest = json.loads(parts["manifest.json"])
    assert manifest["head"] == str(archive.log.head(run_stream("a")))
    assert manifest["missing_blobs"] == ["f" * 64]


def test_the_same_run_gives_the_same_bytes_on_any_day_archived_or_not(archive: Archive, tmp_path: Path) -> None:
    ended(archive)
    first = exported(archive)
    archive.custody.archive("a")
    archive.path("a").parent.joinpath("run_record.json").unlink()
    with freeze_time("2031-01-01"):
        assert exported(archive) == first
    assert archive.cli("export", "a", "--to", str(tmp_path / "a.tar")).returncode == 0
    assert (tmp_path / "a.tar").read_bytes() == first
    assert archive.cli("export", "a", "--to", str(tmp_path / "a.tar")).returncode == 4, "it is there already"
    assert archive.cli("export", "a", "--to", str(tmp_path / "a.tar"), "--force").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "one"]


def test_a_run_arrives_with_its_log_files_and_blobs_and_is_noted(archive: Archive, other: Archive) -> None:
    ended(archive)
    (other.root.parent / "a.tar").write_bytes(exported(archive))
    done = other.cli("import", str(other.root.parent / "a.tar"), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["head"] == str(archive.log.head(run_stream("a")))
    assert f"blob {'f' * 64} was not in the store" in done.stderr
    for name in ("events.jsonl", "run_request.json", "run_record.json", "artifacts.json"):
        assert (other.root / "runs" / "a" / name).read_bytes() == (archive.root / "runs" / "a" / name).read_bytes()
    assert BlobStore(other.root / "blobs").get(sha256(OUTPUT).hexdigest()) == OUTPUT
    assert other.states(fold=True) == {"ledger": "whole", "run/a": "whole"}
    assert [event.type for event in other.log.read(LEDGER)] == ["ledger.created", "run.head_noted"]
    assert "a" in other.cli("jobs", "list").stdout
    assert dict(members(exported(other)))["events.jsonl"] == archive.path("a").read_bytes()
    shutil.rmtree(other.root / "runs" / "a")
    assert other.states() == {"ledger": "whole", "run/a": "missing"}


def test_importing_twice_is_once_and_brings_a_lost_blob_back(archive: Archive, other: Archive) -> None:
    ended(archive)
    content = exported(archive)
    assert not taken(other, content).was_here
    blob = BlobStore(other.root / "blobs").path(sha256(OUTPUT).hexdigest())
    blob.unlink()
    other.open()
    other.custody.archive("a")
    assert taken(other, content).was_here
    assert blob.read_bytes() == OUTPUT
    assert not other.path("a").exists(), "it stays archived"


def test_another_log_under_the_same_id_is_not_written_over(archive: Archive, other: Archive) -> None:
    ended(archive)
    other.ended("a", target="venus")
    before = other.path("a").read_bytes()
    with pytest.raises(Refused, match=r"run/a is here already with another log .* stays as it is"):
        taken(other, exported(archive))
    archive.record("a", r.AnomalySeen(what="w", message="m"))
    with pytest.raises(Refused):
        taken(archive, exported(other))
    assert other.path("a").read_bytes() == before
    assert list((other.root / "incoming").iterdir()) == []


def test_only_a_run_that_has_ended_comes_in(archive: Archive, other: Archive) -> None:
    archive.record("a", requested("a"))
    with pytest.raises(Refused, match="was requested when it was exported, and would go on here too"):
        taken(other, exported(archive))
    assert not (other.root / "runs").exists()


@pytest.mark.parametrize(
    "failpoint", ["import.staged", "import.blobs", "import.before", "import.linked", "import.placed"]
)
def test_who_dies_during_an_import_has_taken_in_all_or_nothing(
    archive: Archive, other: Archive, failpoint: str
) -> None:
    ended(archive)
    path = other.root.parent / "a.tar"
    path.write_bytes(exported(archive))
    assert other.killed(failpoint, "import", str(path))
    assert other.states() in ({}, {"run/a": "whole"})
    assert other.path("a").exists() == (failpoint in ("import.linked", "import.placed"))
    assert other.cli("verify", "--all").returncode == 0
    assert ("a" in other.cli("jobs", "list").stdout.split()) == other.path("a").exists()
    assert other.cli("reconcile", "--once").returncode == 6, "there is no cluster"
    assert other.cli("import", str(path)).returncode == 0
    assert other.states(fold=True) == {"ledger": "whole", "run/a": "whole"}
    assert list((other.root / "incoming").iterdir()) == []
    assert other.cli("rebuild", "--check").returncode == 0


HOSTILE: dict[str, dict[str, object]] = {
    "a link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "../x"},
    "a device": {"type": tarfile.CHRTYPE},
    "a directory": {"type": tarfile.DIRTYPE},
    "a way out": {"name": "../../evil"},
    "a whole path": {"name": "/tmp/evil"},
    "another name": {"name": "events.jsonl.bak"},
    "a long header": {"type": tarfile.XHDTYPE, "size": 1 << 40},
    "a huge size": {"size": 1 << 50},
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("where", [0, 1, -1])
def test_a_tar_that_wants_more_than_plain_files_is_refused(
    archive: Archive, other: Archive, what: str, where: int
) -> None:
    ended(archive)
    parts = members(exported(archive))
    out = io.BytesIO()
    for name, content in parts:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        if name == parts[where][0]:
            for field, value in HOSTILE[what].items():
                setattr(info, field, value)
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.write(content + bytes(-len(content) % 512))
    bundle.finish(out)
    with pytest.raises(bundle.BadBundle):
        taken(other, out.getvalue())
    assert not (other.root / "runs").exists()
    assert not list(other.root.glob("incoming/*"))
    assert {path.name for path in other.root.parent.parent.iterdir()} == {"one", "two"}


@pytest.mark.parametrize("run_id", ["../../evil", "/etc", "", "a/b", "a" * 200])
def test_a_manifest_cannot_choose_where_a_run_is_put(archive: Archive, other: Archive, run_id: str) -> None:
    ended(archive)
    content = exported(archive)

    def rename(parts: dict[str, bytes]) -> None:
        parts["manifest.json"] = json.dumps({**json.loads(parts["manifest.json"]), "run_id": run_id}).encode()

    with pytest.raises(bundle.BadBundle, match="cannot be the id of a run"):
        taken(other, repacked(content, rename))
    assert not other.root.exists() or not list(other.root.iterdir())


def rename_to_b(parts: dict[str, bytes]) -> None:
    parts["manifest.json"] = json.dumps({**json.loads(parts["manifest.json"]), "run_id": "b"}).encode()


def edit_log(parts: dict[str, bytes]) -> None:
    parts["events.jsonl"] = parts["events.jsonl"].replace(b"ada@lab", b"eve@lab", 1)


def cut_log(parts: dict[str, bytes]) -> None:
    parts["events.jsonl"] = b"".join(parts["events.jsonl"].splitlines(keepends=True)[:-2])


def torn_log(parts: dict[str, bytes]) -> None:
    parts["events.jsonl"] += b'{"v":1,'


def name_an_escape(parts: dict[str, bytes]) -> None:
    manifest = json.loads(parts["manifest.json"])
    manifest["files"]["../evil.json"] = manifest["files"]["run_record.json"]
    parts["manifest.json"] = json.dumps(manifest).encode()


def hold_a_stranger(parts: dict[str, bytes]) -> None:
    manifest = json.loads(parts["manifest.json"])
    manifest["blobs"][sha256(b"x").hexdigest()] = 1
    parts["manifest.json"] = json.dumps(manifest).encode()
    parts[f"blobs/{sha256(b'x').hexdigest()}"] = b"x"


def spoil_a_blob(parts: dict[str, bytes]) -> None:
    parts[f"blobs/{sha256(OUTPUT).hexdigest()}"] = OUTPUT.swapcase()


def leave_a_blob_out(parts: dict[str, bytes]) -> None:
    del parts[f"blobs/{sha256(OUTPUT).hexdigest()}"]


def add_one(parts: dict[str, bytes]) -> None:
    parts["more"] = b"x"


def take_the_head(parts: dict[str, bytes]) -> None:
    manifest = json.loads(parts["manifest.json"])
    del manifest["head"]
    parts["manifest.json"] = json.dumps(manifest).encode()


def of_tomorrow(parts: dict[str, bytes]) -> None:
    parts["manifest.json"] = json.dumps({**json.loads(parts["manifest.json"]), "format": "merlin-run/9"}).encode()


CHANGES = [
    take_the_head,
    rename_to_b,
    edit_log,
    cut_log,
    torn_log,
    name_an_escape,
    hold_a_stranger,
    spoil_a_blob,
    leave_a_blob_out,
    add_one,
    of_tomorrow,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_prove_itself_does_not_come_in(
    archive: Archive, other: Archive, change: Callable[[dict[str, bytes]], None]
) -> None:
    ended(archive)
    content = exported(archive)
    assert taken(Archive(other.root.parent / "control"), repacked(content, lambda _parts: None)), "repacking is fine"
    with pytest.raises(bundle.BadBundle):
        taken(other, repacked(content, change))
    assert not (other.root / "runs").exists()
    for digest in BlobStore(other.root / "blobs").digests():
        assert BlobStore(other.root / "blobs").get(digest) != OUTPUT.swapcase()


def test_a_bundle_that_is_cut_or_spoilt_anywhere_takes_nothing_in(
    archive: Archive, other: Archive, figure: Figure
) -> None:
    ended(archive)
    content = exported(archive)
    cuts = [0, 1, 511, 512, *range(1000, len(content) - 1024, 3001)]
    for cut in cuts:
        with pytest.raises(bundle.BadBundle):
            taken(other, content[:cut])
    rng = random.Random(1)
    refused = 0
    for _ in range(80):
        at = rng.randrange(len(content) - 1024)
        spoilt = content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
        try:
            taken(Archive(other.root.parent / f"at-{at}"), spoilt)
        except Refused:
            refused += 1
            assert not (other.root.parent / f"at-{at}" / "runs").exists()
    assert refused > 40, "padding and file modes may be anything"
    figure(
        f"{len(cuts)} cuts and {refused} of 80 flipped bits were refused, the others change nothing that is taken in"
    )


def test_a_bundle_that_does_not_fit_is_refused_before_a_byte_is_written(archive: Archive, other: Archive) -> None:
    ended(archive)
    parts = dict(members(exported(archive)))
    manifest = json.loads(parts["manifest.json"])
    manifest["blobs"] = {f"{number:064x}": bundle.MEMBER_BYTES_MAX for number in range(100_000)}
    with pytest.raises(Refused, match="make room"):
        taken(other, packed([("manifest.json", json.dumps(manifest).encode())]))
    assert not other.root.exists()


def test_what_another_fold_has_written_is_compared_and_not_believed(archive: Archive, other: Archive) -> None:
    ended(archive)
    parts = dict(members(exported(archive)))
    evil = parts["files/run_record.json"].replace(b'"completed"', b'"failed"')
    manifest = json.loads(parts["manifest.json"])
    manifest["files"]["run_record.json"] = {"size": len(evil), "sha256": sha256(evil).hexdigest()}
    parts |= {"files/run_record.json": evil, "manifest.json": json.dumps(manifest).encode()}
    result = taken(other, packed(list(parts.items())))
    assert (result.other_files, result.record.status) == (("run_record.json",), "completed")
    assert b'"failed"' not in (other.root / "runs" / "a" / "run_record.json").read_bytes()


def test_events_are_given_as_cloudevents(archive: Archive) -> None:
    head = archive.ended("a")
    done = archive.cli("export", "a", "--format", "cloudevents", "--to", "-")
    events = [json.loads(line) for line in done.output.splitlines()]
    assert [event["sequence"] for event in events] == [f"{seq:020d}" for seq in range(1, head.seq + 1)]
    assert {event["specversion"] for event in events} == {"1.0"}
    assert events[-1]["chain"] == head.h


def test_doors_say_what_to_do(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(archive)
    monkeypatch.chdir(tmp_path)
    assert archive.cli("export", "nothing").returncode == 3
    assert archive.cli("export", "a", "--format", "pdf").returncode == 2
    assert archive.cli("import", str(tmp_path / "nothing.tar")).returncode == 3
    (tmp_path / "x.tar").write_bytes(b"no tar")
    done = archive.cli("import", str(tmp_path / "x.tar"))
    assert (done.returncode, "copy it again" in done.stderr) == (4, True)
    done = archive.cli("export", "a", "-o", "json")
    assert json.loads(done.stdout)["path"] == str(tmp_path / "a.tar")
    assert (tmp_path / "a.tar").exists()
    assert "is not in the store as its name says" in done.stderr
