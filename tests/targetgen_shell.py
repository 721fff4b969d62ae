"""How does a test type `merlin targetgen …`? In this process, as `main` would run it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from merlin_es import cli
from merlin_es.targetgen import outputs
from tests.examples import unsynced


@dataclass(frozen=True)
class Done:
    """What a call left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Typed = Callable[..., Done]


def typed_in(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Return a function that types words behind `merlin targetgen` in a directory."""
    monkeypatch.chdir(directory)
    monkeypatch.setattr(outputs, "_DISK", unsynced())
    monkeypatch.setenv("MERLIN_FSYNC", "off")
    monkeypatch.setattr(warnings, "warn", lambda *_text, **_more: None)  # Of what we have just switched off.
    monkeypatch.setattr(cli, "_prepare", lambda: None)  # Signals stay those of pytest.

    def typed(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["merlin", "targetgen", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        written = capsys.readouterr()
        return Done(int(end.value.code or 0), written.out, written.err)

    return typed


def tree(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, with its content."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }
