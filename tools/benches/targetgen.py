"""How fast is a plan made, beside a Python that only imports what planners import?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from benches.programs import ROOT, Programs
from benches.race import OURS, Goal, Row, race, timed
from merlin_es.targetgen import inputs, planning
from merlin_es.targetgen.preparing import prepare

EXAMPLE = "gemmini"
_IMPORTS = "import typer, pydantic, yaml, jinja2"
_SPEC = ROOT / "merlin_es" / "targetgen" / "examples" / EXAMPLE / "capability.yaml"


def rows(directory: Path, quick: bool) -> Iterator[Row]:
    """Measure planning as a program and as a call, with files in `directory`."""
    rounds = 5 if quick else 40
    yield from _program_rows(directory, rounds)
    yield from _call_rows(directory, 3 if quick else 30)


def _program_rows(directory: Path, rounds: int) -> Iterator[Row]:
    programs = Programs(directory / "programs")
    (directory / "programs" / "pyproject.toml").touch()  # This is the workspace, whatever lies above it.
    turns = {
        "the imports": programs.running(programs.python(_IMPORTS)),
        "plan": programs.running(programs.targetgen("plan", "--example", EXAMPLE)),
        "validate": programs.running(programs.targetgen("validate", "--example", EXAMPLE)),
        "stage-mutation": programs.running(programs.targetgen("stage-mutation", "--example", EXAMPLE)),
        "orchestrate": programs.running(programs.targetgen("orchestrate", "--example", EXAMPLE)),
    }
    least, plan, validate, stage, orchestrate = race(turns, rounds, speed=False)
    yield Row("`targetgen plan` of an example", "ms", Goal(False, 1.3, 2.0), least, plan, (validate, stage))
    yield Row("`targetgen orchestrate` of an example", "ms", Goal(False, 1.6, 3.0), least, orchestrate)


def _call_rows(directory: Path, rounds: int) -> Iterator[Row]:
    text = _SPEC.read_text(encoding="utf-8")
    spec = inputs.example(EXAMPLE)
    read = inputs.read(spec, None)
    fragments = inputs.library(read, directory)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    turns = {
        "yaml alone": lambda: timed(20, lambda: [yaml.load(text, Loader=loader) for _ in range(20)]),
        OURS: lambda: timed(20, lambda: [inputs.read(spec, None) for _ in range(20)]),
        "plan()": lambda: timed(20, lambda: [planning.plan(read.capability).files() for _ in range(20)]),
        "prepare()": lambda: timed(
            1, lambda: prepare(read.capability, None, "manualllm", None, None, "/t", fragments=fragments)
        ),
    }
    alone, ours, plan, prepared = race(turns, rounds, speed=False)
    yield Row("read and check a spec", "ms", Goal(False, 2.0, 4.0), alone, ours, (plan, prepared))
