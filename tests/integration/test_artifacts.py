"""Is what a run left indexed and kept as it was, whatever lies in its directory and whoever writes there?"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from eventlog import BlobStore, FileLog
from eventlog.frame import APPEND_BYTES_MAX, LINE_BYTES_MAX
from merlin_es.artifacts import INDEX_BYTES_MAX, LIMITS, OMITTED_MAX, PAGE_FILES_MAX, Index, index, pages
from merlin_es.errors import NotFound, Usage
from merlin_es.fetch import fetch
from merlin_es.tree import DEPTH_MAX, Tree, Unfit, time_of
from projections.events.run import ArtifactSeen, ArtifactsIndexed
from tests.conftest import Figure
from tests.disks import FailingDisk
from tests.examples import descriptors_under, unsynced

MIB = 1024 * 1024
NOBODY = 65534


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", disk=unsynced())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names(found: Index) -> list[str]:
    return [file.name for file in found.files]


def seen(name: str, content: bytes = b"x", *, captured: bool = False) -> ArtifactSeen:
    return ArtifactSeen(
        name=name,
        kind="file",
        size_bytes=len(content),
        sha256=sha256(content),
        modified_at="2026-03-25T13:00:00.000000Z",
        captured=captured,
    )


# The index.


def test_each_file_is_indexed_with_its_name_kind_size_digest_and_time(top: Path, blobs: BlobStore) -> None:
    content = os.urandom(3 * MIB + 1)
    (top / "sub").mkdir()
    (top / "sub" / "model.MLIR").write_bytes(content)
    (top / "plan.json").write_bytes(b"{}")
    (top / "empty").touch()
    os.utime(top / "plan.json", ns=(0, 1_774_443_600_123_456_789))
    assert index(top, [], blobs).omitted == ()
    empty, plan, model = index(top, [], blobs).files
    assert (empty.name, empty.kind, empty.size_bytes, empty.sha256) == ("empty", "file", 0, sha256(b""))
    assert plan == ArtifactSeen(
        name="plan.json",
        kind="json",
        size_bytes=2,
        sha256=sha256(b"{}"),
        modified_at="2026-03-25T13:00:00.123456Z",
        captured=False,
    )
    assert (model.name, model.kind, model.sha256) == ("sub/model.MLIR", "mlir", sha256(content))
    assert list(blobs.digests()) == []


def test_the_kind_is_told_by_the_last_suffix_and_what_is_unknown_is_a_file(top: Path, blobs: BlobStore) -> None:
    kinds = {
        "a.json": "json",
        "b.yml": "yaml",
        "c.md": "markdown",
        "d.txt": "text",
        "e.log": "log",
        "f.py": "python",
        "g.h": "c",
        "h.cpp": "cpp",
        "i.mlir": "mlir",
        "j.so": "binary",
        "k.tar.gz": "archive",
        "l.JSON": "json",
        "m": "file",
        "n.td": "file",
        ".json": "file",
    }
    for name in kinds:
        (top / name).touch()
    assert {file.name: file.kind for file in index(top, [], blobs).files} == kinds


def test_the_order_is_by_name_however_the_directory_gives_them(top: Path, blobs: BlobStore) -> None:
    for name in ["b", "a-", "a/x", "a/b/y", "a.", "Z", "é"]:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    assert names(index(top, [], blobs)) == ["Z", "a-", "a.", "a/b/y", "a/x", "b", "é"]
    assert index(top, [], blobs) == index(top, [], blobs)


def test_what_matches_a_capture_is_kept_under_the_digest_that_the_index_says(top: Path, blobs: BlobStore) -> None:
    (top / "logs" / "deep").mkdir(parents=True)
    for name in ["a.json", "logs/deep/a.json", "logs/x", "b.c"]:
        (top / name).write_bytes(name.encode())
    found = index(top, ["*.json", "logs/**", "*.nothing"], blobs)
    assert {file.name: file.captured for file in found.files} == {
        "a.json": True,
        "b.c": False,
        "logs/deep/a.json": True,
        "logs/x": True,
    }
    for file in found.files:
        if file.captured:
            assert blobs.get(file.sha256) == file.name.encode()
    assert len(list(blobs.digests())) == 3
    assert found.omitted == ("*.nothing: no file matches it, so nothing was captured for it",)


@pytest.mark.parametrize("glob", ["/etc/*", "../*", "a/../../b"])
def test_a_capture_that_leads_out_is_refused(top: Path, blobs: BlobStore, glob: str) -> None:
    with pytest.raises(Usage, match="relative to the target directory"):
        index(top, [glob], blobs)


def test_links_that_stay_are_files_and_all_others_are_omitted_with_a_reason(top: Path, blobs: BlobStore) -> None:
    (top / "sub").mkdir()
    (top / "sub" / "real").write_bytes(b"real")
    (top.parent / "secret").write_bytes(b"secret")
    for name, target in {
        "a-stays": "sub/real",
        "b-stays-absolutely": str(top / "sub" / "real"),
        "c-stays-through-a-link": "sub-link/../sub/real",
        "d-out": "../secret",
        "e-out-absolutely": str(top.parent / "secret"),
        "f-out-and-back": f"../{top.name}/sub/real",
        "g-dangles": "nowhere",
        "h-loops": "h-loops",
        "i-loops": "j-loops",
        "j-loops": "i-loops",
        "sub-link": "sub",
        "l-to-top": ".",
        "m-through-a-file": "sub/real/x",
        "n-out-by-a-sibling": str(top) + "-sibling/x",
    }.items():
        (top / name).symlink_to(target)
    (top.parent / f"{top.name}-sibling").mkdir()
    (top.parent / f"{top.name}-sibling" / "x").touch()
    found = index(top, ["**"], blobs)
    assert names(found) == ["a-stays", "b-stays-absolutely", "c-stays-through-a-link", "sub/real"]
    assert {file.sha256 for file in found.files} == {sha256(b"real")}
    assert found.omitted == (
        "d-out: it is a link that leads out of the directory",
        "e-out-absolutely: it is a link that leads out of the directory",
        "f-out-and-back: it is a link that leads out of the directory",
        "g-dangles: it is a link that leads to nothing",
        "h-loops: it is a link that loops",
        "i-loops: it is a link that loops",
        "j-loops: it is a link that loops",
        "l-to-top: it leads to a directory",
        "m-through-a-file: it leads through what is not a directory",
        "n-out-by-a-sibling: it is a link that leads out of the directory",
        "sub-link: it leads to a directory",
    )
    assert list(blobs.digests()) == [sha256(b"real")]


def test_sockets_fifos_and_devices_are_omitted_and_never_opened(top: Path, blobs: BlobStore) -> None:
    os.mkfifo(top / "fifo")
    (top / "fifo-link").symlink_to("fifo")
    (top / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(top / "socket"))
        found = index(top, ["**"], blobs)
    assert found.files == ()
    assert found.omitted == (
        "fifo: it is a FIFO",
        "socket: it is a socket",
        "fifo-link: it is a FIFO",
        "null: it is a link that leads out of the directory",
    )


def test_a_fifo_that_takes_the_place_of_a_file_does_not_hang_the_reader(top: Path) -> None:
    (top / "file").touch()
    stat_before = os.stat

    def swapping(path: bytes, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        status = stat_before(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        (top / "file").unlink()
        os.mkfifo(top / "file")
        return status

    with pytest.MonkeyPatch.context() as patch, Tree(top) as tree:
        patch.setattr(os, "stat", swapping)
        with pytest.raises(Unfit, match="not a regular file any more"), tree.open("file"):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_omitted(top: Path, blobs: BlobStore) -> None:
    try:
        os.mknod(top / "zero", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this container makes no devices")
    assert index(top, [], blobs) == Index((), ("zero: it is a device",))


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Give a directory, and be somebody whom permissions hold back."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def test_what_may_not_be_read_is_omitted_and_the_rest_is_indexed(blobs: BlobStore) -> None:
    with unprivileged() as top:
        for name in ["closed/inside", "listed/inside", "open/inside", "file"]:
            (top / name).parent.mkdir(exist_ok=True)
            (top / name).touch()
        (top / "closed").chmod(0)
        (top / "listed").chmod(0o444)
        (top / "file").chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            found = index(top, [], blobs)
        finally:
            if is_root:
                os.seteuid(0)
            for name in ["closed", "listed"]:
                (top / name).chmod(0o755)
    assert names(found) == ["open/inside"]
    assert found.omitted == (
        "closed: it cannot be read (Permission denied)",
        "listed/inside: it cannot be read (Permission denied)",
        "file: it cannot be read (Permission denied)",
    )


def test_names_are_taken_as_they_are_and_those_that_are_not_utf8_are_omitted(top: Path, blobs: BlobStore) -> None:
    good = ["-rf", "new\nline", "tab\tand \x01", "sp ace", "日本", "e\u0301", "\U0001f600", 'quo"te\\', "a" * 255]
    for name in good:
        (top / name).write_bytes(name.encode())
    Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9.txt")).touch()
    bad = os.fsencode(top) + b"/dir\xff\n"
    Path(os.fsdecode(bad)).mkdir()
    Path(os.fsdecode(bad + b"/file")).touch()
    found = index(top, ["**"], blobs)
    assert names(found) == sorted(good)
    assert [file.sha256 for file in found.files] == [sha256(name.encode()) for name in sorted(good)]
    assert found.omitted == (r"caf\xe9.txt: its name is not UTF-8", r"dir\xff\n: its name is not UTF-8")
    [page] = pages(found)
    assert msgspec.json.decode(msgspec.json.encode(page), type=ArtifactsIndexed) == page


def test_of_five_thousand_files_two_thousand_are_listed_and_those_to_capture_are_among_them(
    top: Path, blobs: BlobStore, figure: Figure
) -> None:
    for number in range(5_000):
        (top / f"{number:04}").touch()
    (top / "z.json").write_bytes(b"{}")
    began = time.monotonic()
    found = index(top, ["*.json"], blobs)
    figure(f"5,001 files in {time.monotonic() - began:.2f} s")
    assert names(found) == [*(f"{number:04}" for number in range(1_999)), "z.json"]
    assert found.files[-1].captured
    assert found.omitted == ("3001 more files: the limit of 2000 files is reached",)


def test_a_walk_ends_at_its_limit_of_names_and_says_so(top: Path, blobs: BlobStore) -> None:
    for number in range(50):
        (top / f"{number:02}").mkdir()
        (top / f"{number:02}" / "file").touch()
    found = index(top, [], blobs, limits=replace(LIMITS, entries=60))
    assert names(found) == [f"{number:02}/file" for number in range(10)]
    assert found.omitted == ("the directory was not looked at to its end: there are more than 60 names",)


def test_what_lies_too_deep_is_omitted_also_through_a_link(top: Path, blobs: BlobStore) -> None:
    deepest = top.joinpath(*["d"] * DEPTH_MAX)
    (deepest / "d").mkdir(parents=True)
    (deepest / "fits").touch()
    (deepest / "d" / "does-not").touch()
    (top / "link").symlink_to("d/" * (DEPTH_MAX + 1) + "does-not")
    found = index(top, [], blobs)
    assert names(found) == ["d/" * DEPTH_MAX + "fits"]
    why = f"it lies deeper than {DEPTH_MAX} directories"
    assert found.omitted == ("d/" * DEPTH_MAX + f"d: {why}", f"link: {why}")


def test_beyond_the_bytes_that_may_be_read_files_have_no_digest(top: Path, blobs: BlobStore) -> None:
    for name in "abc":
        (top / name).write_bytes(name.encode() * MIB)
    found = index(top, ["c"], blobs, limits=replace(LIMITS, read_bytes=2 * MIB))
    assert [(file.size_bytes, file.sha256) for file in found.files] == [
        (MIB, sha256(b"a" * MIB)),
        (MIB, ""),
        (MIB, sha256(b"c" * MIB)),
    ]
    assert found.omitted == ("b: it has no digest: more than 2.0 MiB would be read in all",)


def test_a_file_that_is_larger_than_all_disks_costs_nothing(top: Path, blobs: BlobStore) -> None:
    with (top / "sparse").open("wb") as file:
        file.truncate(2**40)
    found = index(top, ["*"], blobs)
    assert (found.files[0].size_bytes, found.files[0].sha256, found.files[0].captured) == (2**40, "", False)
    assert len(found.omitted) == 2


def test_captures_have_a_limit_per_file_and_for_all(top: Path, blobs: BlobStore) -> None:
    for name, size in {"a": 3, "b": 5, "c": 4, "d": 2}.items():
        (top / name).write_bytes(name.encode() * size * MIB)
    found = index(top, ["*"], blobs, limits=replace(LIMITS, captured_file_bytes=4 * MIB, captured_bytes=6 * MIB))
    assert [file.captured for file in found.files] == [True, False, False, True]
    assert [file.sha256 for file in found.files] == [
        sha256(file.name.encode() * file.size_bytes) for file in found.files
    ], "what is not captured has a digest all the same"
    assert found.omitted == (
        "b: it is not captured: 5.0 MiB is more than the 4.0 MiB that a file can have",
        "c: it is not captured: 4.0 MiB is more than the 3.0 MiB that are left for all",
    )
    assert sorted(blobs.digests()) == sorted(file.sha256 for file in found.files if file.captured)


class Ticking:
    """A clock that goes on by a second each time that it is looked at."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def __call__(self) -> float:
        return float(next(self._ticks))


