"""Does the shim of the tests' heads become the very worker that Ray's own becomes?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.ray_cluster import SHIM

WORKER = "import json, os, sys; print(json.dumps([sys.argv, dict(os.environ), os.getcwd(), os.getpid()]))"


def test_it_sets_the_same_variables_and_executes_the_same_words(tmp_path: Path) -> None:
    worker = tmp_path / "a worker.py"
    worker.write_text(WORKER)
    context = {
        "command_prefix": ["cd", str(tmp_path), "&&"],
        "env_vars": {"A": "x ${HOME}:${NO_SUCH} $y 'z\"", "B": "", "PATH": "/more:${PATH}"},
        "py_executable": sys.executable,
        "override_worker_entrypoint": None,
        "java_jars": [],
    }
    package = find_spec("ray")
    assert package
    assert package.origin
    said = []
    for shim in (SHIM, Path(package.origin).parent / "_private" / "workers" / "setup_worker.py"):
        argv = [sys.executable, str(shim), str(worker), "--worker-id=it's $HOME", "--node-id="]
        argv += [f"--serialized-runtime-env-context={json.dumps(context)}", "--language=PYTHON"]
        process = subprocess.Popen(argv, env={"HOME": "/h", "PATH": os.environ["PATH"]}, stdout=subprocess.PIPE)
        words, variables, directory, pid = json.loads(process.communicate()[0])
        assert pid == process.pid, "it has become the worker"
        variables.pop("RAY_CLIENT_MODE", None)  # Whoever imports Ray sets it, and a worker does.
        said.append((words, variables, directory))
    assert said[0] == said[1]
    assert said[0][0][1:] == ["--worker-id=it's $HOME", "--node-id="]
