"""Is what the documentation says still true?"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import eventlog
from eventlog.__main__ import EXIT_CODES, EXIT_UNREADABLE
from tests.examples import ROOT

README = (ROOT / "README.md").read_text()
EVENTLOG_README = (ROOT / "eventlog" / "README.md").read_text()


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_first_two_commands_of_the_readme_are_all_that_a_fresh_clone_needs() -> None:
    commands = re.findall(r"^\$ (.*)$", README, re.MULTILINE)
    assert commands[:2] == ["python3 tools/merlin.py demo", "python3 tools/check.py"]


def test_the_commands_of_the_readme_that_run_something_can_be_typed_as_they_stand(tmp_path: Path) -> None:
    block = re.findall(r"^## Run something\n\n```console\n(.*?)```", README, re.MULTILINE | re.DOTALL)[0]
    path, start, *submit, listing, stop = re.sub(r"^\$ ", "", block, flags=re.MULTILINE).splitlines()
    assert start == "merlin ray cluster start-local"  # With a cluster: tests/e2e.
    workspace = tmp_path / "work"
    workspace.mkdir()
    (tmp_path / "python3").symlink_to(sys.executable)
    words = ["\n".join(submit), listing, stop, submit[-1].strip()]
    script = "\n".join([path, f"cd {workspace}", *(f"{line}; echo exit $?" for line in words)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}
    variables = {**kept, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": sysconfig.get_path("purelib")}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert re.findall(r"^exit (\d+)$", done.stdout, re.MULTILINE) == ["5", "0", "0", "0"], done.stdout + done.stderr
    assert done.stdout.count("blocked") == 2
    assert (workspace / "build" / "out" / "host.txt").is_file()


def test_ci_runs_exactly_the_second_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    work = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert work == ["exec python3 tools/check.py"]


def test_the_exit_codes_in_the_readme_are_those_of_the_code() -> None:
    documented = dict(re.findall(r"^\| (\d+) \| (\w+)", README, re.MULTILINE))
    assert {documented[str(code)]: code for code in (3, 4)} == {"torn": 3, "corrupt": 4}
    assert EXIT_CODES == {"whole": 0, "torn": 3, "corrupt": 4}
    assert str(EXIT_UNREADABLE) in documented


def test_the_example_of_the_eventlog_readme_runs(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", EVENTLOG_README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "read what is new, decide again" in done.stdout
    assert "invoice.paid {'amount': 1200}" in done.stdout


def test_every_test_that_a_readme_names_exists() -> None:
    readmes = [*ROOT.glob("*/README.md"), *ROOT.glob("merlin_es/*/README.md")]
    named = set(re.findall(r"`(test_\w+)`", "".join(path.read_text() for path in readmes)))
    written = set(
        re.findall(r"^def (test_\w+)", "".join(p.read_text() for p in ROOT.glob("tests/**/*.py")), re.MULTILINE)
    )
    assert named
    assert named <= written


def test_every_module_is_in_the_table_with_the_question_that_its_docstring_asks() -> None:
    table = EVENTLOG_README.partition("## Modules")[2]
    for path in (ROOT / "eventlog").glob("*.py"):
        if path.stem.startswith("__"):
            continue
        assert f"`{path.stem}`" in table
        assert "?" in str(ast.get_docstring(ast.parse(path.read_text()))).partition("\n\n")[0]


def test_every_module_of_targetgen_is_in_its_table_with_the_question_that_its_docstring_asks() -> None:
    table = (ROOT / "merlin_es" / "targetgen" / "README.md").read_text().partition("## Modules")[2]
    for path in (ROOT / "merlin_es" / "targetgen").glob("*.py"):
        if path.stem.startswith("__"):
            continue
        asked = " ".join(str(ast.get_docstring(ast.parse(path.read_text()))).split()).partition("?")[0]
        assert f"| `{path.stem}` | {asked}? |" in table


@pytest.mark.parametrize("package", ["eventlog", "projections", "merlin_es"])
def test_no_file_names_a_machine_or_a_registry(package: str) -> None:
    for path in [*(ROOT / package).rglob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "requirements.lock"]:
        assert not re.search(r"/(home|root|work)/|https?://(pypi|files)\.", path.read_text()), path


def test_the_package_offers_what_it_lists() -> None:
    assert sorted(eventlog.__all__) == eventlog.__all__ or len(set(eventlog.__all__)) == len(eventlog.__all__)
    assert all(hasattr(eventlog, name) for name in eventlog.__all__)


def test_looking_into_a_log_needs_no_pydantic_no_rich_and_no_watcher() -> None:
    program = "import sys, eventlog.__main__; print(*sorted(sys.modules))"
    done = run([sys.executable, "-c", program], ROOT)
    loaded = set(done.stdout.split())
    assert "msgspec" in loaded, done.stderr
    assert not loaded & {"pydantic", "rich", "watchfiles", "inotify_simple", "typer", "asyncio", "merlin_es"}


def test_the_entry_knows_which_modules_merlin_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=;\[\s]", text)[0].replace("-", "_") for text in project["dependencies"]}
    names = names - {"pyyaml"} | {"yaml"}
    entry = (ROOT / "tools" / "merlin.py").read_text()
    assert names == set(ast.literal_eval(re.findall(r"^NEEDED = (\(.*\))", entry, re.MULTILINE)[0]))


def test_every_dependency_says_in_one_line_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    assert all("  # " in line for line in lines if re.match(r'  "[a-z-]+>=', line))