@pytest.mark.parametrize("duration_s", range(0, 40, 3))
def test_the_index_ends_in_time_wherever_it_is_and_says_what_is_missing(
    top: Path, blobs: BlobStore, duration_s: int
) -> None:
    for name in "abcdef":
        (top / name).write_bytes(name.encode())
    found = index(top, ["b"], blobs, limits=replace(LIMITS, duration_s=duration_s), clock=Ticking())
    assert all(file.sha256 in {"", sha256(file.name.encode())} for file in found.files)
    complete = len(found.files) == 6 and all(file.sha256 for file in found.files)
    assert complete == (found.omitted == ()), found
    assert complete == (duration_s >= 24), "the clock is looked at once per name, file and chunk"


def test_a_file_that_takes_too_long_to_read_has_no_digest_and_is_not_captured(top: Path, blobs: BlobStore) -> None:
    (top / "a").write_bytes(b"a" * 30 * MIB)
    for captures in [[], ["*"]]:
        found = index(top, captures, blobs, limits=replace(LIMITS, duration_s=20), clock=Ticking())
        assert [(file.size_bytes, file.sha256, file.captured) for file in found.files] == [(30 * MIB, "", False)]
        assert found.omitted == ("a: it has no digest: reading all took more than 20 s",)
    assert list(blobs.digests()) == []


