"""What comes of words that somebody types, without a process for each? Most of the time of one is its start."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from merlin_es import cli


@dataclass(frozen=True)
class Typed:
    """What a program has printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def typed(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> Typed:
    """Give what `merlin …` does; raises what a user would see as a traceback."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")}
    environment = {**kept, "MERLIN_FSYNC": "off", **(env or {})}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["merlin", *words]),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(warnings, "formatwarning", warnings.formatwarning),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            cli.main()
        except SystemExit as done:
            code = done.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    assert isinstance(code, int)
    return Typed(code, *(_text(stream) for stream in (out, err)))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()
