"""Is what goes to the cluster what was meant, the same each time, and never more than it takes?"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from merlin_es import packages
from merlin_es.errors import Usage
from merlin_es.packages import Package, package
from merlin_es.tree import Tree
from tests.examples import ROOT

MIB = 1024 * 1024


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def write(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(name.encode())


def git(top: Path, *arguments: str) -> None:
    settings = [
        "-c",
        "user.name=ada",
        "-c",
        "user.email=ada@lab",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "protocol.file.allow=always",
    ]
    subprocess.run(["git", *settings, "-C", top, *arguments], check=True, capture_output=True)


def packed(directory: Path, *excluded: Path) -> dict[str, bytes]:
    with package(directory, excluded) as made, zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())
        return {name: archive.read(name) for name in archive.namelist()}


def omitted(directory: Path) -> tuple[str, ...]:
    with package(directory) as made:
        return made.omitted


def test_outside_of_a_checkout_everything_is_packed_but_git_and_what_is_excluded(top: Path) -> None:
    write(top, "a", "b/c", ".env", "b/.gitignore", "build/ray/events.jsonl", "build/out")
    (top / "empty").mkdir()
    expected = ["a", "b/c", ".env", "b/.gitignore", "build/out"]
    assert packed(top, top / "build" / "ray") == {name: name.encode() for name in expected}


def test_a_directory_called_git_is_not_packed_where_git_is_not_installed(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(top, "a", "ignored")
    (top / ".gitignore").write_text("ignored\n")
    git(top, "init")
    monkeypatch.setenv("PATH", "/nowhere")
    assert sorted(packed(top)) == [".gitignore", "a", "ignored"]


def test_the_zip_goes_when_the_context_ends_also_by_an_error(top: Path) -> None:
    write(top, "a")
    with package(top) as made:
        assert made.path.is_file()
    assert not made.path.parent.exists()
    with suppress(KeyError), package(top) as made:
        raise KeyError
    assert not made.path.parent.exists()


def test_the_same_content_gives_the_same_bytes_and_name_wherever_and_whenever(top: Path, tmp_path: Path) -> None:
    def made(directory: Path) -> tuple[str, str, bytes]:
        with package(directory) as made:
            return made.path.name, made.sha256, made.path.read_bytes()

    write(top, "b", "a", "c/d")
    first = made(top)
    assert re.fullmatch(r"[0-9a-f]{64}\.zip", first[0])
    assert first[0] == f"{first[1]}.zip"
    copy = tmp_path / "copy"
    for name in ["c/d", "a", "b"]:
        write(copy, name)
        os.utime(copy / name, (0, 1_000_000_000))
    assert made(copy) == first
    (copy / "a").chmod(0o755)
    with_mode = made(copy)
    (copy / "a").chmod(0o644)
    (copy / "a").rename(copy / "aa")
    with_name = made(copy)
    (copy / "aa").rename(copy / "a")
    (copy / "a").write_bytes(b"A")
    assert len({first[0], with_mode[0], with_name[0], made(copy)[0]}) == 4


def test_modes_are_kept_and_times_are_not(top: Path) -> None:
    write(top, "run", "data")
    (top / "run").chmod(0o6755)
    (top / "data").chmod(0o600)
    with package(top) as made, zipfile.ZipFile(made.path) as archive:
        assert {info.filename: oct(info.external_attr >> 16) for info in archive.infolist()} == {
            "run": "0o100755",
            "data": "0o100600",
        }
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_in_a_checkout_that_is_packed_which_git_knows_or_would_add(top: Path) -> None:
    write(top, "tracked", "gone", "new", "ignored.log", "build/x", "sub/.gitignore", "sub/secret", "sub/kept", "force")
    (top / ".gitignore").write_text("*.log\nbuild/\nforce\n")
    (top / "sub" / ".gitignore").write_text("secret\n")
    git(top, "init")
    git(top, "add", "-f", "tracked", "gone", "force")
    (top / "gone").unlink()
    assert sorted(packed(top)) == [".gitignore", "force", "new", "sub/.gitignore", "sub/kept", "tracked"]
    assert sorted(packed(top / "sub")) == [".gitignore", "kept"]
    assert sorted(packed(top, top / "sub")) == [".gitignore", "force", "new", "tracked"]


def test_a_directory_that_its_checkout_ignores_is_packed_as_if_it_were_outside(top: Path) -> None:
    write(top, "build/x", "build/deep/y.log")
    (top / ".gitignore").write_text("build/\n*.log\n")
    git(top, "init")
    assert sorted(packed(top / "build")) == ["deep/y.log", "x"]


def test_a_checkout_in_which_all_is_ignored_has_nothing_to_pack(top: Path) -> None:
    write(top, "a.log")
    (top / ".git-excludes").write_text("*\n")
    git(top, "init")
    git(top, "config", "core.excludesFile", os.fspath(top / ".git-excludes"))
    with pytest.raises(Usage, match="holds no file to upload"):
        packed(top)


def test_submodules_and_checkouts_inside_are_packed_by_their_own_rules(top: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library, "code", "out.log")
    (library / ".gitignore").write_text("*.log\n")
    git(library, "init")
    git(library, "add", ".")
    git(library, "commit", "-m", "code")
    write(top, "a")
    git(top, "init")
    for name in ["third/party", "third/absent"]:
        git(top, "submodule", "add", os.fspath(library), name)
    git(top, "submodule", "deinit", "-f", "third/absent")
    write(top, "third/party/new", "third/party/new.log")
    shutil.copytree(library, top / "nested")
    assert sorted(packed(top)) == [
        ".gitmodules",
        "a",
        "nested/.gitignore",
        "nested/code",
        "third/party/.gitignore",
        "third/party/code",
        "third/party/new",
    ]


def test_what_the_settings_of_git_or_of_its_environment_say_is_not_obeyed(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(top, "a")
    git(top, "init")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(top, "config", "core.fsmonitor", os.fspath(trap))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    assert sorted(packed(top)) == ["a"]
    assert not (tmp_path / "sprung").exists()


def test_where_git_refuses_nothing_is_packed_for_it_might_be_what_is_ignored(top: Path) -> None:
    write(top, "a", ".env")
    git(top, "init")
    (top / ".git" / "config").write_text("[core\n")
    with pytest.raises(Usage, match=r"git does not list .*bad config.*outside of a checkout"):
        packed(top)


def test_links_are_packed_as_what_they_lead_to_and_those_that_lead_out_are_omitted(top: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    write(top, "real", "dir/file")
    for name, target in {"in": "real", "out": "../secret", "lost": "nowhere", "loop": "loop", "to-dir": "dir"}.items():
        (top / name).symlink_to(target)
    os.mkfifo(top / "fifo")
    expected = {"real": b"real", "in": b"real", "dir/file": b"dir/file"}
    lines = (
        "loop: it is a link that loops",
        "lost: it is a link that leads to nothing",
        "out: it is a link that leads out of the directory",
        "to-dir: it leads to a directory",
    )
    assert packed(top) == expected
    assert omitted(top) == ("fifo: it is a FIFO", *lines)
    git(top, "init")
    assert packed(top) == expected
    assert omitted(top) == lines


def test_names_that_ray_does_not_unpack_or_that_are_no_text_are_omitted(top: Path) -> None:
    write(top, "good", "-rf", "new\nline", "日本")
    for name in ["back\\slash", "c:drive"]:
        write(top, name)
    Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9")).touch()
    for _ in range(2):
        assert sorted(packed(top)) == ["-rf", "good", "new\nline", "日本"]
        assert omitted(top) == (
            "back\\slash: Ray does not unpack such a name",
            "c:drive: Ray does not unpack such a name",
            r"caf\xe9: its name is not UTF-8",
        )
        git(top, "init")


def test_a_thousand_omitted_files_are_a_hundred_lines_and_a_count(top: Path) -> None:
    write(top, "a")
    for number in range(1000):
        (top / f"{number:04}").symlink_to("nowhere")
    assert len(omitted(top)) == 101
    assert omitted(top)[-1] == "900 more files"


def test_above_the_limit_it_is_refused_with_the_five_largest_and_what_to_do(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packages.PACKAGE_BYTES_MAX == 100 * MIB
    monkeypatch.setattr(packages, "PACKAGE_BYTES_MAX", 10 * MIB)
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    write(top, "small")
    for number in range(1, 7):
        (top / f"large-{number}").write_bytes(os.urandom(number * MIB))
    with pytest.raises(Usage) as caught, package(top):
        pass
    assert f"{top} has more than the 10.0 MiB (packed) that can be uploaded" in str(caught.value)
    assert (
        "The largest files are large-6 (6.0 MiB), large-5 (5.0 MiB), large-4 (4.0 MiB), large-3 (3.0 MiB), "
        "large-2 (2.0 MiB): ignore them in .gitignore, name a smaller --working-dir, or leave it out"
    ) in str(caught.value)
    (top / "large-6").unlink()
    (top / "large-5").unlink()
    (top / "large-1").unlink()
    with package(top) as made:
        assert 9 * MIB < made.path.stat().st_size <= 10 * MIB
    assert list(tmp_path.iterdir()) == [top]


def test_a_file_that_is_larger_than_all_disks_is_refused_at_once(top: Path) -> None:
    with (top / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(Usage, match=r"1048576.0 MiB, and at most 1024.0 MiB can be uploaded. .* sparse \("):
        packed(top)


def test_what_shrinks_when_packed_may_be_larger_than_the_limit(top: Path) -> None:
    with (top / "zeros").open("wb") as file:
        file.truncate(packages.PACKAGE_BYTES_MAX + MIB)
    with package(top) as made:
        assert made.path.stat().st_size < 2 * MIB


@pytest.mark.parametrize("what", ["missing", "file", "empty"])
def test_what_cannot_be_packed_is_refused_with_the_reason(top: Path, what: str) -> None:
    (top / "file").touch()
    (top / "empty").mkdir()
    match = {"missing": "No such file or directory", "file": "Not a directory", "empty": "holds no file to upload"}
    with pytest.raises(Usage, match=match[what]):
        packed(top / what)


def test_sockets_and_files_that_vanish_do_no_harm(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(top, "a", "b")
    open_before = Tree.open
    opened: list[str] = []

    def vanishing(self: Tree, name: str) -> object:
        opened.append(name)
        if opened.count("b") == 2:
            (top / "b").unlink()
        return open_before(self, name)

    monkeypatch.setattr(Tree, "open", vanishing)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(top / "s"))
        with package(top) as made:
            assert made.omitted == ("b: it vanished while it was packed", "s: it is a socket")


PACK = """
import resource, sys
from pathlib import Path
from merlin_es.errors import Usage
from merlin_es.packages import package
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with package(Path(sys.argv[1])):
        pass
