"""By what is a command started here that was written for another place?

Plans name commands as `conda run -n merlin-dev uv run …`. Where that environment is, they are run as they are.
Elsewhere a launcher takes the place of these words: one that was configured, or else this very interpreter, with its
own programs before all others. What is run in the end is recorded.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from merlin_es.errors import Usage

ENVIRONMENT = "merlin-dev"
ENTRY = "tools/merlin.py"
SEEDS = ("conda", "run", "-n", ENVIRONMENT, "uv", "run")


def has_environment(variables: Mapping[str, str]) -> bool:
    """Tell whether the conda environment is on this host, by its directory: asking conda takes a second."""
    conda = shutil.which("conda", path=variables.get("PATH"))
    if conda is None:
        return False
    homes = [Path(os.path.realpath(conda)).parent.parent / "envs", Path(variables.get("HOME", "/")) / ".conda/envs"]
    homes += [Path(each) for each in variables.get("CONDA_ENVS_PATH", "").split(os.pathsep) if each]
    return any((home / ENVIRONMENT).is_dir() for home in homes)


def launched(command: str, launcher: str | None, variables: Mapping[str, str]) -> str:
    """Give a command of a plan as a shell is to run it here; one that does not begin with the seed's words stays."""
    prefix = f"{shlex.join(SEEDS)} "
    if not command.startswith(prefix):
        return command
    rest = command.removeprefix(prefix)
    if launcher is not None:
        return f"{launcher} {rest}".strip()
    if has_environment(variables):
        return command
    if rest.partition(" ")[0].endswith(".py"):
        return f"{shlex.quote(sys.executable)} {rest}"
    programs = shlex.quote(str(Path(sys.executable).parent))
    return f'PATH={programs}:"$PATH" {rest}'


def job(
    target_dir: Path, workspace: Path, launcher: str | None, variables: Mapping[str, str]
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Give the command of a job that executes what lies in a target directory, and the variables that it needs."""
    verb = ("targetgen", "execute", "--engine", "local", "--from-dir", str(target_dir), "--resume")
    if launcher is not None:
        entry = ENTRY if (workspace / ENTRY).is_file() else "merlin"
        return (*_words(launcher), entry, *verb), {}
    if has_environment(variables):
        return (*SEEDS, ENTRY, *verb), {}
    here = [str(Path(__file__).parents[2]), *filter(None, [variables.get("PYTHONPATH")])]
    return (sys.executable, "-m", "merlin_es", *verb), {"PYTHONPATH": os.pathsep.join(here)}


def _words(launcher: str) -> list[str]:
    try:
        return shlex.split(launcher)
    except ValueError as error:
        raise Usage(f"the launcher {launcher!r} cannot be split into words ({error}): close its quotes") from None
