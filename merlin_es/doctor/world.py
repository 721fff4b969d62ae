"""Is there a Ray, does the cluster answer, and does it run anything that nobody asks for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from merlin_es.cluster_link import process_of, require_ours
from merlin_es.counts import counted
from merlin_es.doctor.finding import Finding
from merlin_es.errors import ClusterError, ListUnreadable, RayMissing, Usage
from merlin_es.ledger import Ledger
from merlin_es.ports import Heads, JobServer, RayJob, Session
from merlin_es.submission import HELPER, LEDGER, RUN
from projections.cluster import ClusterRecord
from projections.layout import LEDGER as LEDGER_STREAM

Connect = Callable[[str, Path | None], JobServer]


def ray(find: Callable[[], Path]) -> Iterator[Finding]:
    """Say whether this host can start a head."""
    try:
        yield Finding("ray", "fine", f"found at {find()}")
    except RayMissing as error:
        yield Finding(
            "ray", "warning", str(error), 'pip install "ray[default]", or `merlin ray cluster attach ADDRESS`'
        )


def cluster(ledger: Ledger, heads: Heads, connect: Connect, left: Callable[[], int]) -> Iterator[Finding]:
    """Ask the recorded cluster for a sign of life, and for jobs that should not be; nothing of that is recorded."""
    record = ledger.cluster()
    if record.status != "active" or not record.dashboard_url:
        yield Finding("cluster", "note", f"none is in use ({record.status})", "merlin ray cluster start-local")
        if count := left():
            what = f"{count} processes of a head run here that no record names"
            yield Finding("cluster", "warning", what, "merlin ray cluster stop")
        return
    process = process_of(record)
    alive = process is None or heads.is_alive(process)
    try:
        server = connect(record.dashboard_url, Path(record.token_path) if record.token_path else None)
        session = server.session()
        require_ours(record, session, alive=alive)
    except (ClusterError, Usage) as error:
        gone = "" if alive else f"its head (process {record.pid}) is gone; "
        mend = "merlin ray cluster stop, then start-local or attach" if alive else "merlin ray cluster start-local"
        yield Finding("cluster", "error", f"{record.dashboard_url} does not answer: {gone}{error}", mend)
        return
    yield _answering(record, session)
    yield from _jobs(ledger, server)


def _answering(record: ClusterRecord, session: Session) -> Finding:
    if record.session_name and record.session_name != session.session_name:
        what = f"{record.dashboard_url} is in another session than recorded: it has forgotten every job from before"
        return Finding("cluster", "warning", what, "merlin ray reconcile --once")
    return Finding("cluster", "fine", f"{record.dashboard_url} answers, Ray {session.ray_version}")


def _jobs(ledger: Ledger, server: JobServer) -> Iterator[Finding]:
    """Name the jobs of this ledger that live on without a run, or after it has ended."""
    ours = next((event.id for event in ledger.log.read(LEDGER_STREAM)), None)
    try:
        jobs = [job for job in server.jobs() if ours and job.metadata.get(LEDGER) == ours and not job.is_terminal]
    except ListUnreadable as error:
        yield Finding("jobs", "warning", str(error), "delete that job with Ray's own tools")
        return
    except ClusterError as error:
        yield Finding("jobs", "warning", str(error), "ask again: merlin ray doctor")
        return
    orphans = [finding for job in jobs if (finding := _orphan(ledger, job))]
    yield from orphans
    if not orphans:
        yield Finding("jobs", "fine", f"{counted(len(jobs), 'job')} of this state root alive, each for a run that is")


def _is_forbidden(ledger: Ledger, run_id: str) -> bool:
    """Tell whether the wrapper of a run would refuse to start it."""
    return (ledger.publisher.root / "runs" / run_id / "witness" / "cancelled").exists()


def _orphan(ledger: Ledger, job: RayJob) -> Finding | None:
    run_id = job.metadata.get(RUN, "")
    if HELPER in job.metadata:
        return None
    mend = "merlin ray reconcile --once"
    if not ledger.has_run(run_id):
        return Finding("jobs", "warning", f"Ray says {job.status} of {job.submission_id}, which has no run here", mend)
    record = ledger.publisher.run(run_id)
    if record is not None and record.is_terminal and job.status == "PENDING" and _is_forbidden(ledger, run_id):
        # A head that was killed with a job in its queue says so until its memory of it is over (Ray 2.60, measured).
        what = f"Ray says PENDING of {job.submission_id}, whose run is {record.status}: nothing of it will start"
        return Finding("jobs", "note", what)
    if record is not None and record.is_terminal:
        what = f"Ray says {job.status} of {job.submission_id}, whose run is {record.status}"
        return Finding("jobs", "warning", what, mend)
    return None
