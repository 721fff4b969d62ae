"""How is a run handed to somebody: as events for other tools, as a bundle for another state root, as a page to read?"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from typing import BinaryIO

import msgspec

import eventlog
from eventlog import Head
from merlin_es import bundle, page
from merlin_es.bundle import Content, Manifest
from projections import proving
from projections.layout import run_stream
from projections.projection import RUN_PROJECTION


@dataclass(frozen=True, slots=True)
class Exported:
    """What was handed out; `missing` are blobs that the log names and that are not in the store as they should be."""

    run_id: str
    head: Head
    events: int
    blobs: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exports:
    """Hands out the runs of one state root."""

    log: eventlog.FileLog
    blobs: eventlog.BlobStore

    def cloudevents(self, run_id: str, out: BinaryIO) -> Exported:
        """Write the log as CloudEvents 1.0, one JSON object a line."""
        head = Head(0, "")
        for event in self.log.read(run_stream(run_id)):
            out.write(json.dumps(eventlog.to_cloudevent(event), ensure_ascii=False).encode() + b"\n")
            head = event.head
        return Exported(run_id, head, head.seq)

    def tar(self, run_id: str, out: BinaryIO) -> Exported:
        """Write a bundle: the log, what is folded from it, and the blobs that it names."""
        stream = run_stream(run_id)
        with self.log.snapshot(stream) as (fd, size, head):
            named = bundle.Named()
            events = takewhile(lambda event: event.seq <= head.seq, self.log.read(stream))
            state, _ = RUN_PROJECTION.fold(map(named.take, events), RUN_PROJECTION.origin, head)
            files = {
                path.rpartition("/")[2]: content for path, content in RUN_PROJECTION.files(stream, state, head).items()
            }
            blobs, missing = self._blobs(named)
            manifest = Manifest(
                format=bundle.FORMAT,
                run_id=run_id,
                head=str(head),
                status=state.record.status if state.record else "",
                log=Content(size, bundle.digest_of(_chunks(fd, size))),
                files={name: Content(len(content), sha256(content).hexdigest()) for name, content in files.items()},
                blobs=blobs,
                missing_blobs=missing,
            )
            text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
            bundle.write(out, bundle.MANIFEST, len(text), io.BytesIO(text))
            with os.fdopen(os.dup(fd), "rb") as source:
                source.seek(0)
                bundle.write(out, bundle.LOG, size, source)
            for name, content in files.items():
                bundle.write(out, bundle.FILES + name, len(content), io.BytesIO(content))
            for digest, length in blobs.items():
                with self.blobs.path(digest).open("rb") as source:
                    bundle.write(out, bundle.BLOBS + digest, length, source)
            bundle.finish(out)
        return Exported(run_id, head, head.seq, len(blobs), missing)

    def html(self, run_id: str, out: BinaryIO) -> Exported:
        """Write a page that shows the run at each moment, needs nothing else, and checks the chain itself."""
        stream = run_stream(run_id)
        with self.log.snapshot(stream) as (fd, size, head):
            steps = proving.steps(RUN_PROJECTION, self.log.read(stream), RUN_PROJECTION.origin)
            shown = (
                (line, step.event, RUN_PROJECTION.files(stream, step.state, step.head))
                for line, step in zip(_lines(fd, size), steps, strict=False)
            )
            out.writelines(text.encode() for text in page.render(run_id, stream, shown))
        return Exported(run_id, head, head.seq)

    def _blobs(self, named: bundle.Named) -> tuple[dict[str, int], tuple[str, ...]]:
        """Give the blobs that are named and that the store has, with their sizes; and those that it should have."""
        there: dict[str, int] = {}
        missing = set()
        for digest, is_promised in sorted(named.digests.items()):
            try:
                size = self.blobs.verify(digest)
            except eventlog.BlobError:
                if is_promised:
                    missing.add(digest)
                continue
            if size <= bundle.MEMBER_BYTES_MAX:
                there[digest] = size
            else:
                missing.add(digest)
        return there, tuple(sorted(missing))


def _lines(fd: int, size: int) -> Iterator[bytes]:
    rest = b""
    for chunk in _chunks(fd, size):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _chunks(fd: int, size: int) -> Iterator[bytes]:
    offset = 0
    while offset < size and (chunk := os.pread(fd, min(1024 * 1024, size - offset), offset)):
        yield chunk
        offset += len(chunk)
