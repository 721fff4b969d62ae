"""Is a port that is taken seen as taken, and its listener named?"""

from __future__ import annotations

import os
import socket

import pytest

from merlin_es.errors import HeadFailed
from merlin_es.ray_adapter import tcp_ports


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_with_a_listener_is_taken_and_the_listener_named(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        assert not tcp_ports.is_free(port)
        assert f"process {os.getpid()} (" in tcp_ports.listener(port)
    assert tcp_ports.is_free(port)


def test_a_port_of_connections_that_were_closed_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # Who closes first keeps the port in TIME_WAIT.
    assert tcp_ports.is_free(port)


def test_nobody_listens_on_a_free_port() -> None:
    assert tcp_ports.listener(tcp_ports.free_port(())) == "a process that this user cannot see"


def test_ports_to_avoid_are_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_ports, "ANY_PORT", range(20_000, 20_002))
    assert tcp_ports.free_port((20_000,)) == 20_001
    with pytest.raises(HeadFailed, match="no free port"):
        tcp_ports.free_port((20_000, 20_001))
