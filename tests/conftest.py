"""Fixtures of more than one area: a private Redis, and a ledger on it."""

import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this test process."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> RedisServer:
    """The same Redis without a key in it."""
    client = connect(redis_server.url)
    client.flushall()
    client.close()
    return redis_server


@pytest.fixture
def ledger(empty_redis: RedisServer) -> Iterator[Ledger]:
    """A ledger whose leases last half a second."""
    client = connect(empty_redis.url)
    yield Ledger(client, LedgerSettings(lease_seconds=0.5, retry_delays="0.05,0.1"))
    client.close()


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded Qdrant, as a process of its own."""
    folder = tmp_path_factory.mktemp("qdrant")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "embedfleet.local.qdrant", "--path", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stderr=log, stdout=log
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while not _answers(f"{url}/readyz"):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
    yield url
    process.terminate()
    process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False
