"""What would lose work is refused at the start, in one sentence that has the fix."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import EXIT_REFUSED
from tests.e2e.workers import environment

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]


def start_worker(redis: RedisServer, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "celery", "-A", "embedfleet.documents.tasks", "worker"]
    env = environment(redis.url, "http://127.0.0.1:1", folder, probe_port=0)
    return subprocess.run(
        [*command, "--queues=documents", *options],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_pool_of_processes_is_refused(empty_redis: RedisServer, tmp_path: Path) -> None:
    done = start_worker(empty_redis, tmp_path, "--pool=solo")
    assert done.returncode == EXIT_REFUSED
    assert "--pool=threads" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_queue_is_refused(empty_redis: RedisServer, tmp_path: Path) -> None:
    done = start_worker(empty_redis, tmp_path, "--queues=documents,documents-large")
    assert done.returncode == EXIT_REFUSED
    assert "start the worker with --queues=documents, or with one of FLEET_DOCUMENT_QUEUES" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_that_evicts_is_refused(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        client = connect(redis.url)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.close()
        done = start_worker(redis, tmp_path / "blobs")
    assert done.returncode == EXIT_REFUSED
    assert "CONFIG SET maxmemory-policy noeviction" in done.stderr
    assert "Traceback" not in done.stderr
