"""Are a head's files where only its user can read them, and where Ray's sockets fit?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from merlin_es.errors import HeadFailed
from merlin_es.ray_adapter.head_files import only_start_in, private_token, temp_dir_for


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """Give the short directory that stands for `tmp_path`, and remove it."""
    long = tmp_path / ("x" * 40)
    long.mkdir()
    path = temp_dir_for(long).parent
    assert path.parent == Path("/tmp")
    path.rmdir()
    yield path
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        path.rmdir()


def test_a_token_is_long_and_private_and_stays(tmp_path: Path) -> None:
    path = private_token(tmp_path)
    token = path.read_text()
    assert len(token) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert private_token(tmp_path).read_text() == token
    assert list(tmp_path.iterdir()) == [path]


def test_two_directories_have_two_tokens(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert private_token(tmp_path / "a").read_text() != private_token(tmp_path / "b").read_text()


def test_a_token_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("seen by all")
    (tmp_path / "token").chmod(0o644)
    path = private_token(tmp_path)
    assert path.read_text() != "seen by all"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_that_is_a_link_is_replaced_and_what_it_led_to_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    assert not private_token(tmp_path).is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_an_empty_token_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "token").touch(0o600)
    assert private_token(tmp_path).read_text()


def test_a_short_directory_holds_rays_files_itself() -> None:
    assert temp_dir_for(Path("/srv/merlin")) == Path("/srv/merlin/ray")


def test_a_long_directory_has_a_short_private_one_of_its_own(tmp_path: Path, short: Path) -> None:
    long = tmp_path / ("x" * 40)
    assert temp_dir_for(long) == short / "ray" == temp_dir_for(long)
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    assert len(os.fsencode(short / "ray")) <= 39


def test_a_short_directory_that_others_can_enter_is_refused(tmp_path: Path, short: Path) -> None:
    short.mkdir()
    short.chmod(0o755)
    with pytest.raises(HeadFailed, match="not a private directory"):
        temp_dir_for(tmp_path / ("x" * 40))


def test_a_short_directory_that_is_a_link_is_refused(tmp_path: Path, short: Path) -> None:
    short.symlink_to(tmp_path)
    with pytest.raises(HeadFailed, match="not a private directory"):
        temp_dir_for(tmp_path / ("x" * 40))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_short_directory_of_somebody_else_is_refused(tmp_path: Path, short: Path) -> None:
    short.mkdir(0o700)
    os.chown(short, 65534, 65534)
    with pytest.raises(HeadFailed, match="not a private directory"):
        temp_dir_for(tmp_path / ("x" * 40))


def test_two_starts_in_one_directory_at_once_are_refused_and_one_after_the_other_is_not(tmp_path: Path) -> None:
    with (
        only_start_in(tmp_path),
        pytest.raises(HeadFailed, match="another process is starting"),
        only_start_in(tmp_path),
    ):
        pass
    with only_start_in(tmp_path):
        pass
