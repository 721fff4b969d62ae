"""How is one question put to an HTTP server that may be slow, gone, half dead, or somebody else?

Every exchange ends in an answer or an error of Merlin, by its deadline, and with a bounded amount of memory. Only the
look-up of a host's name cannot be given a limit: it takes as long as the resolver of this machine does.
"""

from __future__ import annotations

import io
import os
import select
import socket
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NoReturn, cast

from msgspec import Struct
from msgspec.structs import replace

from merlin_es.errors import Unauthorized, Unreachable
from merlin_es.ray_adapter.address import Token, parse_address

if TYPE_CHECKING:
    import http.client
    import ssl

ANSWER_BYTES_MAX = 64 * 1024 * 1024
_IDLE_MAX = 4
_IDLE_S_MAX = 30.0
_PIECE_BYTES = 256 * 1024
_LINE_BYTES_MAX = 64 * 1024
_LINE_MAX = 500


class Limits(Struct, frozen=True):
    """How long an exchange may take, from the first attempt to connect to the last byte."""

    connect_s: float = 2.0
    read_s: float = 5.0
    post_s: float = 15.0
    logs_s: float = 60.0
    upload_s: float = 300.0


class Request(Struct, frozen=True):
    """One question; `keep_end` has an answer above `bytes_max` cut at its beginning, else it is an error."""

    method: Literal["GET", "POST", "PUT"]
    path: str
    limit_s: float
    body: bytes | None = None
    content_type: str = "application/json"
    bytes_max: int = ANSWER_BYTES_MAX
    keep_end: bool = False

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"  # The body may hold what nobody is to see.


