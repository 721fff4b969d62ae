"""Does every exchange end in time and in Merlin's words, whoever is at the other end?"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from merlin_es.errors import Unauthorized, Unreachable, Usage
from merlin_es.ray_adapter.address import Token, parse_address, token_file
from merlin_es.ray_adapter.http import Exchanges, Limits, Request, TooMuch
from tests.ray_replay import Replay, hostile, replaying

QUICK = Limits(connect_s=0.5, read_s=0.5, post_s=0.5, logs_s=0.5, upload_s=0.5)
SLACK_S = 4.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Turn = Callable[[socket.socket], None]


def get(limit_s: float = 0.5, bytes_max: int = 1000, keep_end: bool = False) -> Request:
    return Request("GET", "/api/version", limit_s, bytes_max=bytes_max, keep_end=keep_end)


def says(data: bytes) -> Turn:
    """Answer one request with `data`, then end; read on, since to close with unread input would reset the answer."""

    def turn(taken: socket.socket) -> None:
        taken.recv(65536)
        taken.sendall(data)
        taken.shutdown(socket.SHUT_WR)
        while taken.recv(65536):
            pass

    return turn


def endless(piece: bytes, pause_s: float = 0.0, begin: bytes = b"") -> Turn:
    """Answer with `begin`, then with `piece` again and again until the client is gone."""

    def turn(taken: socket.socket) -> None:
        taken.recv(65536)
        taken.sendall(begin)
        while True:
            taken.sendall(piece)
            time.sleep(pause_s)

    return turn


def hangs(taken: socket.socket) -> None:
    """Take everything and say nothing, until the client is gone."""
    while taken.recv(65536):
        pass


def closes(taken: socket.socket) -> None:
    """Hang up at once."""


def resets(taken: socket.socket) -> None:
    """Hang up with a reset instead of an end."""
    taken.recv(65536)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def once_then_closes(taken: socket.socket) -> None:
    """Keep the connection after the first answer, and hang up at the next question without a word."""
    taken.recv(65536)
    taken.sendall(OK)
    taken.recv(65536)


def well(taken: socket.socket) -> None:
    while taken.recv(65536):
        taken.sendall(OK)


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (closes, "reset"),
        (resets, "reset"),
        (hangs, "timeout"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf an answer"), "reset"),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf"), "reset"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Le"), "reset"),
        (says(b"HTTP/1.1 200 OK\r\n\r\nall of it?"), "reset"),
        (endless(b" ", 0.02, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"), "timeout"),
        (endless(b"x", 0.02, b"HTTP/1.1 200 OK\r\nX-Slow: "), "timeout"),
        (endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), "timeout"),
        (endless(b"x" * 65536), "not_ray"),
        (endless(b"X-A: b\r\n", 0.0, b"HTTP/1.1 200 OK\r\n"), "not_ray"),
        (endless(b"x" * 65536, 0.0, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "not_ray"),
        (endless(b"x" * 65536, 0.0, b"HTTP/1.0 200 OK\r\n\r\n"), "not_ray"),
        (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "not_ray"),
        (says(b"\x15\x03\x01\x00\x02\x02\x46"), "not_ray"),
    ],
    ids=[
        "closes at once", "resets", "hangs", "half a body", "half a chunk", "half a header", "no length",
        "trickles a body", "trickles a header", "goes on with 100", "endless status line", "endless headers",
        "a body without end", "an old body without end", "ssh", "tls",
    ],
)  # fmt: skip
def test_a_hostile_server_costs_no_more_than_the_time_limit(turn: Turn, kind: str) -> None:
    with hostile(turn) as server:
        exchanges = Exchanges(server.address, None, QUICK)
        for method in ("GET", "POST"):
            begin = time.monotonic()
            with pytest.raises(Unreachable, match=server.address) as caught:
                exchanges.ask(Request(method, "/api/jobs/x", 0.5, b"{}" if method == "POST" else None, bytes_max=1000))
            assert caught.value.kind == kind
            assert time.monotonic() - begin < 0.5 + SLACK_S
        assert server.connections == 2, "nothing was asked twice"


@pytest.mark.parametrize("bytes_at_once", [0, 300_000])
def test_a_server_that_reads_slowly_or_not_costs_no_more_than_the_time_limit(bytes_at_once: int) -> None:
    over = threading.Event()

    def reads_slowly(taken: socket.socket) -> None:
        while not over.wait(0.1):
            taken.recv(bytes_at_once)

    with hostile(reads_slowly) as server:
        begin = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            Exchanges(server.address, None, QUICK).ask(Request("PUT", "/x", 0.5, bytes(50 * 1024 * 1024)))
        over.set()
        assert caught.value.kind == "timeout"
        assert time.monotonic() - begin < 0.5 + SLACK_S


def test_a_port_without_a_server_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Unreachable, match="nothing listens there") as caught:
        Exchanges(f"127.0.0.1:{port}", None, QUICK).ask(get())
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid"])
def test_a_host_without_an_address_is_refused(host: str) -> None:
    with pytest.raises(Unreachable, match="cannot be connected to") as caught:
        Exchanges(f"{host}:8265", None, QUICK).ask(get())
    assert caught.value.kind == "refused"


def test_a_host_that_takes_no_connection_costs_the_limit_for_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        queue = [socket.socket() for _ in range(8)]
        for each in queue:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        begin = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            Exchanges(f"127.0.0.1:{port}", None, QUICK).ask(get(limit_s=60))
        assert caught.value.kind == "timeout"
        assert time.monotonic() - begin < 0.5 + SLACK_S
        for each in queue:
            each.close()


def test_https_that_the_server_does_not_speak_is_not_ray() -> None:
    with replaying() as ray, pytest.raises(Unreachable) as caught:
        Exchanges(ray.address.replace("http:", "https:"), None, Limits(connect_s=60)).ask(get(limit_s=60))
    assert caught.value.kind == "not_ray"


def test_one_connection_serves_many_questions_and_close_gives_it_back() -> None:
    with replaying() as ray:
        exchanges = Exchanges(ray.address, None, Limits())
        for _ in range(5):
            assert exchanges.ask(get()).status == 200
        assert ray.connections == 1
        exchanges.close()
        assert exchanges.ask(get()).status == 200
        assert ray.connections == 2


def test_a_question_on_a_connection_that_died_meanwhile_is_asked_once_more() -> None:
    with hostile(once_then_closes, well) as server:
        exchanges = Exchanges(server.address, None, QUICK)
        assert [exchanges.ask(get()).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 2


def test_what_came_unasked_on_a_kept_connection_is_not_taken_for_an_answer() -> None:
    answered, sent = threading.Event(), threading.Event()

    def says_that_it_waited_too_long(taken: socket.socket) -> None:
        taken.recv(65536)
        taken.sendall(OK)
        answered.wait(10)
        taken.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        sent.set()
        taken.recv(65536)

    with hostile(says_that_it_waited_too_long, well) as server:
        exchanges = Exchanges(server.address, None, QUICK)
        exchanges.ask(get())
        answered.set()
        assert sent.wait(10)
        assert exchanges.ask(get()).status == 200


def test_a_question_is_asked_once_more_only_once() -> None:
    with hostile(once_then_closes, closes) as server:
        exchanges = Exchanges(server.address, None, QUICK)
        exchanges.ask(get())
        with pytest.raises(Unreachable):
            exchanges.ask(get())
        assert server.connections == 2


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_wish_is_never_sent_on_a_kept_connection_and_never_twice(method: Literal["POST", "PUT"]) -> None:
    seen: list[bytes] = []

    def answers_the_first_only(taken: socket.socket) -> None:
        while data := taken.recv(65536):
            seen.append(data[:4].strip())
            if len(seen) > 1:
                return
            taken.sendall(OK)

    with hostile(answers_the_first_only) as server:
        exchanges = Exchanges(server.address, None, QUICK)
        exchanges.ask(get())
        with pytest.raises(Unreachable) as caught:
            exchanges.ask(Request(method, "/api/jobs/", 0.5))
        assert caught.value.kind == "reset"
        assert seen == [b"GET", method.encode()]
        assert server.connections == 2


def test_threads_do_not_wait_for_each_other_or_mix_their_answers() -> None:
    with replaying() as ray:
        for number in range(16):
            ray.says("GET", f"/{number}", 200, str(number))
        exchanges = Exchanges(ray.address, None, Limits())

        def ask(number: int) -> bytes:
            return exchanges.ask(Request("GET", f"/{number % 16}", 5.0)).body

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(ask, range(320))) == [str(number % 16).encode() for number in range(320)]


def test_a_forked_child_opens_its_own_connection_and_leaves_the_parents_alone() -> None:
    with replaying() as ray:
        exchanges = Exchanges(ray.address, None, Limits())
        exchanges.ask(get())

        def child() -> None:
            os._exit(0 if exchanges.ask(get(5.0)).status == 200 else 1)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(30)
        assert process.exitcode == 0
        assert ray.connections == 2
        assert exchanges.ask(get()).status == 200
        assert ray.connections == 2, "the parent's connection was still good"


def test_an_answer_above_the_limit_is_not_read_or_loses_its_beginning() -> None:
    with replaying() as ray:
        ray.says("GET", "/api/version", 200, "a" * 1000 + "b" * 500, "text/plain")
        exchanges = Exchanges(ray.address, None, Limits())
        with pytest.raises(TooMuch, match="more than 1499 bytes"):
            exchanges.ask(get(5.0, bytes_max=1499))
        assert exchanges.ask(get(5.0, bytes_max=1500)).left_out == 0
        cut = exchanges.ask(get(5.0, bytes_max=600, keep_end=True))
        assert (cut.body, cut.left_out) == (b"a" * 100 + b"b" * 500, 900)


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with replaying() as ray:
        assert Exchanges(ray.address, None, Limits()).ask(get()).status == 200


@pytest.fixture
def guarded() -> Iterator[Replay]:
    with replaying(token="right") as ray:
        yield ray


def test_the_token_is_read_when_it_is_needed(guarded: Replay, tmp_path: Path) -> None:
    path = tmp_path / "token"
    exchanges = Exchanges(guarded.address, token_file(path), Limits())
    path.write_text("right\n")
    assert exchanges.ask(get()).status == 200
    path.unlink()
    assert exchanges.ask(get()).status == 200, "it was read once"


def test_a_token_that_was_refused_is_read_once_more(guarded: Replay, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("right")
    exchanges = Exchanges(guarded.address, token_file(path), Limits())
    exchanges.ask(get())
    guarded.token = "new"
    path.write_text("new")
    assert exchanges.ask(Request("POST", "/nothing", 5.0, b"{}")).status == 404
    assert [asked.headers["Authorization"] for asked in guarded.asked] == [
        f"Bearer {t}" for t in ("right", "right", "new")
    ]


def test_a_token_that_stays_wrong_is_sent_once_and_never_shown(guarded: Replay, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret")
    token = token_file(path)
    with pytest.raises(Unauthorized, match=r"403.*is not its own.*RAY_AUTH_TOKEN_PATH") as caught:
        Exchanges(guarded.address, token, Limits()).ask(get())
    assert str(path) in str(caught.value)
    assert len(guarded.asked) == 1
    assert "s3cret" not in f"{caught.value!r}{token!r}{vars(caught.value)}"


@pytest.mark.parametrize(
    "content", [None, b"", b"  \n", b"two words", b"a\r\nX-Evil: 1", b"\xff\xfe\x00", "tökén".encode()]
)
def test_without_a_usable_token_none_is_sent_and_the_source_is_named(
    guarded: Replay, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unauthorized, match=f"401.*none was sent: there is none in the file {path}"):
        Exchanges(guarded.address, token_file(path), Limits()).ask(get())
    assert all("Authorization" not in asked.headers for asked in guarded.asked)


def test_without_a_source_of_tokens_the_message_says_so(guarded: Replay) -> None:
    with pytest.raises(Unauthorized, match="no file with a token was named"):
        Exchanges(guarded.address, None, Limits()).ask(get())


def test_a_token_may_come_from_anywhere(guarded: Replay) -> None:
    assert Exchanges(guarded.address, Token("$X", lambda: "right"), Limits()).ask(get()).status == 200


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("localhost:8265", "http://localhost:8265"),
        (" 127.0.0.1:8265\n", "http://127.0.0.1:8265"),
        ("http://lab3:8265/", "http://lab3:8265"),
        ("HTTP://Lab3.example:08265//", "http://lab3.example:8265"),
        ("https://ray.lab", "https://ray.lab:443"),
        ("http://[::1]:8265", "http://[::1]:8265"),
        ("ray_head:80", "http://ray_head:80"),
    ],
)
def test_an_address_may_be_written_in_many_ways(written: str, address: str) -> None:
    assert parse_address(written) == address
    assert parse_address(address) == address


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("", "http://host:8265"),
        ("auto", "http://auto:8265"),
        ("http://lab3", "http://lab3:8265"),
        ("ray://lab3:10001", "Ray's own client; write the dashboard's address: http://host:8265"),
        ("ftp://lab3:8265", "http://host:8265"),
        ("lab3:0", "http://lab3:8265"),
        ("lab3:99999", "http://lab3:8265"),
        ("lab3:x", "http://host:8265"),
        ("http://lab3:8265/api/jobs", "http://host:8265"),
        ("http://ada:pw@lab3:8265", "http://host:8265"),
        ("http://lab3:8265?x=1", "http://host:8265"),
        ("lab 3:8265", "http://host:8265"),
        ("lab3:8265\r\nX: y", "http://host:8265"),
        ("lab3:٨٢٦٥", "http://host:8265"),
        ("-lab3:8265", "http://host:8265"),
    ],
)
def test_a_bad_address_is_answered_with_a_good_one(written: str, advice: str) -> None:
    with pytest.raises(Usage, match=re.escape(advice)):
        parse_address(written)


def test_what_is_not_needed_before_the_first_question_is_not_imported() -> None:
    heavy = "{'http.client', 'ssl', 'email', 'json', 'pydantic', 'urllib3', 'requests', 'aiohttp', 'ray', 'hashlib'}"
    code = f"import sys, merlin_es.ray_adapter.jobs; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=Path(__file__).parents[2]) == "[]\n"
