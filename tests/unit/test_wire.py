"""Is an answer read as it was meant, in whatever pieces it comes, and never taken for whole where it is not?"""

from __future__ import annotations

import socket
import time
from typing import cast

import pytest

from merlin_es.ray_adapter.wire import BrokenOff, NotHttp, Wire

SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length:  5 \r\n\r\nwhole"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX-Late: none\r\n\r\n"
    b"3;why=not\r\nwho\r\n2 \r\nle\r\n0\r\nX-Late: some\r\n\r\n"
)
CONTINUED = b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + SIZED
OLD = b"HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 5\n\nwhole"


class Told:
    """A connection on which somebody has said all that they will say; it comes in pieces of so many bytes."""

    def __init__(self, content: bytes, piece: int = 1 << 20) -> None:
        self.content, self.piece, self.sent = content, piece, b""

    def settimeout(self, seconds: float) -> None:
        """Wait for so long."""
        assert seconds > 0

    def send(self, data: bytes) -> int:
        """Take at most 7 bytes."""
        self.sent += bytes(data[:7])
        return min(len(data), 7)

    def recv(self, size: int) -> bytes:
        """Give the next piece."""
        piece, self.content = self.content[: min(size, self.piece)], self.content[min(size, self.piece) :]
        return piece


def asked(told: Told, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes, Wire]:
    """Ask, and give the status and the body of the answer."""
    wire = Wire(cast("socket.socket", told), "[::1]:8265")
    wire.deadline = time.monotonic() + 60
    head = wire.ask(method, "/api/x", {"Authorization": "Bearer t"}, body)
    return head.status, b"".join(wire.pieces(head)), wire


@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 20])
@pytest.mark.parametrize("answer", [SIZED, CHUNKED, CONTINUED, OLD], ids=["sized", "chunked", "continued", "old"])
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(answer: bytes, piece: int) -> None:
    status, body, wire = asked(Told(answer, piece))
    assert (status, body, wire.is_free) == (200, b"whole", True)


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, CONTINUED, OLD], ids=["sized", "chunked", "continued", "old"])
def test_an_answer_that_breaks_off_anywhere_is_none(answer: bytes) -> None:
    for end in range(len(answer)):
        with pytest.raises((BrokenOff, ConnectionResetError)):
            asked(Told(answer[:end]))


def test_a_question_goes_as_it_is_meant() -> None:
    told = Told(SIZED)
    asked(told)
    begin = b"GET /api/x HTTP/1.1\r\nHost: [::1]:8265\r\nAccept-Encoding: identity\r\nAuthorization: Bearer t\r\n"
    assert told.sent == begin + b"\r\n"
    for body, length in ((b"{}", b"2"), (None, b"0")):
        told = Told(SIZED)
        asked(told, "POST", body)
        assert told.sent == begin.replace(b"GET", b"POST") + b"Content-Length: " + length + b"\r\n\r\n" + (body or b"")


@pytest.mark.parametrize(
    "answer",
    [
        SIZED.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"),
        OLD.replace(b"Connection: keep-alive\n", b""),
        SIZED + b"HTTP/1.1 408 Request Timeout\r\n",
    ],
    ids=["it says so", "it is old", "more came unasked"],
)
def test_a_connection_that_is_over_is_not_used_again(answer: bytes) -> None:
    status, body, wire = asked(Told(answer))
    assert (status, body, wire.is_free) == (200, b"whole", False)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_what_has_no_body_has_none(status: bytes) -> None:
    _, body, wire = asked(Told(b"HTTP/1.1 " + status + b"\r\n\r\n"))
    assert (body, wire.is_free) == (b"", True)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (SIZED.replace(b"5 ", b"-5"), BrokenOff),
        (SIZED.replace(b"5 ", b"\xb2"), BrokenOff),
        (SIZED.replace(b"5 ", b"9" * 5_000), BrokenOff),
        (CHUNKED.replace(b"3;", b"-3;"), BrokenOff),
        (CHUNKED.replace(b"3;", b"0x3;"), BrokenOff),
        (CHUNKED.replace(b"who\r\n", b"whole\r\n"), BrokenOff),
        (SIZED.replace(b"200 OK", b"twohundred"), NotHttp),
        (SIZED.replace(b"HTTP/1.1", b"HTTP/2"), NotHttp),
        (b"\0" + SIZED, NotHttp),
        (SIZED.replace(b"\r\n\r\n", b"\r\n" + b"A: b\r\n" * 101 + b"\r\n"), NotHttp),
        (SIZED.replace(b"text", b"t" * 70_000), NotHttp),
    ],
    ids=[
        "a length below none", "a length that is none", "an endless length", "a chunk below none", "a chunk in C",
        "a chunk too long", "no status", "a later protocol", "bytes before it", "too many headers", "an endless header",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_no_answer(answer: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(Told(answer))


def test_nothing_is_waited_for_once_the_time_is_over() -> None:
    wire = Wire(cast("socket.socket", Told(SIZED)), "lab3:8265")
    with pytest.raises(TimeoutError):
        wire.ask("GET", "/", {}, None)
