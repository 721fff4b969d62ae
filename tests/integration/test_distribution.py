"""Do wheel and sdist hold all that Merlin needs, and does it run from there, far away from the checkout?"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.examples import ROOT

PACKAGES = ("eventlog", "projections", "merlin_es")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def run(*command: str, cwd: Path) -> str:
    """Run a program that knows nothing of the checkout; gives what it printed."""
    ours = ("MERLIN_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Installed:
    """A Merlin that was installed from a wheel, which was built from the sdist of this checkout."""

    sdist: Path
    wheel: Path
    top: Path

    @property
    def python(self) -> str:
        return str(self.top / "venv" / "bin" / "python")

    @property
    def merlin(self) -> str:
        return str(self.top / "venv" / "bin" / "merlin")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    top = tmp_path_factory.mktemp("distribution")
    build = (sys.executable, "-m", "hatchling", "build")
    run(*build, "-t", "sdist", "-d", str(top), cwd=ROOT)
    [sdist] = top.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(top, filter="data")
    run(*build, "-t", "wheel", "-d", str(top), cwd=top / sdist.name.removesuffix(".tar.gz"))
    [wheel] = top.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=top)
    made = Installed(sdist, wheel, top)
    # What Merlin needs is taken from where these tests run, so that nothing is fetched; Merlin itself is not there.
    [packages] = (top / "venv").glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    run(*PIP, "--python", made.python, "install", "--no-index", "--no-deps", str(wheel), cwd=top)
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()  # This is the workspace, whatever lies above it.
    return tmp_path


def test_what_runs_is_what_was_installed(installed: Installed, elsewhere: Path) -> None:
    program = "import importlib.metadata as m, eventlog as e, projections as p, merlin_es as s"
    program += "; print(m.version('merlin-es'), e.__file__, p.__file__, s.__file__)"
    version, *places = run(installed.python, "-c", program, cwd=elsewhere).split()
    assert run(installed.merlin, "--version", cwd=elsewhere) == f"merlin {version}\n"
    assert all(Path(place).is_relative_to(installed.top) for place in places)


def test_merlin_runs_far_away_from_the_checkout(installed: Installed, elsewhere: Path) -> None:
    assert "targetgen" in run(installed.merlin, "--help", cwd=elsewhere)
    planned = run(installed.merlin, "targetgen", "plan", "--example", "saturn_opu", cwd=elsewhere)
    assert "saturn_opu" in planned
    assert (elsewhere / "build/generated/targetgen/saturn_opu/task_graph.json").is_file()
    prepared = run(installed.merlin, "targetgen", "orchestrate", "--example", "saturn_opu", cwd=elsewhere)
    assert "Prompt packet count: 4" in prepared, "the prompt library is there, too"
    assert run(installed.merlin, "ray", "jobs", "list", cwd=elsewhere) == "No runs.\n"
    assert "verify" in run(installed.python, "-m", "eventlog", "--help", cwd=elsewhere)


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == {path for path in tracked() if path.startswith(tuple(f"{package}/" for package in PACKAGES))}


def test_the_sdist_has_every_file_of_the_repository(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    assert found == tracked() | {"PKG-INFO"}


def tracked() -> set[str]:
    """Give the files of the checkout that git knows, or would take in."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()}
