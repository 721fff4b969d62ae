"""Where does Merlin keep its files, and what does it say of a place that cannot be?"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merlin_es.errors import Usage
from merlin_es.settings import (
    ALLOW_SHARED,
    DEFAULT_STATE_ROOT,
    SETTINGS,
    STATE_ROOT,
    Found,
    explain,
    launcher,
    load,
    unknown,
)
from tests.examples import ROOT
from tests.words import typed


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


def test_each_setting_is_taken_from_the_first_that_names_it_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nstate_root = "f"\nallow_shared = true\n')
    environment = {"MERLIN_STATE_ROOT": "e", "MERLIN_ACTOR": "ada", "MERLIN_ALLOW_SHARED": "no"}
    explained = explain(Path("o"), environment, tmp_path)
    found = {setting.name: (each.value, each.source) for setting, each in explained.items()}
    assert found["state_root"] == ("o", "option")
    assert found["actor"] == ("ada", "environment")
    assert found["door"] == ("cli", "default")
    assert explain(None, environment, tmp_path)[STATE_ROOT] == Found("e", "environment", "MERLIN_STATE_ROOT")
    in_file = str(tmp_path / "pyproject.toml")
    assert explain(None, {}, tmp_path)[STATE_ROOT] == Found("f", "file", in_file)
    assert explain(None, {}, tmp_path)[ALLOW_SHARED] == Found("yes", "file", in_file)
    assert explain(None, environment, tmp_path)[ALLOW_SHARED].source == "environment"


def test_what_is_loaded_is_what_is_explained(tmp_path: Path) -> None:
    environment = {"MERLIN_ACTOR": "ada", "MERLIN_DOOR": "mcp", "MERLIN_FSYNC": "off", "TRACEPARENT": "00-1"}
    loaded = load(None, environment, tmp_path)
    found = {setting.name: each.value for setting, each in explain(None, environment, tmp_path).items()}
    assert (loaded.actor, loaded.door, loaded.traceparent) == (found["actor"], found["door"], found["traceparent"])
    assert loaded.sync == (found["fsync"] == "on")
    assert loaded.state_root == loaded.workspace / found["state_root"]


def test_a_state_root_that_everybody_can_write_to_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    root = tmp_path / "s"
    root.mkdir()
    root.chmod(0o757)
    with pytest.raises(Usage, match="chmod o-w"):
        load(root, {}, tmp_path)
    assert load(root, {"MERLIN_ALLOW_SHARED": "yes"}, tmp_path).allow_shared
    assert load(root, {}, tmp_path, careful=False).state_root == root
    with pytest.raises(Usage, match="say yes or no"):
        load(root, {"MERLIN_ALLOW_SHARED": "perhaps"}, tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.merlin]\nallow_shared = true\n")
    assert load(root, {}, tmp_path).allow_shared
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nallow_shared = "yes"\n')
    with pytest.raises(Usage, match="neither true nor false"):
        load(root, {}, tmp_path)
    root.chmod(0o775)
    assert not load(root, {}, tmp_path).allow_shared, "a group may share one"


def test_a_word_in_the_file_that_means_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nstate-root = "x"\nstate_root = "y"\n')
    assert unknown(tmp_path) == ("state-root",)
    assert unknown(tmp_path / "nowhere") == ("state-root",)


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_makes_settings_raise_anything_but_usage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with suppress(Usage):
        load(None, {}, tmp_path)
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.merlin]\nstate_root = " + b"[" * 20_000)
    with pytest.raises(Usage):
        load(None, {}, tmp_path)


def test_the_verb_shows_each_value_and_its_source(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.merlin]\nstate_root = "f"\nshared = 1\n')
    done = typed("settings", cwd=tmp_path, env={"MERLIN_ACTOR": "ada"})
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "FROM"]
    assert ["state_root", str(tmp_path / "f"), str(tmp_path / "pyproject.toml")] in rows
    assert ["actor", "ada", "MERLIN_ACTOR"] in rows
    assert ["door", "cli", "default"] in rows
    assert "[tool.merlin] shared means nothing" in done.stderr
    shown = json.loads(typed("settings", "--state-root", "o", "-o", "json", cwd=tmp_path).stdout)
    assert shown["unknown"] == ["shared"]
    assert shown["settings"][0]["where"] == "--state-root"
    assert [each["name"] for each in shown["settings"]] == [setting.name for setting in SETTINGS]


def test_the_documentation_has_every_setting() -> None:
    readme = (ROOT / "merlin_es" / "README.md").read_text()
    for setting in SETTINGS:
        assert f"`{setting.variable}`" in readme
