"""What is done about a run: submit it, stop it, end its supervisor. One step a look, and any may be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct, field

import eventlog
from merlin_es.cluster_link import ClusterLink, Link
from merlin_es.deciders import run as rules
from merlin_es.deciders.look import Act
from merlin_es.errors import JobExists, MerlinError, Rejected, Unauthorized, Unreachable
from merlin_es.failpoints import reach
from merlin_es.ledger import Ledger
from merlin_es.ports import Host, RayJob, Witnesses
from merlin_es.submission import ATTEMPT, RUN, Submissions
from projections.events.run import RunEvent, RunSubmitted, SubmissionFailed
from projections.run_record import Attempt, RunRecord

STOP_EVERY_S = 3.0


class Steps(Struct):
    """Acts on the cluster for runs; what an answer says at once is recorded at once."""

    ledger: Ledger
    cluster: ClusterLink
    witnesses: Witnesses
    submissions: Submissions
    host: Host
    _stopped: dict[str, float] = field(default_factory=dict)

    def take(self, record: RunRecord, act: Act, link: Link | None) -> None:
        """Take the next step; what comes of it is seen by the next look, or recorded where the answer says it."""
        if act == "intend":
            self._submit_first(record, link)
        elif act == "submit" and link:
            self._submit(record, link)
        elif act == "stop":
            self._stop(record, link)
        elif act == "reap" and link:
            self._reap(record, link)

    def stop_superseded(self, jobs: Mapping[str, RayJob], link: Link) -> None:
        """End what still lives of attempts that were lost, and have been repeated since."""
        for job in jobs.values():
            number = job.metadata.get(ATTEMPT, "")
            if job.is_terminal or not self.submissions.is_ours(job) or not number.isdecimal():
                continue
            row = self.ledger.index.row(job.metadata[RUN])
            if row and row.submission_id != job.submission_id and int(number) < _attempt_of(row.submission_id):
                with suppress(Unreachable, Unauthorized):
                    link.server.stop(job.submission_id)

    def _submit_first(self, record: RunRecord, link: Link | None) -> None:
        """Record the wish, and submit; without a cluster that answers, record that the run is blocked."""
        if link is None:
            reason, message = self.cluster.why_not()
            self.ledger.change_run(record.run_id, lambda known: rules.block(reason, message, _there(known)))
            return
        try:
            package, omitted = self.submissions.package(record, link.server)
        except (MerlinError, eventlog.EventLogError) as error:
            message = str(error)
            self.ledger.change_run(record.run_id, lambda known: rules.block("package", message, _there(known)))
            return
        entrypoint = self.submissions.entrypoint(record, rules.next_attempt(record))
        address, session_name = link.server.address, link.session.session_name
        intended = self.ledger.change_run(
            record.run_id,
            lambda known: rules.intend(_there(known), address, session_name, entrypoint, package, omitted),
        )
        if intended.attempt and intended.attempt.status == "intended":
            self._submit(intended, link)

    def _submit(self, record: RunRecord, link: Link) -> None:
        """Give the intended attempt to Ray. Any doubt is left to the next look: the same id cannot run twice."""
        attempt = record.attempt
        assert attempt  # noqa: S101  decided on it
        reach("submit.before")
        if reason := self._forgotten(record):
            never = SubmissionFailed(attempt=attempt.number, http_status=0, message=reason)
            self.ledger.change_run(record.run_id, lambda known: _if_still_intended(known, attempt, never))
            return
        try:
            link.server.submit(self.submissions.submission(record, attempt))
        except JobExists:
            event = self._whose_is(record, attempt, link)
        except Rejected as error:
            event = SubmissionFailed(attempt=attempt.number, http_status=error.http_status, message=str(error))
        except (Unreachable, Unauthorized):
            event = None
        else:
            event = self._submitted(attempt, link, "answered")
        reach("submit.after")
        if event:
            self.ledger.change_run(record.run_id, lambda known: _if_still_intended(known, attempt, event))

    def _forgotten(self, record: RunRecord) -> str | None:
        """Say which secrets of a run are needed and gone, and what to do; None where all is there."""
        from merlin_es.redaction import needed

        places = needed(record.request.redacted or ())
        vault = self.submissions.vault
        if not places or vault.get(record.run_id) is not None:
            return None
        return (
            f"{', '.join(places)} was never recorded, and {vault.path(record.run_id)}, where it was kept, is gone: "
            "submit it again as a new run"
        )

    def _whose_is(self, record: RunRecord, attempt: Attempt, link: Link) -> RunEvent | None:
        try:
            job = link.server.job(attempt.submission_id)
        except (Unreachable, Unauthorized):
            return None
        if job is None:
            return None
        if self.submissions.is_of(job, record.run_id):
            return self._submitted(attempt, link, "repeated")
        message = f"the cluster has a job {attempt.submission_id} of somebody else: submit again as a new run"
        return SubmissionFailed(attempt=attempt.number, http_status=500, message=message)

    def _submitted(self, attempt: Attempt, link: Link, how: str) -> RunSubmitted:
        return RunSubmitted.made_of(
            {
                "attempt": attempt.number,
                "submission_id": attempt.submission_id,
                "session_name": link.session.session_name,
                "how": how,
            }
        )

    def _stop(self, record: RunRecord, link: Link | None) -> None:
        """Keep the run from starting, durably; then have Ray stop it, again and again until a look says it ended."""
        attempt = record.attempt
        reach("forbid.before")
        self.witnesses.forbid(record.run_id)
        reach("forbid.after")
        if link is None or attempt is None:
            return
        last = self._stopped.get(attempt.submission_id)
        if last is not None and self.host.monotonic() - last < STOP_EVERY_S:
            return
        reach("stop.before")
        with suppress(Unreachable, Unauthorized):
            link.server.stop(attempt.submission_id)
            self._stopped[attempt.submission_id] = self.host.monotonic()
        reach("stop.after")

    def _reap(self, record: RunRecord, link: Link) -> None:
        assert record.attempt  # noqa: S101  decided on it
        self.witnesses.forbid(record.run_id)
        reach("reap.before")
        with suppress(JobExists, Rejected, Unreachable, Unauthorized):
            link.server.submit(self.submissions.reaper(record, record.attempt))
        reach("reap.after")


def _if_still_intended(known: RunRecord | None, attempt: Attempt, event: RunEvent) -> tuple[RunEvent, ...]:
    """Give the event unless somebody else has found out and recorded it meanwhile."""
    current = _there(known).attempt
    still = current is not None and current.number == attempt.number and current.status == "intended"
    return (event,) if still else ()


def _attempt_of(submission_id: str | None) -> int:
    """Give the number of the attempt that has this submission id."""
    _, separator, number = (submission_id or "").rpartition("-a")
    return int(number) if separator and number.isdecimal() else 1


def _there(record: RunRecord | None) -> RunRecord:
    assert record is not None  # noqa: S101  a run is never taken away
    return record
