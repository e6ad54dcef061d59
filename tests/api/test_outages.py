"""Redis or Qdrant is away: quick, honest answers, and a server that stays up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from embedfleet.local.redis import RedisServer
from tests.api.serving import Api, base_env, fetch, send, serving, wait_until

ANSWER_SECONDS = 2.0


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that the tests may kill."""
    with RedisServer(tmp_path_factory.mktemp("outage") / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def api(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server on it."""
    folder = tmp_path_factory.mktemp("outage-api")
    with serving(base_env(redis.url, folder), folder) as running:
        yield running


def stall(redis: RedisServer) -> None:
    os.kill(redis.child.pid, signal.SIGSTOP)


@pytest.mark.parametrize("fail", [RedisServer.kill, stall], ids=["killed", "stalled"])
def test_redis_away_is_a_quick_503_and_then_all_is_well(
    api: Api, redis: RedisServer, fail: Callable[[RedisServer], None]
) -> None:
    with api.client() as client:
        task = send(client).json()["task_id"]
        blobs = sorted(api.blobs.keys(""))
        fail(redis)
        try:
            requests: list[Callable[[], httpx.Response]] = [
                lambda: send(client, "lost.txt", b"x" * 100_000),
                lambda: client.get(f"/api/v1/tasks/{task}"),
                lambda: client.get("/api/v1/documents"),
                lambda: client.post(f"/api/v1/tasks/{task}/revoke"),
            ]
            for request in requests:
                started = time.monotonic()
                answer = request()
                assert time.monotonic() - started < ANSWER_SECONDS
                assert (answer.status_code, answer.json()["code"]) == (503, "dependency_down")
                assert answer.json()["retryable"]
                assert int(answer.headers["retry-after"]) > 0
                assert f"127.0.0.1:{redis.port}" in answer.json()["detail"]
            assert sorted(api.blobs.keys("")) == blobs
            assert client.get("/livez").status_code == 200
        finally:
            os.kill(redis.child.pid, signal.SIGCONT) if fail is stall else redis.start()
        wait_until(lambda: client.get(f"/api/v1/tasks/{task}").status_code == 200, 10)
        assert send(client, "found.txt").status_code == 202


def test_server_starts_without_redis_and_qdrant(tmp_path: Path) -> None:
    env = base_env("redis://:s3cret@127.0.0.1:1/0", tmp_path)
    with serving(env, tmp_path) as api:
        readiness = fetch(f"{api.url}/readyz")
        assert readiness.status_code == 503
        problems = "\n".join(readiness.json()["problems"])
        assert "127.0.0.1:1/0" in problems
        assert env["QDRANT_URL"] in problems
        assert readiness.json()["checks"]["blobs"] == readiness.json()["checks"]["encoder"] == "ok"
        wait_until(lambda: "not ready yet" in api.log.read_text(), 10)
    log = api.log.read_text()
    assert "127.0.0.1:1/0" in log
    assert env["QDRANT_URL"] in log
    assert "Traceback" not in log
    assert "s3cret" not in log + problems


def test_unwritable_blobs_are_told(tmp_path: Path, redis: RedisServer) -> None:
    env = base_env(redis.url, tmp_path) | {"FLEET_BLOB_URL": str(tmp_path / "file")}
    (tmp_path / "file").write_text("no folder")
    with serving(env, tmp_path) as api, api.client() as client:
        assert "blobs" in client.get("/readyz").json()["problems"][0]
        answer = send(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_down")
        assert "Traceback" not in api.log.read_text()


PUBLISH = """
import os, signal, sys, time
from embedfleet.api.dependencies import _hurry
from embedfleet.contracts.jobs import ProcessDocument
from embedfleet.runtime import broker
_hurry()
job, redis = ProcessDocument(task_id="t", sequence=1), int(sys.argv[1])
broker.publish([job])
os.kill(redis, signal.SIGSTOP)
started = time.monotonic()
broker.publish([job])
print(time.monotonic() - started)
os.kill(redis, signal.SIGCONT)
"""


def test_publish_to_a_stalled_redis_gives_up_soon(redis: RedisServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(redis.child.pid)],
        env=base_env(redis.url, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert float(done.stdout) < ANSWER_SECONDS
    assert "the janitor will repeat it" in done.stderr
