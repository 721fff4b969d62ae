"""Who answers like Ray did once, or like nobody should? Real servers on real sockets, each in a thread."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAYLOADS = Path(__file__).parent / "ray_payloads"
WELL = ("001-version", "161-auth-no-token-api-gcs_healthz")


@dataclass(frozen=True)
class Payload:
    """One answer of a Ray, to one request, which sent the body `sent`."""

    method: str
    path: str
    status: int
    content_type: str | None
    body: Any
    sent: Any = None

    @property
    def content(self) -> bytes:
        """What goes over the wire."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """What a client has sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Replay:
    """A server that answers `payloads` and keeps what it was asked; `connections` counts those that it took."""

    address: str
    payloads: dict[tuple[str, str], Payload]
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    token: str | None = None

    def answer(self, asked: Asked) -> Payload:
        """Give the payload of a request, as if by a Ray that knows nothing else."""
        if self.token and asked.path != "/api/gcs_healthz":
            sent = asked.headers.get("Authorization")
            if sent != f"Bearer {self.token}":
                return load("160-auth-wrong-token-api-jobs" if sent else "160-auth-no-token-api-jobs")
        other = Payload(asked.method, asked.path, 404, "text/plain; charset=utf-8", "404: Not Found")
        return self.payloads.get((asked.method, asked.path), other)

    def says(self, method: str, path: str, status: int, body: object, content_type: str = "application/json") -> None:
        """Have it answer what no Ray was recorded to answer."""
        self.payloads[method, path] = Payload(method, path, status, content_type, body)


@dataclass
class Running(Replay):
    """A server that takes every job there is, and says of each that it runs."""

    def answer(self, asked: Asked) -> Payload:
        """Give the payload of a request about a job that was taken, or as a Replay does."""
        if (asked.method, asked.path) == ("POST", "/api/jobs/"):
            job = json.loads(asked.body)
            running = load("041-get-running").body | {name: job[name] for name in ("entrypoint", "metadata")}
            running |= {"submission_id": job["submission_id"], "runtime_env": job["runtime_env"]}
            self.says("GET", f"/api/jobs/{job['submission_id']}", 200, running)
            return Payload("POST", asked.path, 200, "application/json", {"submission_id": job["submission_id"]})
        return super().answer(asked)


def load(name: str) -> Payload:
    """Give a recorded payload; `name` is that of its file, without the ending."""
    record = json.loads((PAYLOADS / f"{name}.json").read_text())
    asked, answer = record["request"], record["response"]
    kind, body = answer["content_type"], answer["body"]
    return Payload(asked["method"], asked["path"], answer["status"], kind, body, asked["body"])


@contextmanager
def replaying(*names: str, token: str | None = None, kind: type[Replay] = Replay) -> Iterator[Replay]:
    """Run a server that answers as recorded; it is well unless `names` say otherwise."""
    payloads = {(each.method, each.path): each for each in map(load, (*WELL, *names))}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        replay = kind(f"http://127.0.0.1:{server.server_port}", payloads, token=token)
        server.replay = replay  # type: ignore[attr-defined]  # the only way from a handler to it
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield replay
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._replay.connections += 1

    @property
    def _replay(self) -> Replay:
        replay = self.server.replay  # type: ignore[attr-defined]  # set where the server is made
        assert isinstance(replay, Replay)
        return replay

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, dict(self.headers), body)
        self._replay.asked.append(asked)
        payload = self._replay.answer(asked)
        self.send_response(payload.status)
        if payload.content_type:
            self.send_header("Content-Type", payload.content_type)
        self.send_header("Content-Length", str(len(payload.content)))
        self.end_headers()
        self.wfile.write(payload.content)

    do_GET = do_POST = do_PUT = _reply  # noqa: N815  http.server finds them by these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is http.server's
        pass


@dataclass
class Hostile:
    """A server whose `turns` say how it treats one connection after the other; the last goes on for ever."""

    address: str
    turns: Sequence[Callable[[socket.socket], None]]
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                taken, _ = listener.accept()
                turn = self.turns[min(self.connections, len(self.turns) - 1)]
                self.connections += 1
                threading.Thread(target=self._treat, args=(turn, taken), daemon=True).start()

    def _treat(self, turn: Callable[[socket.socket], None], taken: socket.socket) -> None:
        with closing(taken), suppress(OSError):
            taken.settimeout(10)
            turn(taken)


@contextmanager
def hostile(*turns: Callable[[socket.socket], None]) -> Iterator[Hostile]:
    """Run a server that does to each connection what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Hostile(f"http://127.0.0.1:{listener.getsockname()[1]}", turns)
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # Closing alone does not end an accept that waits.
            thread.join()