class Answer(Struct, frozen=True):
    """What came back; `left_out` bytes were cut from the beginning of `body`."""

    status: int
    body: bytes
    left_out: int = 0

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"

    def line(self) -> str:
        """Give the last line of a text that says something: of a traceback, the error. Fit to be shown."""
        lines = self.body[-_LINE_BYTES_MAX:].decode("utf-8", "replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip(" .")), "")
        return "".join(letter if letter.isprintable() else " " for letter in last).strip()[:_LINE_MAX]


class TooMuch(Unreachable):
    """The answer is larger than what would be read of it."""


class Exchanges:
    """Questions and answers with one server, over connections that are kept for the next question.

    Any number of threads may ask. A forked child does not touch the connections of its parent.
    """

    def __init__(self, address: str, token: Token | None, limits: Limits) -> None:
        self.address = parse_address(address)
        self.limits = limits
        self._token = token
        scheme, _, place = self.address.partition("://")
        host, _, port = place.rpartition(":")
        self._tls, self._host, self._port = scheme == "https", host.strip("[]"), int(port)
        self._context: ssl.SSLContext | None = None
        self._idle: deque[_Connection] = deque()
        self._pid = os.getpid()

    def ask(self, request: Request) -> Answer:
        """Give the answer, whatever its status; raises Unreachable and Unauthorized."""
        deadline = time.monotonic() + request.limit_s
        sent = self._token.value() if self._token else None
        answer = self._ask(request, sent, deadline)
        if answer.status in (401, 403) and self._token and (other := self._token.read_again()) != sent:
            sent = other
            answer = self._ask(request, sent, deadline)
        if answer.status in (401, 403):
            self._unauthorized(answer, sent is not None)
        return answer

    def close(self) -> None:
        """Close every connection that is kept; the next question opens one again."""
        while (connection := self._pop()) is not None:
            connection.close()

    def _unauthorized(self, answer: Answer, was_sent: bool) -> NoReturn:
        source = self._token.source if self._token else None
        tried = f"the token in {source} is not its own" if was_sent else "it wants a token and none was sent: "
        if not was_sent:
            tried += f"there is none in {source}" if source else "no file with a token was named"
        raise Unauthorized(
            f"{self.address} answered {answer.status}: {tried}. Put the token of that cluster there; its head has it in"
            " the file that its RAY_AUTH_TOKEN_PATH names, else in ~/.ray/auth_token."
        )

    def _ask(self, request: Request, token: str | None, deadline: float) -> Answer:
        from http.client import HTTPException, IncompleteRead  # Takes 25 ms, which most verbs need not pay.

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            return self._exchange(request, headers, deadline)
        except Unreachable:
            raise
        except TimeoutError:
            self._unreachable("timeout", f"gave no whole answer to {request.method} within its time limit")
        except ConnectionRefusedError:
            self._unreachable("refused", "takes no connection: nothing listens there")
        except (ConnectionError, IncompleteRead):
            self._unreachable("reset", f"broke off while it answered {request.method}")
        except HTTPException as error:
            self._unreachable("not_ray", f"does not speak HTTP as Ray does ({type(error).__name__})")
        except (OSError, UnicodeError) as error:
            kind = "not_ray" if type(error).__name__.startswith("SSL") else "refused"
            self._unreachable(kind, f"cannot be connected to: {error}")

    def _unreachable(self, kind: str, what: str) -> NoReturn:
        advice = "Give the address of a Ray dashboard" if kind == "not_ray" else "See whether that cluster is up"
        raise Unreachable(f"{self.address} {what}. {advice}.", kind) from None

    def _exchange(self, request: Request, headers: Mapping[str, str], deadline: float) -> Answer:
        """Ask once, or twice where a kept connection turns out to be stale and asking twice does no harm."""
        kept = self._kept() if request.method == "GET" else None
        if kept is not None:
            with suppress(ConnectionError):
                return self._carry(kept, request, headers, deadline)
        return self._carry(self._connect(deadline), request, headers, deadline)

    def _carry(self, connection: _Connection, request: Request, headers: Mapping[str, str], deadline: float) -> Answer:
        reusable = False
        try:
            connection.timed.deadline = deadline
            connection.protocol.request(request.method, request.path, request.body, dict(headers))
            response = connection.protocol.getresponse()
            answer = self._read(response, request)
            reusable = connection.protocol.sock is not None and response.isclosed()
            return answer
        finally:
            if reusable and len(self._idle) < _IDLE_MAX and self._pid == os.getpid():
                self._idle.append(replace(connection, used_at=time.monotonic()))
            else:
                connection.close()

    def _read(self, response: http.client.HTTPResponse, request: Request) -> Answer:
        from http.client import IncompleteRead

        body, left_out = bytearray(), 0
        while piece := response.read(_PIECE_BYTES):
            body += piece
            if (excess := len(body) - request.bytes_max) > 0:
                if not request.keep_end:
                    what = f"{self.address} answered {request.method} with more than {request.bytes_max} bytes"
                    raise TooMuch(f"{what}, which is not read. See what that server is.", "not_ray")
                left_out += excess
                del body[:excess]
        if response.length != 0 and not response.chunked:
            # http.client takes a body that breaks off for a whole one, and headers that break off for all of them.
            raise IncompleteRead(b"", response.length)
        return Answer(response.status, bytes(body), left_out)

    def _kept(self) -> _Connection | None:
        """Give a connection that was kept and looks alive."""
        if self._pid != os.getpid():
            self.close()  # Closes the child's copies; the parent's connections stay as they are.
            self._pid = os.getpid()
        while (connection := self._pop()) is not None:
            if connection.looks_alive():
                return connection
            connection.close()
        return None

    def _pop(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self, deadline: float) -> _Connection:
        import http.client

        until = min(deadline, time.monotonic() + self.limits.connect_s)
        timed = TimedSocket(self._secured(_connected(self._host, self._port, until), until))
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.auto_open = 0  # It would open one without our limits.
        connection.sock = cast("socket.socket", timed)  # It uses sendall, makefile and close, and no more.
        return _Connection(connection, timed, time.monotonic())

    def _secured(self, plain: socket.socket, until: float) -> socket.socket:
        if not self._tls:
            return plain
        try:
            import ssl

            self._context = self._context or ssl.create_default_context()
            plain.settimeout(_left(until))
            return self._context.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise


class TimedSocket:
    """A socket that gives up at its deadline, however often another byte comes or goes before."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self.deadline = 0.0

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        rest = memoryview(data)
        while rest:
            self.plain.settimeout(_left(self.deadline))
            rest = rest[self.plain.send(rest[:_PIECE_BYTES]) :]

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        """Give a file to read from, which keeps the socket open until it is closed."""
        return io.BufferedReader(_TimedReader(self, self.plain.makefile(mode, buffering=0)))

    def close(self) -> None:
        """Close it, or have it closed with the last file."""
        self.plain.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: TimedSocket, raw: socket.SocketIO) -> None:
        self._timed = timed
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]  # BufferedReader gives no other
        self._timed.plain.settimeout(_left(self._timed.deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(Struct, frozen=True):
    protocol: http.client.HTTPConnection
    timed: TimedSocket
    used_at: float

    def looks_alive(self) -> bool:
        """Tell whether it was used lately and nothing has come since: what comes unasked is the end."""
        poll = select.poll()
        poll.register(self.timed.plain, select.POLLIN)
        return time.monotonic() - self.used_at < _IDLE_S_MAX and not poll.poll(0)

    def close(self) -> None:
        self.protocol.close()
        self.timed.close()


def _connected(host: str, port: int, until: float) -> socket.socket:
    """Give a connection to the first of a host's addresses that takes one, in one time limit for all of them."""
    failure: OSError = OSError(f"{host} has no address")
    name = host.encode() if host.isascii() else host  # Bytes are looked up without the tables of IDNA, which take 5 ms.
    for family, kind, protocol, _, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(_left(until))
            plain.connect(address)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            plain.close()
            failure = error
        else:
            return plain
    raise failure


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
