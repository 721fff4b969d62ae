"""Where does the log of a stream lie?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from errno import ENOENT
from pathlib import Path
from typing import Protocol

from eventlog.archive import open_log
from eventlog.errors import Invalid
from eventlog.frame import LINE_BYTES_MAX
from eventlog.present import archive_path, has_log
from eventlog.record import check_stream, is_stream

LOG_NAME = "events.jsonl"
# A quote within a JSON string is escaped, so this can only be the key.
_NAME = re.compile(rb'\{"v":\d+,"seq":1,"id":".*?"stream":"([^"]*)"')


class Layout(Protocol):
    """Maps streams to files. Names are checked before they get here; directories from `top` down are made on demand."""

    @property
    def top(self) -> Path:
        """The directory that all logs lie under."""
        ...

    def path(self, stream: str) -> Path:
        """Give the log file of `stream`, whether it is there or not."""
        ...

    def streams(self) -> Iterator[str]:
        """Yield the streams that have a log, sorted by their parts."""
        ...


class Nested:
    """Every stream in the directory of its name: `<top>/<stream>/events.jsonl`."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def path(self, stream: str) -> Path:
        """Give the log file of `stream`."""
        return self.top / stream / LOG_NAME

    def streams(self) -> Iterator[str]:
        """Yield the streams that have a log, sorted by their parts; links are not followed."""
        for path in log_files(self.top):
            name = path.parent.relative_to(self.top).as_posix()
            # A first append that was interrupted may leave an empty file; and not every directory is ours.
            if is_stream(name) and has_log(path):
                yield name


class OneFile:
    """A single log file on its own, whose first line tells which stream it is."""

    def __init__(self, path: Path) -> None:
        self.top = path.parent
        self._path = path

    def path(self, stream: str) -> Path:  # noqa: ARG002  the port's signature
        """Give the file, whatever `stream` is: its first line decides whether they fit."""
        return self._path

    def streams(self) -> Iterator[str]:
        """Yield the one stream that the first line names; raises Invalid when it names none."""
        yield stream_of(self._path)


def log_files(top: Path) -> Iterator[Path]:
    """Yield every log file under `top`, archived ones by the name that they had, sorted; links are not followed."""
    for directory, children, files in os.walk(top):
        children.sort()
        if LOG_NAME in files or archive_path(Path(LOG_NAME)).name in files:
            yield Path(directory, LOG_NAME)


def stream_of(path: Path) -> str:
    """Give the stream that the first line of `path` names, even when it is torn; raises Invalid when it names none."""
    fd = open_log(path)
    if fd is None:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path))
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        match = _NAME.match(file.readline(LINE_BYTES_MAX))
    if match is None:
        raise Invalid(f"{path} does not begin with an event, so it does not say which stream it is: name the stream")
    return check_stream(match[1].decode(errors="replace"))
