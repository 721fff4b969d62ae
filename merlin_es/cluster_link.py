"""Which cluster do runs go to, does it answer, and since when does it not?"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from merlin_es.deciders import cluster as rules
from merlin_es.errors import Unauthorized, Unreachable
from merlin_es.ledger import Ledger
from merlin_es.ports import JobServer, ProcessId, Session
from projections.cluster import ClusterRecord


class Link(Struct, frozen=True):
    """A cluster that has just answered."""

    server: JobServer
    session: Session


class ClusterLink:
    """The way to the cluster of this state root; what is found on the way is recorded in the cluster's log."""

    def __init__(
        self,
        ledger: Ledger,
        connect: Callable[[ClusterRecord], JobServer],
        is_alive: Callable[[ProcessId], bool],
    ) -> None:
        self._ledger = ledger
        self._connect = connect
        self._is_alive = is_alive
        self._server: tuple[object, JobServer] | None = None
        self._why = ("no_cluster", "")

    def link(self) -> Link:
        """Ask the cluster for a sign of life; raises Unreachable and Unauthorized, which are recorded once."""
        record = self._ledger.cluster()
        if record.status != "active" or not record.dashboard_url:
            self._why = _no_cluster(record)
            raise Unreachable(self._why[1], "no_cluster")
        try:
            server = self._server_of(record)
            session = server.session()
            require_ours(record, session, alive=self._has_head(record))
        except (Unreachable, Unauthorized) as error:
            kind = error.kind if isinstance(error, Unreachable) else "unauthorized"
            message = self._explained(record, str(error))
            self._why = ("unauthorized" if kind == "unauthorized" else "unreachable", message)
            self._ledger.change_cluster(
                lambda known: rules.unanswered(kind, message, known) if known.pid == record.pid else ()
            )
            if isinstance(error, Unauthorized):
                raise
            raise Unreachable(message, kind) from None
        self._ledger.change_cluster(lambda known: rules.answered(session, known))
        return Link(server, session)

    def peek(self) -> ClusterRecord:
        """Give the cluster as it is recorded, without asking anybody."""
        return self._ledger.cluster()

    def why_not(self) -> tuple[str, str]:
        """Say why the last `link` failed: a word for programs, and what to do."""
        return self._why

    def _server_of(self, record: ClusterRecord) -> JobServer:
        key = (record.dashboard_url, record.token_path)
        if self._server is None or self._server[0] != key:
            if self._server:
                self._server[1].close()
            self._server = key, self._connect(record)
        return self._server[1]

    def _explained(self, record: ClusterRecord, message: str) -> str:
        if not self._has_head(record):
            return (
                f"the head that was started here (process {record.pid}) is gone: "
                "`merlin ray cluster start-local` starts it again"
            )
        return message

    def _has_head(self, record: ClusterRecord) -> bool:
        process = process_of(record)
        return process is None or self._is_alive(process)


def require_ours(record: ClusterRecord, session: Session, *, alive: bool) -> None:
    """Refuse the answer of a stranger: one in another session than our head, while our head is dead."""
    if not alive and session.session_name != record.session_name:
        raise Unreachable(
            f"{record.dashboard_url} is another cluster now, not the head that was started here: "
            "`merlin ray cluster start-local` starts it again on other ports",
            "other_cluster",
        )


def process_of(record: ClusterRecord) -> ProcessId | None:
    """Give the process of a head that we started."""
    if record.pid is None or record.pid_started is None or record.boot_id is None:
        return None
    return ProcessId(record.pid, record.pid_started, record.boot_id)


def _no_cluster(record: ClusterRecord) -> tuple[str, str]:
    if record.status == "unavailable":
        return "no_ray", record.message or 'there is no Ray on this host: `pip install "ray[default]"`'
    start = "`merlin ray cluster start-local` starts one here, `merlin ray cluster attach ADDRESS` uses another one"
    return "no_cluster", f"no cluster is in use ({record.status}): {start}; then `merlin ray jobs retry RUN`"
