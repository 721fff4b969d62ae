"""Where does Merlin keep its files, who asks, and how patient is it? The one place that reads the environment."""

from __future__ import annotations

import getpass
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from merlin_es.errors import Usage

DEFAULT_STATE_ROOT = "build/generated/ray"
STOPS_IN_ORDER = "MERLIN_STOPS_IN_ORDER"


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one call of Merlin. `sync` is False only in tests that do not test durability.

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


def load(state_root: Path | None, environment: Mapping[str, str], cwd: Path) -> Settings:
    """Give the settings: option before environment before `[tool.merlin]` before default.

    A relative path is taken from the workspace: the nearest directory from `cwd` up that holds `.git` or
    `pyproject.toml`, else `cwd`. Raises Usage.
    """
    workspace = _workspace(cwd)
    named = (
        state_root or environment.get("MERLIN_STATE_ROOT") or _configured(workspace, "state_root") or DEFAULT_STATE_ROOT
    )
    for name in ("MERLIN_ACTOR", "MERLIN_DOOR", "MERLIN_RUN_ID", "TRACEPARENT"):
        _require_utf8(name, environment.get(name, ""))
    fsync = environment.get("MERLIN_FSYNC", "on")
    if fsync not in ("on", "off"):
        raise Usage(f"MERLIN_FSYNC is {fsync!r}: use `on`, or `off` in tests that do not test durability")
    return Settings(
        state_root=_usable(workspace / _at_home(Path(named))),
        workspace=workspace,
        actor=environment.get("MERLIN_ACTOR") or f"{_user()}@{os.uname().nodename}",
        door=environment.get("MERLIN_DOOR") or "cli",
        sync=fsync == "on",
        traceparent=environment.get("TRACEPARENT"),
        run_id=environment.get("MERLIN_RUN_ID") or None,
        stops_in_order=environment.get(STOPS_IN_ORDER) == "1",
    )


def launcher(given: str | None, environment: Mapping[str, str], workspace: Path) -> str | None:
    """Give the words that stand before a command in place of the seed's `conda run …`; None for what fits this host.

    Option before environment before `[tool.merlin]`. Raises Usage.
    """
    if given is not None and not given.strip():
        raise Usage("--launcher is empty, as an unset variable is: give the words before a command, or leave it out")
    return given or environment.get("MERLIN_LAUNCHER") or _configured(workspace, "launcher")


def _workspace(cwd: Path) -> Path:
    for directory in (cwd, *cwd.parents):
        if os.path.exists(directory / ".git") or os.path.isfile(directory / "pyproject.toml"):  # noqa: PTH110, PTH113  those of Path raise where nobody may look
            return directory
    return cwd


def _configured(workspace: Path, key: str) -> str | None:
    path = workspace / "pyproject.toml"
    if not os.path.isfile(path):  # noqa: PTH113  that of Path raises where nobody may look
        return None
    import tomllib

    try:
        found: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Usage(f"{path} is not TOML ({error}): mend it, or give {_option(key)}") from None
    except OSError as error:
        raise Usage(f"{path} cannot be read ({error.strerror}): give access to it, or give {_option(key)}") from None
    for name in ("tool", "merlin", key):
        if not isinstance(found, dict):
            raise Usage(f'{path}: `tool.merlin` is not a table: write `[tool.merlin]` and below it `{key} = "…"`')
        found = found.get(name, None if name == key else {})
    if found is None:
        return None
    if not isinstance(found, str) or not found:
        raise Usage(f"{path}: [tool.merlin] {key} is not a text that says something: write one in quotes")
    return found


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # An id without a name, as in a container.
        return str(os.getuid())
