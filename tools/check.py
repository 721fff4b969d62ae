"""Is this checkout fit to push? Format, lint, types, imports and tests, in this order, up to the first that fails.

The one test command, for people and for CI. Arguments go to pytest: `python3 tools/check.py -k torn`.

The tests share a machine with each other, and some start Ray heads or kill processes at random. Where AGAIN_MAX of them
fail or fewer, these run again, one after the other with the machine to themselves. What fails again has failed. What
does not is unsteady: it is named at the end, and is a defect of that test or of what it tests, to be mended.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

AGAIN_MAX = 3
SOME_TESTS_FAILED = 1  # By pytest's own table of exit codes; all others mean that it did not run as asked.

PYTHON = str(environment.PYTHON.relative_to(environment.ROOT))
CHECKS = (
    [PYTHON, "-m", "ruff", "format", "--check", "."],
    [PYTHON, "-m", "ruff", "check", "."],
    [PYTHON, "-m", "mypy"],
    [PYTHON, PYTHON.replace("python", "lint-imports"), "--no-logo"],  # It has no `-m`.
)
PYTEST = [PYTHON, "-m", "pytest"]


def main() -> int:
    """Run every check; return the exit code of the first that fails."""
    try:
        environment.require_python()
        environment.enter()
    except environment.Unready as reason:
        environment.say(str(reason))
        return reason.exit_code
    for command in CHECKS:
        failure = run(command)
        if failure:
            return failure
    return test(sys.argv[1:])


def test(arguments: "list[str]") -> int:
    """Run the tests, and the few that failed once more alone; the exit code of the last pytest."""
    with tempfile.TemporaryDirectory() as directory:
        noted = Path(directory, "failed")
        noted.touch()
        failure = run([*PYTEST, *arguments], CHECK_FAILED_TESTS=str(noted))
        failed = noted.read_text().splitlines()
    if failure == SOME_TESTS_FAILED and 0 < len(failed) <= AGAIN_MAX:
        print(f"check: {len(failed)} failed; once more, alone", flush=True)
        failure = run([*PYTEST, "--numprocesses=0", *failed])
        for name in failed if not failure else ():
            print(f"check: unsteady, mend it: {name}")
    if not failure:
        print("check: all passed")
    return failure


def run(command: "list[str]", **variables: str) -> int:
    """Run one check at the root of the checkout; its exit code, as a shell would give it."""
    print(f"$ {shlex.join(command)}", flush=True)
    path = [str(environment.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables["PYTHONPATH"] = os.pathsep.join(path)
    code = subprocess.call(command, cwd=environment.ROOT, env={**os.environ, **variables})
    if code:
        print(f"check: failed with exit code {code}: {shlex.join(command)}", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
