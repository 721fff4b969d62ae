"""Is there a log at a path, as it was written or archived? Answered without a decoder."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".zst"
"""What the name of an archived log has behind that of the log."""


def archive_path(path: Path) -> Path:
    """Give where the log at `path` lies once it is archived."""
    return path.with_name(path.name + SUFFIX)


def has_log(path: Path) -> bool:
    """Tell whether something was recorded in the log at `path`; a first append that is interrupted leaves it empty."""
    return _size(path) > 0 or _size(archive_path(path)) > 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return 1  # Something is there; whoever reads it is told why it cannot be read.
