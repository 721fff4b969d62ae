"""Does a head that was just started take jobs, and if not, what is missing?"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from http import HTTPStatus

from merlin_es.ports import Session

# Ray 2.60, measured: the agent that takes jobs refuses this selector before it records anything, so its answer, which
# the head passes on, says that a job would get as far as the agent. The stop of an unknown id never reaches the agent.
_PROBE = json.dumps({"entrypoint": "true", "entrypoint_label_selector": {"merlin": "!!"}}).encode()
_AGENT_REFUSED = "status code 400"


@dataclass(frozen=True, slots=True)
class Door:
    """Where a head is asked, and with which token."""

    host: str
    port: int
    token: str

    def missing(self, limit_s: float) -> str | None:
        """Say what keeps the head from taking jobs; None when nothing does. Each question takes `limit_s` at most."""
        status, text = self._ask("GET", "/api/gcs_healthz", limit_s)
        if status != HTTPStatus.OK:
            return f"its state store is not healthy: {text}"
        status, text = self._ask("GET", "/api/jobs/", limit_s)
        if status != HTTPStatus.OK:
            return f"its job server does not work: {text}"
        status, text = self._ask("POST", "/api/jobs/", limit_s, _PROBE)
        return None if _AGENT_REFUSED in text else f"its agent takes no jobs: {text}"

    def session(self, limit_s: float) -> Session:
        """Ask a head that is ready for the name of its life."""
        _, text = self._ask("GET", "/api/version", limit_s)
        version = json.loads(text)
        return Session(session_name=version["session_name"], ray_version=version["ray_version"])

    def _ask(self, method: str, path: str, limit_s: float, body: bytes | None = None) -> tuple[int, str]:
        """Give status and text; status 0 stands for no answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=limit_s)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"no answer ({error})"
        finally:
            connection.close()