def test_a_directory_that_is_not_there_or_is_a_file_is_an_empty_index_that_says_so(top: Path, blobs: BlobStore) -> None:
    (top / "file").touch()
    for place, why in [(top / "missing", "No such file or directory"), (top / "file", "Not a directory")]:
        assert index(place, ["*"], blobs) == Index((), (f"{place}: the directory cannot be read ({why})",))
    assert [page.omitted for page in pages(index(top / "missing", [], blobs))] == [
        (f"{top / 'missing'}: the directory cannot be read (No such file or directory)",)
    ]


def test_the_state_root_inside_is_skipped_whatever_it_is_called_by(top: Path, blobs: BlobStore) -> None:
    state_root = top / "build" / "ray"
    state_root.mkdir(parents=True)
    (state_root / "events.jsonl").touch()
    (top / "build" / "out").touch()
    (top / "link").symlink_to("build/ray/events.jsonl")
    (top.parent / "alias").symlink_to(state_root)
    for excluded in [state_root, top.parent / "alias", top / "build" / ".." / "build" / "ray"]:
        found = index(top, [], blobs, excluded=[excluded, top / "missing"])
        assert names(found) == ["build/out"]
        assert found.omitted == ("link: it leads to what is excluded",)
    assert index(top, [], blobs, excluded=[top]).files == ()
    assert index(top, [], blobs, excluded=[top]).omitted


