"""How does a worker of Ray get the variables of its job without importing Ray for that?

Ray starts each job by a program of this name, which sets variables and then becomes the worker. Ray's own imports all
of Ray to do so, and the worker does it again: half a second of CPU for each job. This one needs nothing but Python.
"""

import json
import os
import re
import shlex
import sys
from typing import Any

CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="


def main() -> None:
    """Become the worker that the arguments name."""
    context: dict[str, Any] = {}
    words = []
    for word in sys.argv[1:]:
        if word.startswith(CONTEXT):
            context = json.loads(word.removeprefix(CONTEXT))
        elif not word.startswith(LANGUAGE):
            words.append(word)
    for name, value in context.get("env_vars", {}).items():
        os.environ[name] = re.sub(r"\$\{[A-Z0-9_]+\}", "", os.path.expandvars(value))
    command = [*context.get("command_prefix", []), "exec", context.get("py_executable", sys.executable)]
    os.execvp("bash", ["bash", "-c", " ".join([*command, *map(shlex.quote, words)])])


if __name__ == "__main__":
    main()
