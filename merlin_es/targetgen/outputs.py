"""How do files get into a target directory? Whole or not at all, nowhere else, and without what is no longer meant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from eventlog.disk import Disk, make_directories, replace_file
from merlin_es.errors import Refused
from merlin_es.targetgen.generation import BUNDLE, MUTATION, PROPOSED, TREE, is_as_written
from merlin_es.targetgen.names import is_inside

_DISK = Disk()


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write files by their paths below a directory; those that are there already with that text stay as they are."""
    make_directories(_DISK, directory)
    top = os.path.realpath(directory)
    for name, text in files.items():
        path = _confined(directory, top, name)
        content = text.encode()
        if _content(path) != content:
            make_directories(_DISK, path.parent)
            replace_file(_DISK, path, content)


def write_generation(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Write what was generated, and remove what an earlier generation wrote and this one does not.

    Returns what would have been removed and was kept, as somebody has edited it.
    """
    former = _former(directory)
    write(directory, files)
    return _remove(directory, former, files)


def remove_optional(directory: Path, optional: Iterable[str], files: Iterable[str]) -> None:
    """Remove the files that an overlay had brought, when there is none any more."""
    for name in set(optional) - set(files):
        with suppress(FileNotFoundError, NotADirectoryError):
            _DISK.unlink(directory / name)


def read_json(path: Path) -> Any:  # noqa: ANN401  whatever it holds
    """Return the document in a file, None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _former(directory: Path) -> dict[str, object]:
    """Return what the generation before wrote into its trees, by path, with the digest of each."""
    found: dict[str, object] = {}
    for bundle, key, tree in ((BUNDLE, "files", TREE), (MUTATION, "candidates", PROPOSED)):
        document = read_json(directory / bundle)
        entries = document.get(key) if isinstance(document, dict) else None
        for each in entries if isinstance(entries, list) else ():
            path = each.get("repo_path") if isinstance(each, dict) else None
            if isinstance(path, str) and is_inside(path):
                found[f"{tree}/{path}"] = each.get("sha256")
    return found


def _remove(directory: Path, former: Mapping[str, object], files: Mapping[str, str]) -> list[str]:
    top, kept = os.path.realpath(directory), []
    is_staged = MUTATION in files
    for name, digest in former.items():
        if name in files or (name.startswith(PROPOSED) and not is_staged):
            continue
        path = _confined(directory, top, name)
        content = _content(path)
        if content is None:
            continue
        if not is_as_written(content.decode(errors="replace"), digest):
            kept.append(name)
            continue
        _DISK.unlink(path)
        _remove_empty(path.parent, directory)
    return kept


def _remove_empty(path: Path, top: Path) -> None:
    with suppress(OSError):  # Something else is in it.
        while path != top:
            path.rmdir()
            path = path.parent


def _confined(directory: Path, top: str, name: str) -> Path:
    """Return where a file lies, and refuse one that a link would lead elsewhere."""
    path = directory / name
    parent = os.path.realpath(path.parent)
    if not is_inside(name) or not (parent == top or parent.startswith(f"{top}/")):
        raise Refused(f"{name} would lie outside of {directory}: remove the link that leads there")
    return path


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if not path.is_symlink() else None
    except OSError:
        return None
