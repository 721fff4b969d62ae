"""Where are the specs that others wrote, and what the tool before us made of them? Beside the checkout, or nowhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from merlin_es.targetgen import normalising, planning
from merlin_es.targetgen.inputs import EXAMPLES
from merlin_es.targetgen.planning import Plan
from merlin_es.targetgen.yaml_text import parse
from tests.examples import ROOT

SHARED = Path(os.environ.get("MERLIN_SHARED") or ROOT.parent / "shared") / "data" / "targetgen"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the data of the tool before us is not beside the checkout"
)


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of one oracle."""
    return [json.loads(line) for line in (SHARED / "oracles" / name).read_text().splitlines()]


def example_names() -> list[str]:
    """Return the names of the real specs, none where there is no data."""
    return sorted(path.name for path in (SHARED / "examples").glob("*"))


def example(name: str) -> dict[str, Any]:
    """Return what the tool before us made of a real spec."""
    found: dict[str, Any] = json.loads((SHARED / "oracles" / "examples" / f"{name}.json").read_text())
    return found


def example_paths(name: str) -> tuple[Path, Path]:
    """Return a real spec and its overlay."""
    directory = SHARED / "examples" / name
    return directory / "capability.yaml", next((directory / "overlays").glob("*.yaml"))


def spec(name: str = "saturn_opu", **changes: object) -> dict[str, Any]:
    """Return a spec that comes with Merlin, with some of its values replaced: `isa__base="x"`, or `...` to remove."""
    found = parse((EXAMPLES / name / "capability.yaml").read_text(), name)
    assert isinstance(found, dict)
    return changed(found, changes)


def overlay(name: str = "saturn_opu", **changes: object) -> dict[str, Any]:
    """Return the overlay that comes with an example, changed likewise."""
    found = parse(next((EXAMPLES / name / "overlays").glob("*.yaml")).read_text(), name)
    assert isinstance(found, dict)
    return changed(found, changes)


def changed(document: dict[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Return a document after some of its values were replaced or removed."""
    for path, value in changes.items():
        *parts, last = path.split("__")
        holder = document
        for part in parts:
            holder = holder.setdefault(part, {})
        if value is ...:
            del holder[last]
        else:
            holder[last] = value
    return document


def planned(document: dict[str, Any], deployment: dict[str, Any] | None = None) -> Plan:
    """Return the plan of a spec and an overlay that are at hand."""
    target = normalising.capability(document, "spec/capability.yaml")
    return planning.plan(target, normalising.deployment(deployment, "spec/overlay.yaml") if deployment else None)
