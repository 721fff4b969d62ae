"""What has a run made, as far as was last looked? The fold of its log that becomes `artifacts.json`."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from projections.events.recorded import Recorded
from projections.events.run import (
    ArtifactsImported,
    ArtifactsIndexed,
    IndexPage,
    RunAdopted,
    RunEvent,
    RunForked,
    RunImported,
    RunRequested,
)


class Artifact(Struct, frozen=True):
    """A file as it was when it was indexed, at `created_at`; `captured` when its bytes lie in the blob store."""

    run_id: str
    name: str
    path: str
    kind: str
    size_bytes: int
    created_at: str
    sha256: str
    modified_at: str
    captured: bool


class ArtifactIndex(Struct, frozen=True):
    """The files of a run; None before anybody has looked. `omitted` says what is not among them, and why."""

    run_id: str = ""
    target_dir: str = ""
    files: tuple[Artifact, ...] | None = None
    omitted: tuple[str, ...] = ()


def evolve(index: ArtifactIndex, recorded: Recorded[RunEvent]) -> ArtifactIndex:
    """Apply one event; all but those that are matched say nothing of artifacts."""
    match recorded.event:
        case (
            RunRequested(run_id=run_id, target_dir=target_dir)
            | RunForked(run_id=run_id, target_dir=target_dir)
            | RunAdopted(run_id=run_id, target_dir=target_dir)
            | RunImported(run_id=run_id, target_dir=target_dir)
        ):
            # A run begins once.
            return index if index.run_id else replace(index, run_id=run_id, target_dir=target_dir)
        case (ArtifactsIndexed(page=page, omitted=omitted) | ArtifactsImported(page=page, omitted=omitted)) as event:
            files = _files(index, event, event.indexed_at if isinstance(event, ArtifactsImported) else recorded.time)
            if page == 1:
                return replace(index, files=files, omitted=omitted)
            return replace(index, files=(*(index.files or ()), *files), omitted=(*index.omitted, *omitted))
        case _:
            return index


def _files(index: ArtifactIndex, event: IndexPage, time: str) -> tuple[Artifact, ...]:
    directory = index.target_dir.rstrip("/")
    return tuple(
        Artifact(
            run_id=index.run_id,
            name=file.name,
            path=f"{directory}/{file.name}",
            kind=file.kind,
            size_bytes=file.size_bytes,
            created_at=time,
            sha256=file.sha256,
            modified_at=file.modified_at,
            captured=file.captured,
        )
        for file in event.files
    )
