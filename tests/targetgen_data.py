"""Where are the specs that others wrote, and what the tool before us made of them? Beside the checkout, or nowhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

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
