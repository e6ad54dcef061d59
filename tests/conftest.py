"""Fixtures of more than one area: a private Redis, and a ledger on it; which folders stay on one worker."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.qdrant_process import QdrantProcess

if TYPE_CHECKING:
    from tests.bucket_server import BucketServer

HERE = Path(__file__).parent
# Their tests share servers, and what Helm has rendered: a second worker would begin with all of it again.
TOGETHER = ("api", "deploy")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder in TOGETHER:
            if item.path.is_relative_to(HERE / folder):
                item.add_marker(pytest.mark.xdist_group(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a lost worker ended (below 0: by that signal; 0: its connection was lost); xdist does not."""
    if error:
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = node.gateway._io.popen.wait(10)
        node.config.get_terminal_writer().line(f"\n{node.gateway.id} ended with exit code {code}")


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
    with QdrantProcess(tmp_path_factory.mktemp("qdrant")) as process:
        yield process.url


@pytest.fixture(scope="session")
def bucket_server() -> "Iterator[BucketServer]":
    """A server of buckets, in a thread of this test process."""
    from tests.bucket_server import BucketServer  # takes a second

    with BucketServer() as server:
        yield server


@pytest.fixture
def bucket_url(bucket_server: "BucketServer", monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in a bucket that this process, and those that it starts, may use."""
    for name, value in bucket_server.variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket_server.new_bucket()}/fleet/a"
