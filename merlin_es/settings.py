"""Where does Merlin keep its files, who asks, and how patient is it? The one place that reads the environment.

Each setting is taken from the first of these that names it: an option, the environment, `[tool.merlin]` of the
workspace's pyproject.toml, its default. `SETTINGS` says which of them each one has.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from merlin_es.errors import Usage

DEFAULT_STATE_ROOT = "build/generated/ray"
Source = Literal["option", "environment", "file", "default"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one call of Merlin. `sync` is False only in tests that do not test durability.

    `variables` is the environment, of which some values may never be recorded.
    `run_id` is the run that this process works for, None outside of any. With `stops_in_order` an execution that waits
    for somebody has ended well: whoever started this process knows where it says what it waits for.
    """

    state_root: Path
    workspace: Path
    actor: str
    door: str = "cli"
    sync: bool = True
    traceparent: str | None = None
    run_id: str | None = None
    stops_in_order: bool = False
    allow_shared: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


class Setting(NamedTuple):
    """One setting: its name in a file's `[tool.merlin]`, if it has one there, and in the environment."""

    name: str
    variable: str
    what: str
    in_file: bool = False
    option: str | None = None


SETTINGS = (
    Setting("state_root", "MERLIN_STATE_ROOT", "where Merlin keeps its files", in_file=True, option="--state-root"),
    Setting(
        "allow_shared", "MERLIN_ALLOW_SHARED", "whether others may be able to write to the state root", in_file=True
    ),
    Setting(
        "launcher",
        "MERLIN_LAUNCHER",
        "the words before each command of an execution",
        in_file=True,
        option="--launcher",
    ),
    Setting("redact", "MERLIN_REDACT", "names of more variables and fields that are secrets", in_file=True),
    Setting("actor", "MERLIN_ACTOR", "who asks, as it is recorded"),
    Setting("door", "MERLIN_DOOR", "through what, as it is recorded"),
    Setting("fsync", "MERLIN_FSYNC", "`off` in tests that do not test durability"),
    Setting("run_id", "MERLIN_RUN_ID", "the run that this process works for"),
    Setting("stops_in_order", "MERLIN_STOPS_IN_ORDER", "`1`: an execution that waits for somebody has ended well"),
    Setting("traceparent", "TRACEPARENT", "the trace that a run belongs to"),
)
STATE_ROOT, ALLOW_SHARED, LAUNCHER, REDACT, ACTOR, DOOR, FSYNC, RUN_ID, STOPS_IN_ORDER, TRACEPARENT = SETTINGS
_YES_OR_NO = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Found(NamedTuple):
    """A value as it is written, and where that is: an option, a variable, a file, or nowhere."""

    value: str
    source: Source
    where: str = ""


class Sources(NamedTuple):
    """All that may name a setting. The file is read only when nothing before it does: that takes time."""

    options: Mapping[str, str]
    environment: Mapping[str, str]
    workspace: Path

    def find(self, setting: Setting, default: Callable[[], str]) -> Found:
        """Give the value of a setting from the first that names it."""
        if (given := self.options.get(setting.name)) is not None:
            return Found(given, "option", setting.option or "")
        given = self.environment.get(setting.variable)
        if given or (given is not None and setting is FSYNC):  # Empty is unset, but for what must not be off by chance.
            return Found(given, "environment", setting.variable)
        if setting.in_file and (named := self.in_file(setting).get(setting.name)) is not None:
            return Found(_as_text(setting, named, self.path), "file", str(self.path))
        return Found(default(), "default")

    @property
    def path(self) -> Path:
        """The file that may have a table `[tool.merlin]`."""
        return self.workspace / "pyproject.toml"

    def in_file(self, setting: Setting) -> Mapping[str, object]:
        """Give the table `[tool.merlin]`; raises Usage, with where else to give `setting`, where it cannot be read."""
        return _table(self.path, setting)


def load(state_root: Path | None, environment: Mapping[str, str], cwd: Path, *, careful: bool = True) -> Settings:
    """Give the settings: option before environment before `[tool.merlin]` before default. Raises Usage.

    A relative path is taken from the workspace: the nearest directory from `cwd` up that holds `.git` or
    `pyproject.toml`, else `cwd`. A state root that others can write to is refused when `careful`, unless allowed.
    """
    sources = _sources(state_root, environment, cwd)
    found = sources.find(STATE_ROOT, lambda: DEFAULT_STATE_ROOT)
    for setting in (ACTOR, DOOR, RUN_ID, TRACEPARENT):
        _require_utf8(setting.variable, environment.get(setting.variable, ""))
    fsync = sources.find(FSYNC, lambda: "on").value
    if fsync not in ("on", "off"):
        raise Usage(f"MERLIN_FSYNC is {fsync!r}: use `on`, or `off` in tests that do not test durability")
    root = _usable(sources.workspace / _at_home(Path(found.value)))
    shared = is_shared(root)
    allowed = shared and _is_yes(sources.find(ALLOW_SHARED, lambda: "no"))
    if careful and shared and not allowed:
        raise Usage(
            f"everybody can write to the state root {root}, and so change what was recorded: `chmod o-w {root}`, or "
            "allow it with MERLIN_ALLOW_SHARED=yes or `allow_shared = true` in [tool.merlin]"
        )
    return Settings(
        state_root=root,
        workspace=sources.workspace,
        actor=sources.find(ACTOR, _user_at_host).value,
        door=sources.find(DOOR, lambda: "cli").value,
        sync=fsync == "on",
        traceparent=environment.get("TRACEPARENT"),
        run_id=sources.find(RUN_ID, lambda: "").value or None,
        stops_in_order=sources.find(STOPS_IN_ORDER, lambda: "0").value == "1",
        allow_shared=allowed,
        variables=environment,
    )