def test_a_top_that_is_a_link_is_looked_into(top: Path, blobs: BlobStore) -> None:
    (top / "file").touch()
    (top / "inside").symlink_to(top / "file")
    (top.parent / "link").symlink_to(top)
    assert names(index(top.parent / "link", [], blobs)) == ["file", "inside"]


class WritingDisk(FailingDisk):
    """A disk that changes a file of the run while it is stored, as often as `times` says."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__()
        self._path = path
        self._left = times

    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_EXCL and self._left:
            self._left -= 1
            with self._path.open("ab") as file:
                file.write(b"more")
        return super().open(path, flags)


@pytest.mark.parametrize("times", [1, 2, 3, 1000])
def test_a_file_that_changes_while_it_is_captured_is_read_again_and_its_digest_is_that_of_what_is_kept(
    top: Path, tmp_path: Path, times: int
) -> None:
    (top / "file").write_bytes(b"x" * MIB)
    blobs = BlobStore(tmp_path / "blobs", disk=WritingDisk(top / "file", times))
    found = index(top, ["*"], blobs)
    [file] = found.files
    assert file.captured
    assert blobs.verify(file.sha256) == file.size_bytes
    assert list(blobs.digests()) == [file.sha256], "what was given up is not left behind"
    said = "file: it was written to each of the 3 times that it was read"
    assert found.omitted == ((said,) if times >= 3 else ())


def test_a_file_that_grows_over_the_limit_while_it_is_captured_is_not_captured(top: Path, tmp_path: Path) -> None:
    (top / "file").write_bytes(b"x" * MIB)
    blobs = BlobStore(tmp_path / "blobs", disk=WritingDisk(top / "file", 1))
    found = index(top, ["*"], blobs, limits=replace(LIMITS, captured_file_bytes=MIB))
    [file] = found.files
    assert (file.captured, file.size_bytes) == (False, MIB + 4)
    assert file.sha256 == sha256(b"x" * MIB + b"more")
    assert list(blobs.digests()) == []
    assert "more than the 1.0 MiB that a file can have" in found.omitted[0]


def test_a_blob_store_that_refuses_costs_the_capture_and_not_the_index(top: Path, tmp_path: Path) -> None:
    (top / "file").write_bytes(b"content")
    disk = FailingDisk()
    disk.failures = [("write", 28)]
    found = index(top, ["*"], BlobStore(tmp_path / "blobs", disk=disk))
    [file] = found.files
    assert (file.captured, file.sha256) == (False, sha256(b"content"))
    assert "file: it is not captured" in found.omitted[0]
    assert "No space left on device" in found.omitted[0]


def test_whoever_deletes_and_rewrites_during_the_walk_breaks_nothing(
    top: Path, blobs: BlobStore, tmp_path: Path, figure: Figure
) -> None:
    """A thread makes files, directories, links out and FIFOs of the same names, as fast as it can."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    for number in range(20):
        (top / f"steady-{number}").write_bytes(b"steady")
    done = threading.Event()
    turns = itertools.count()

    def make(path: Path, turn: int) -> None:
        match turn % 4:
            case 0:
                path.write_bytes(b"ours" * turn)
            case 1:
                path.mkdir()
                (path / "file").write_bytes(b"ours")
            case 2:
                path.symlink_to(secret)
            case 3:
                os.mkfifo(path)

    def disturb() -> None:
        while not done.is_set():
            turn = next(turns)
            path = top / f"moving-{turn % 7}"
            with suppress(OSError):
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)
            make(path, turn)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        results = [index(top, ["**"], blobs) for _ in range(150)]
    finally:
        done.set()
        thread.join()
    figure(f"{next(turns)} changes during 150 walks that saw {sum(len(found.files) for found in results)} files")
    for found in results:
        assert [name for name in names(found) if name.startswith("steady")] == sorted(
            f"steady-{number}" for number in range(20)
        )
        for file in found.files:
            assert file.sha256 != sha256(b"secret")
            if file.captured:
                assert blobs.verify(file.sha256) == file.size_bytes


