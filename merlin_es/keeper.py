"""What is kept of an attempt when it has ended, so that it can be read when the cluster is gone?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import eventlog
from merlin_es import waiting
from merlin_es.errors import ClusterError
from merlin_es.failpoints import reach
from merlin_es.ports import JobServer
from projections.cluster import ClusterRecord
from projections.events.run import ArtifactsIndexed, LogsCaptured, Outcome, RunEvent
from projections.run_record import Attempt, RunRecord

if TYPE_CHECKING:
    from merlin_es.redaction import Rules


class Keeper(msgspec.Struct, frozen=True):
    """Keeps the driver's output and the index of the artifacts; `secrets` gives the rules on what is one."""

    state_root: Path
    blobs: eventlog.BlobStore
    secrets: Callable[[], Rules]

    def keep(
        self, record: RunRecord, events: Sequence[RunEvent], server: JobServer | None, cluster: ClusterRecord
    ) -> tuple[RunEvent, ...]:
        """Give what is kept at the end that `events` tell of."""
        attempt = record.attempt
        if attempt is None:
            return ()
        kept: list[RunEvent] = []
        if attempt.logs_sha256 is None:
            kept.append(self.logs(attempt, server, cluster, self.rules_of(record)))
        if not any(event.type == "run.attempt_failed" for event in events):
            kept.extend(self.artifacts(record))
        return tuple(kept)

    def last_word(self, record: RunRecord, event: RunEvent) -> RunEvent:
        """Give an outcome with what a plan that was carried out in order waits for, as long as that is known."""
        if event.type not in ("run.completed", "run.failed") or record.cancel_requested_at:
            return event
        said = waiting.advice(record.request.workflow, record.request.target_dir)
        return msgspec.structs.replace(event, message=said) if said else event

    def rules_of(self, record: RunRecord) -> Rules:
        """Give the rules on what is a secret, with those of the run itself."""
        from merlin_es.vault import Vault

        hidden = Vault(self.state_root).get(record.run_id) if record.request.redacted else None
        return self.secrets().knowing(hidden.env) if hidden else self.secrets()

    def without_secrets(self, record: RunRecord, event: RunEvent) -> RunEvent:
        """Give an outcome without what Ray quotes of the output, where that is a secret."""
        if not isinstance(event, Outcome):
            return event
        rules = self.rules_of(record)
        said = {name: text for name in ("message", "ray_message") if (text := getattr(event, name))}
        cleaned = {name: clean for name, text in said.items() if (clean := rules.clean(text)) != text}
        if not cleaned:
            return event
        return msgspec.structs.replace(event, **cleaned, redacted=(*event.redacted, *cleaned))

    def logs(self, attempt: Attempt, server: JobServer | None, cluster: ClusterRecord, rules: Rules) -> LogsCaptured:
        """Store the driver's output, without secrets; where nobody has it any more, say so."""
        reach("logs.before")
        content, why = None, "nobody could be asked"
        if server:
            try:
                content = server.logs(attempt.submission_id)
                why = "Ray has no log of it"
            except ClusterError as error:
                why = str(error)
        if content is None:
            content = driver_log(attempt, cluster)
        reach("logs.after")
        if content is None:
            return LogsCaptured(attempt=attempt.number, sha256="", size_bytes=0, not_captured=why)
        content, redacted = rules.clean_output(content)
        digest = self.blobs.put(content)
        return LogsCaptured(attempt=attempt.number, sha256=digest, size_bytes=len(content), redacted=redacted)

    def artifacts(self, record: RunRecord) -> tuple[ArtifactsIndexed, ...]:
        """Index what lies in the target directory now."""
        from merlin_es import artifacts

        reach("artifacts.before")
        request = record.request
        index = artifacts.index(Path(request.target_dir), request.captures, self.blobs, excluded=(self.state_root,))
        reach("artifacts.after")
        return artifacts.pages(index)


def driver_log(attempt: Attempt, cluster: ClusterRecord) -> bytes | None:
    """Read the driver's output where a head of ours has left it, dead or alive."""
    path = driver_log_path(attempt, cluster)
    try:
        return path.read_bytes() if path else None
    except OSError:
        return None


def driver_log_path(attempt: Attempt, cluster: ClusterRecord) -> Path | None:
    """Give the file that a head on this host writes the driver's output to."""
    if cluster.temp_dir is None or "/" in attempt.session_name or not attempt.session_name:
        return None
    return Path(cluster.temp_dir, attempt.session_name, "logs", f"job-driver-{attempt.submission_id}.log")