except Usage as error:
    print(error)
"""


def test_a_disk_that_is_full_is_said_and_nothing_is_left_there(top: Path, tmp_path: Path) -> None:
    (top / "file").write_bytes(os.urandom(3 * MIB))
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PACK, top],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": os.fspath(place)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large): check that it can be read, and that there is room in " in done.stdout
    assert list(place.iterdir()) == []


def test_ray_unpacks_it_as_it_was(top: Path, tmp_path: Path) -> None:
    """Through the very function that a node runs, in a process of its own: here nothing imports ray."""
    write(top, "a", "only/one", "new\nline", "日本", "run")
    (top / "run").chmod(0o755)
    with package(top) as made:
        assert isinstance(made, Package)
        code = (
            "import sys; from ray._private.runtime_env.packaging import unzip_package; "
            "unzip_package(sys.argv[1], sys.argv[2], remove_top_level_directory=False, unlink_zip=False)"
        )
        subprocess.run([sys.executable, "-c", code, made.path, tmp_path / "node"], check=True, capture_output=True)
    unpacked = {path.relative_to(tmp_path / "node").as_posix() for path in (tmp_path / "node").rglob("*")}
    assert unpacked == {"a", "only", "only/one", "new\nline", "日本", "run"}
    assert (tmp_path / "node" / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "node" / "only" / "one").read_bytes() == b"only/one"
