"""The probes' server by itself: who asks nothing is let go, and both families of addresses are served."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from embedfleet.local.ports import free_ports
from embedfleet.runtime.worker import probes


@contextmanager
def serving(host: str) -> Iterator[int]:
    (port,) = free_ports(1)
    server = probes.serve(host, port, list, lambda: ["Qdrant"])
    yield port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_both_families_of_addresses_are_served(host: str, shown: str) -> None:
    with serving(host) as port:
        assert httpx.get(f"http://{shown}:{port}/livez", trust_env=False).status_code == 200
        answer = httpx.get(f"http://{shown}:{port}/readyz", trust_env=False)
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "problems": ["Qdrant"]})


def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "IDLE_SECONDS", 0.1)
    with serving("127.0.0.1") as port, socket.create_connection(("127.0.0.1", port), 15) as silent:
        assert silent.recv(1) == b""