def launcher(given: str | None, environment: Mapping[str, str], workspace: Path) -> str | None:
    """Give the words that stand before a command in place of the seed's `conda run …`; None for what fits this host.

    Option before environment before `[tool.merlin]`. Raises Usage.
    """
    if given is not None and not given.strip():
        raise Usage("--launcher is empty, as an unset variable is: give the words before a command, or leave it out")
    options = {} if given is None else {LAUNCHER.name: given}
    return Sources(options, environment, workspace).find(LAUNCHER, lambda: "").value or None


def redact(settings: Settings) -> tuple[str, ...]:
    """Give globs of names that are secrets beside those that say so; asked for by who records something of a run."""
    found = Sources({}, settings.variables, settings.workspace).find(REDACT, lambda: "")
    return tuple(found.value.replace(",", " ").split())


def explain(state_root: Path | None, environment: Mapping[str, str], cwd: Path) -> Mapping[Setting, Found]:
    """Give every setting as it is written, with where it comes from; raises Usage as `load` does."""
    sources = _sources(state_root, environment, cwd)
    defaults = {STATE_ROOT: DEFAULT_STATE_ROOT, ALLOW_SHARED: "no", DOOR: "cli", FSYNC: "on", STOPS_IN_ORDER: "0"}
    return {
        setting: sources.find(setting, _user_at_host if setting is ACTOR else lambda: defaults.get(setting, ""))  # noqa: B023  called at once
        for setting in SETTINGS
    }


def unknown(cwd: Path) -> tuple[str, ...]:
    """Name what stands in `[tool.merlin]` and means nothing."""
    known = {setting.name for setting in SETTINGS if setting.in_file}
    return tuple(sorted(set(_table(workspace_of(cwd) / "pyproject.toml", STATE_ROOT)) - known))


def workspace_of(cwd: Path) -> Path:
    """Give the nearest directory from `cwd` up that holds `.git` or `pyproject.toml`, else `cwd`."""
    for directory in (cwd, *cwd.parents):
        if os.path.exists(directory / ".git") or os.path.isfile(directory / "pyproject.toml"):  # noqa: PTH110, PTH113  those of Path raise where nobody may look
            return directory
    return cwd


def _sources(state_root: Path | None, environment: Mapping[str, str], cwd: Path) -> Sources:
    options = {} if state_root is None else {STATE_ROOT.name: str(state_root)}
    return Sources(options, environment, workspace_of(cwd))


def _table(path: Path, setting: Setting) -> Mapping[str, object]:
    if not os.path.isfile(path):  # noqa: PTH113  that of Path raises where nobody may look
        return {}
    import tomllib

    try:
        found: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Usage(f"{path} is not TOML ({error}): mend it, or give {_elsewhere(setting)}") from None
    except OSError as error:
        raise Usage(
            f"{path} cannot be read ({error.strerror}): give access to it, or give {_elsewhere(setting)}"
        ) from None
    for name in ("tool", "merlin", ""):
        if not isinstance(found, dict):
            raise Usage(
                f"{path}: `tool.merlin` is not a table: write `[tool.merlin]` and below it `{setting.name} = …`"
            )
        found = found.get(name, {}) if name else found
    return found if isinstance(found, dict) else {}


def _as_text(setting: Setting, value: object, path: Path) -> str:
    if setting is ALLOW_SHARED:
        if not isinstance(value, bool):
            raise Usage(f"{path}: [tool.merlin] {setting.name} is neither true nor false: write one of these")
        return "yes" if value else "no"
    if setting is REDACT and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if not isinstance(value, str) or not value:
        raise Usage(f"{path}: [tool.merlin] {setting.name} is not a text that says something: write one in quotes")
    return value


def _is_yes(found: Found) -> bool:
    answer = _YES_OR_NO.get(found.value.lower())
    if answer is None:
        raise Usage(f"{found.where} is {found.value!r}: say yes or no")
    return answer


def _elsewhere(setting: Setting) -> str:
    """Say where else than in a file a setting can be given."""
    return setting.option or setting.variable


def _at_home(path: Path) -> Path:
    """Read `~` as a shell does, which has not seen what stands in a file."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise Usage(f"{path} has no meaning here, as nobody has such a home: give a whole path") from None


def _require_utf8(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Usage(f"{name} is not UTF-8 ({text[:80]!a}), as all that is recorded must be: write it so") from None


def _usable(state_root: Path) -> Path:
    """Refuse what is no directory, or leads to none, before a verb finds nothing in it, or half a state."""
    _require_utf8("the path of the state root", str(state_root))
    what = "is no directory"
    try:
        if stat.S_ISDIR(state_root.stat().st_mode):
            return state_root
    except FileNotFoundError:
        return state_root  # It is made when something is recorded.
    except (OSError, ValueError) as error:
        what = f"cannot be used ({getattr(error, 'strerror', None) or error})"
    raise Usage(f"the state root {state_root} {what}: move what stands there, or give another --state-root")


def is_shared(state_root: Path) -> bool:
    """Tell whether everybody can put files into the state root, or take its own away."""
    try:
        return bool(state_root.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False  # It is not there yet, and will be made with the umask.


def _user_at_host() -> str:
    return f"{_user()}@{os.uname().nodename}"


def _user() -> str:
    """Name who asks, as getpass does, which imports what asks for passwords too."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if name := os.environ.get(variable):
            return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # An id without a name, as in a container.
        return str(os.getuid())
