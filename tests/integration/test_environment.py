"""Does a checkout in which nothing is installed prepare itself, once, and say what it does?"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.examples import ROOT

CLI = "import sys\n\ndef main():\n    print(*sys.argv[1:], sys.prefix, sep='\\n')\n    sys.exit(7)\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a checkout that needs nothing from anywhere, and whose command line says where it runs."""
    top = tmp_path / "checkout"
    (top / "tools").mkdir(parents=True)
    for name in ("merlin.py", "environment.py"):
        shutil.copy(ROOT / "tools" / name, top / "tools" / name)
    (top / "requirements.lock").write_text("# nothing\n")
    (top / "merlin_es" / "cli").mkdir(parents=True)
    (top / "merlin_es" / "cli" / "__init__.py").write_text(CLI)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    return top


def start(checkout: Path, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Start Merlin with a Python that finds nothing but its standard library."""
    entry = str(checkout / "tools" / "merlin.py")
    return subprocess.run(
        [checkout.parent / "bare" / "bin" / "python", *options, entry, *words],
        cwd=checkout.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_first_start_prepares_an_environment_and_the_next_ones_begin_at_once(checkout: Path) -> None:
    first = start(checkout, "demo", "--remove")
    assert (first.returncode, first.stdout.split()) == (7, ["demo", "--remove", str(checkout / ".venv")]), first.stderr
    assert f"merlin: preparing {checkout / '.venv'}" in first.stderr
    assert "merlin: ready after" in first.stderr
    again = start(checkout, "x y")
    assert (again.returncode, again.stdout, again.stderr) == (7, f"x y\n{checkout / '.venv'}\n", "")
    (checkout / ".venv" / "pyvenv.cfg").unlink()  # What it starts takes this for no place of its own.
    spoilt = start(checkout)
    assert (spoilt.returncode, spoilt.stdout) == (2, "")
    assert f"remove {checkout / '.venv'} and run again." in spoilt.stderr


def test_a_python_without_its_packages_is_told_so_and_does_not_begin_again_for_ever(checkout: Path) -> None:
    refused = start(checkout, "demo", options=("-S",))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "run it without -S." in refused.stderr
    assert not (checkout / ".venv").exists()


def test_who_ends_a_preparation_leaves_nothing_running_and_a_stamp_that_says_it_is_unfinished(checkout: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        started = subprocess.Popen(
            [checkout.parent / "bare" / "bin" / "python", str(checkout / "tools" / "merlin.py"), "demo"],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # Whatever whoever starts the tests has.
        )
        assert started.stderr
        assert started.stderr.readline().startswith("merlin: preparing ")
        until(lambda: len(running_in(checkout)) > 1)
        os.killpg(started.pid, number)  # As a terminal does, and somebody impatient.
        os.killpg(started.pid, number)
        _, said = started.communicate(timeout=300)
        assert started.returncode == 128 + number
        assert said == (
            "merlin: interrupted while .venv was prepared; nothing runs on, and the same command begins it anew.\n"
        )
        assert running_in(checkout) == set()
        assert (checkout / ".venv" / "prepared-from").read_text() == "unfinished\n"


def running_in(checkout: Path) -> set[int]:
    """Give the processes whose command line names the checkout."""
    found = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and os.fsencode(checkout) in (process / "cmdline").read_bytes():
                found.add(int(process.name))
    return found


def until(is_so: Callable[[], object]) -> None:
    limit = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_an_environment_of_somebody_elses_stays_as_it_is(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").write_text("mine")
    refused = start(checkout, "demo")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "was made by somebody else, so it stays as it is: move it away and run again." in refused.stderr
    assert [path.name for path in (checkout / ".venv").iterdir()] == ["mine"]
