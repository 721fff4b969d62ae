"""Where does Merlin keep its files, and what does it say of a place that cannot be?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from merlin_es.errors import Usage
from merlin_es.settings import DEFAULT_STATE_ROOT, launcher, load


def test_the_option_goes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nstate_root = "from_file"\n')
    environment = {"MERLIN_STATE_ROOT": "from_environment"}
    assert load(Path("from_option"), environment, tmp_path).state_root == tmp_path / "from_option"
    assert load(None, environment, tmp_path).state_root == tmp_path / "from_environment"
    assert load(None, {"MERLIN_STATE_ROOT": ""}, tmp_path).state_root == tmp_path / "from_file"
    assert load(None, {}, tmp_path).state_root == tmp_path / "from_file"
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert load(None, {}, tmp_path).state_root == tmp_path / DEFAULT_STATE_ROOT


@pytest.mark.parametrize("mark", [".git", "pyproject.toml"])
def test_a_relative_path_is_taken_from_the_top_of_the_checkout(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).touch()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert load(Path("s"), {}, below).state_root == tmp_path / "s"
    assert load(Path("/abs"), {}, below).state_root == Path("/abs")


def test_outside_of_a_checkout_it_is_taken_from_here(tmp_path: Path) -> None:
    found = load(Path("ünï ☃"), {}, tmp_path)
    assert found.workspace in (tmp_path, *tmp_path.parents)
    assert found.state_root == found.workspace / "ünï ☃"


def test_home_is_meant_as_a_shell_means_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nstate_root = "~/state"\n')
    assert load(None, {}, tmp_path).state_root == tmp_path / "home" / "state"
    with pytest.raises(Usage, match="nobody has such a home"):
        load(Path("~nobody-of-that-name/x"), {}, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = ", "is not TOML"),
        (b"\xff", "is not TOML"),
        (b"tool = 3", "is not a table"),
        (b"[tool]\nmerlin = 3", "is not a table"),
        (b"[tool.merlin]\nstate_root = 3", "write one in quotes"),
        (b'[tool.merlin]\nstate_root = ""', "write one in quotes"),
    ],
)
def test_a_file_that_says_nonsense_is_named_with_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(Usage, match=message) as caught:
        load(None, {}, tmp_path)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)
    assert load(Path("s"), {}, tmp_path).state_root == tmp_path / "s", "the option does without that file"


@pytest.mark.parametrize("what", ["pyproject.toml", ".git"])
def test_what_is_no_file_where_one_belongs_is_no_mark_that_hangs(tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / what)
    assert load(None, {}, tmp_path).state_root.parts[-3:] == tuple(DEFAULT_STATE_ROOT.split("/"))


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_a_state_root_that_can_be_no_directory_is_refused_before_anything_is_done(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Usage, match="give another --state-root"):
        load(tmp_path / name, {}, tmp_path)


def test_what_could_not_be_recorded_is_refused(tmp_path: Path) -> None:
    for name in ("MERLIN_ACTOR", "MERLIN_DOOR", "TRACEPARENT"):
        with pytest.raises(Usage, match=f"{name} is not UTF-8"):
            load(tmp_path, {name: os.fsdecode(b"\xff")}, tmp_path)
    with pytest.raises(Usage, match="the path of the state root is not UTF-8"):
        load(Path(os.fsdecode(b"\xff")), {}, tmp_path)


def test_durability_is_on_unless_it_is_off(tmp_path: Path) -> None:
    assert load(tmp_path, {}, tmp_path).sync
    assert not load(tmp_path, {"MERLIN_FSYNC": "off"}, tmp_path).sync
    for text in ("banana", "", "0", "OFF"):
        with pytest.raises(Usage, match="MERLIN_FSYNC"):
            load(tmp_path, {"MERLIN_FSYNC": text}, tmp_path)


def test_the_actor_is_who_is_named_or_the_user_on_this_host(tmp_path: Path) -> None:
    assert load(tmp_path, {"MERLIN_ACTOR": "agent:x for ada"}, tmp_path).actor == "agent:x for ada"
    user, _, host = load(tmp_path, {}, tmp_path).actor.partition("@")
    assert user
    assert host


def test_the_launcher_comes_from_the_option_the_environment_or_the_file(tmp_path: Path) -> None:
    assert launcher(None, {}, tmp_path) is None
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nlauncher = "from file"\n')
    environment = {"MERLIN_LAUNCHER": "from environment"}
    assert launcher("from option", environment, tmp_path) == "from option"
    assert launcher(None, environment, tmp_path) == "from environment"
    assert launcher(None, {"MERLIN_LAUNCHER": ""}, tmp_path) == "from file"
    with pytest.raises(Usage, match="--launcher is empty"):
        launcher(" ", environment, tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.merlin]\nlauncher = 3\n")
    with pytest.raises(Usage, match="launcher is not a text"):
        launcher(None, {}, tmp_path)


def test_an_execution_stops_in_order_only_where_that_was_asked_for(tmp_path: Path) -> None:
    assert not load(None, {"MERLIN_RUN_ID": "r"}, tmp_path).stops_in_order
    assert load(None, {"MERLIN_STOPS_IN_ORDER": "1"}, tmp_path).stops_in_order
