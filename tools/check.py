"""Is this checkout fit to push? Format, lint, types, imports and tests, in this order, up to the first that fails.

The one test command, for people and for CI. Arguments go to pytest: `python3 tools/check.py -k torn`.
"""

import os
import shlex
import subprocess
import sys

import environment

PYTHON = str(environment.PYTHON.relative_to(environment.ROOT))
CHECKS = (
    [PYTHON, "-m", "ruff", "format", "--check", "."],
    [PYTHON, "-m", "ruff", "check", "."],
    [PYTHON, "-m", "mypy"],
    [PYTHON, PYTHON.replace("python", "lint-imports"), "--no-logo"],  # It has no `-m`.
    [PYTHON, "-m", "pytest", *sys.argv[1:]],
)


def main() -> int:
    """Run every check; return the exit code of the first that fails."""
    try:
        environment.require_python()
        environment.enter()
    except environment.Unready as reason:
        environment.say(str(reason))
        return 2
    for command in CHECKS:
        print(f"$ {shlex.join(command)}", flush=True)
        failure = run(command)
        if failure:
            print(f"check: failed with exit code {failure}: {shlex.join(command)}", file=sys.stderr)
            return failure
    print("check: all passed")
    return 0


def run(command: "list[str]") -> int:
    """Run one check at the root of the checkout; its exit code, as a shell would give it."""
    path = [str(environment.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    code = subprocess.call(command, cwd=environment.ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(path)})
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