def test_a_directory_replaced_by_a_file_or_a_link_between_look_and_step_is_not_entered(
    top: Path, blobs: BlobStore, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    (top / "a").mkdir()
    (top / "b").mkdir()
    open_before = os.open

    def swapping(path: os.PathLike[str] | bytes, flags: int, *, dir_fd: int | None = None) -> int:
        if path == b"a":
            (top / "a").rmdir()
            (top / "a").symlink_to(tmp_path / "secret")
        if path == b"b":
            (top / "b").rmdir()
            (top / "b").write_bytes(b"a file now")
        return open_before(path, flags, dir_fd=dir_fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", swapping)
        found = index(top, [], blobs)
    assert found == Index((), ("a: it cannot be read (Not a directory)", "b: it cannot be read (Not a directory)")), (
        "two names that were directories are said, and neither is followed"
    )


def test_a_thousand_reasons_are_a_hundred_lines_and_a_count(top: Path, blobs: BlobStore) -> None:
    for number in range(1000):
        (top / f"{number:04}{'x' * 240}").symlink_to("nowhere")
    found = index(top, [], blobs)
    assert len(found.omitted) == OMITTED_MAX + 1
    assert found.omitted[-1] == "900 more lines like these"
    assert all(len(line) < 300 for line in found.omitted)


def test_times_beyond_the_calendar_are_its_ends() -> None:
    assert time_of(0) == "1970-01-01T00:00:00.000000Z"
    assert time_of(-1) == "1969-12-31T23:59:59.999999Z"
    assert time_of(2**63 - 1) == "2262-04-11T23:47:16.854775Z"
    assert time_of(10**30) == "9999-12-31T23:59:59.999999Z"
    assert time_of(-(10**30)) == "0001-01-01T00:00:00.000000Z"


def test_no_descriptor_is_left_open(top: Path, blobs: BlobStore) -> None:
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").touch()
    (top / "link").symlink_to("a/../../../x")
    (top / "loop").symlink_to("a/../loop")
    (top / "plain").touch()
    os.mkfifo(top / "fifo")
    found = index(top, ["**"], blobs, excluded=[top / "a" / "b"])
    index(top, ["**"], blobs, excluded=[top])
    with suppress(NotFound):
        fetch(seen("a/missing"), top, top / "new", blobs)
    assert descriptors_under(top) == []
    assert names(found) == ["plain"]


# The pages.


def recorded(log: FileLog, events: tuple[ArtifactsIndexed, ...]) -> list[ArtifactsIndexed]:
    log.append("run/r", [event.recorded_by("ada@lab", "reconcile", corr="r" * 128) for event in events])
    return [ArtifactsIndexed.made_of(event.data) for event in log.read("run/r")]


def test_an_empty_index_is_one_page(tmp_path: Path) -> None:
    assert pages(Index((), ())) == (ArtifactsIndexed(page=1, pages=1, files=(), omitted=()),)


@pytest.mark.parametrize("count", [1, PAGE_FILES_MAX, PAGE_FILES_MAX + 1, 2_000])
def test_the_pages_are_the_index_in_order_and_fit_in_one_append(tmp_path: Path, count: int) -> None:
    files = tuple(seen(f"{number:05}") for number in range(count))
    split = pages(Index(files, ("something",)))
    assert [file for page in split for file in page.files] == list(files)
    assert [(page.page, page.pages) for page in split] == [(n, len(split)) for n in range(1, len(split) + 1)]
    assert max(len(page.files) for page in split) <= PAGE_FILES_MAX
    assert [page.omitted for page in split] == [("something",), *[()] * (len(split) - 1)]
    assert recorded(FileLog(tmp_path, disk=unsynced()), split) == list(split)


def test_names_that_are_as_long_as_names_can_be_still_fit_and_captured_files_are_kept(tmp_path: Path) -> None:
    longest = "/".join(["\x01" * 255] * (DEPTH_MAX + 1))
    files = tuple(seen(f"{number:04}{longest[4:]}", captured=number >= 1990) for number in range(2_000))
    omitted = tuple("日" * 212 + str(number) for number in range(OMITTED_MAX))
    split = pages(Index(files, omitted))
    log = FileLog(tmp_path, disk=unsynced())
    assert recorded(log, split) == list(split)
    lines = log.path("run/r").read_bytes().splitlines(keepends=True)
    assert max(map(len, lines)) < LINE_BYTES_MAX
    assert INDEX_BYTES_MAX / 2 < sum(map(len, lines)) < APPEND_BYTES_MAX - 128 * 1024
    kept = [file for page in split for file in page.files]
    assert sum(file.captured for file in kept) == 10
    assert split[0].omitted == (
        f"{2_000 - len(kept)} more files: their names are too long for one append to the log",
        *omitted,
    )
