"""Which of the artifacts that the old tool listed can be listed here, and fetched?

It took no digests. A file that has the size it was listed with, and was not written to since, is taken for the one that
was listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from merlin_es import artifacts
from merlin_es.commands import ImportRun
from merlin_es.old_files import Artifact, moment
from merlin_es.tree import Tree, Unfit, shown
from projections.events.run import ArtifactSeen, ArtifactsImported


def pages(command: ImportRun, listed: Sequence[Artifact]) -> tuple[ArtifactsImported, ...]:
    """Give the events that list again what was listed; names that lead out of the target directory are omitted."""
    indexed_at = max((moment(each.created_at) or "" for each in listed), default="") or command.updated_at
    files: dict[str, ArtifactSeen] = {}
    omitted: list[str] = []
    with ExitStack() as stack:
        try:
            tree = stack.enter_context(Tree(Path(command.target_dir)))
        except OSError:
            tree = None
        for each in listed:
            if name := _name(each, command.target_dir):
                files[name] = _seen(each, name, tree, indexed_at)
            else:
                omitted.append(f"{shown(each.name)}: it is not in the target directory ({shown(each.path)})")
    in_order = tuple(sorted(files.values(), key=lambda file: file.name))
    index = artifacts.Index(in_order, artifacts.bounded(omitted))
    return tuple(
        ArtifactsImported(
            page=page.page, pages=page.pages, files=page.files, omitted=page.omitted, indexed_at=indexed_at
        )
        for page in artifacts.pages(index)
    )


def _seen(listed: Artifact, name: str, tree: Tree | None, indexed_at: str) -> ArtifactSeen:
    modified_at = ""
    if tree and (found := _size_and_time(tree, name)) and found[0] == listed.size_bytes and found[1] <= indexed_at:
        modified_at = found[1]
    return ArtifactSeen(name=name, kind=listed.kind, size_bytes=listed.size_bytes, sha256="", modified_at=modified_at)


def _size_and_time(tree: Tree, name: str) -> tuple[int, str] | None:
    try:
        with tree.open(name) as fd:
            return artifacts.size_and_time(fd)
    except (OSError, Unfit):
        return None


def _name(listed: Artifact, target_dir: str) -> str | None:
    """Give the name below the target directory, None where what is listed does not lie there."""
    path = PurePosixPath(listed.path)
    if not path.is_absolute():
        path = PurePosixPath(listed.name)  # It is relative to nobody knows what.
    elif path.is_relative_to(target_dir):
        path = path.relative_to(target_dir)
    leads_out = path.is_absolute() or ".." in path.parts or "\0" in str(path)
    return None if leads_out or not path.parts else str(path)
