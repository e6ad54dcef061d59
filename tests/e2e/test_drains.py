"""SIGTERM while Qdrant or Redis is silent: it takes what is sent and answers nothing, which no error ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.e2e.fleet import until
from tests.e2e.workers import environment, is_ready, publish, queue_one_chunk_document, tiny_key, worker
from tests.loopback_server import LoopbackServer, QuietHandler
from tests.runtime.uploads import given_back

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

# Promised are 5; a call to Qdrant may take 30, and Celery's goodbye to a silent Redis took 46.
GONE_SECONDS = 15
WAIT_SECONDS = 60


@contextmanager
def stopped(redis: RedisServer) -> Iterator[None]:
    """Let Redis be silent while the block runs."""
    assert redis.child.pid
    process = redis.child.pid
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextmanager
def silent_at(ending: str, qdrant_url: str) -> Iterator[tuple[str, threading.Event]]:
    """Run a Qdrant that never answers requests whose path ends so; yield its address, and if one came."""
    came, ended = threading.Event(), threading.Event()

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path.split("?")[0].endswith(ending):
                came.set()
                ended.wait()
                return
            headers = {"content-type": "application/json"}
            answer = httpx.request(self.command, qdrant_url + self.path, content=body, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_PUT = do_POST = answer

    with LoopbackServer(Handler) as server:
        try:
            yield server.url, came
        finally:
            ended.set()


@pytest.mark.parametrize("queue", ["documents", "embeddings"])
def test_an_idle_worker_is_gone_in_time_though_redis_is_silent(queue: str, tmp_path: Path) -> None:
    (probe_port,) = free_ports(1)
    with RedisServer(tmp_path / "redis") as redis:
        env = environment(redis.url, "http://127.0.0.1:1", tmp_path / "blobs", probe_port)
        with worker(queue, env, tmp_path / "log", concurrency=2) as process:
            until(lambda: is_ready(probe_port), "the worker consumes")
            with stopped(redis):
                process.terminate()
                assert process.wait(GONE_SECONDS) == 0


@pytest.mark.parametrize(
    ("ending", "redis_is_silent"),
    [("__tiny", False), ("/points", False), ("/points", True)],
    ids=["asked for the collection", "given points", "Redis, too"],
)
def test_a_worker_is_gone_in_time_though_qdrant_is_silent_and_its_task_is_given_back(
    qdrant_url: str, tmp_path: Path, ending: str, redis_is_silent: bool
) -> None:
    (probe_port,) = free_ports(1)
    blobs = Blobs(tmp_path / "blobs")
    with RedisServer(tmp_path / "redis") as redis, silent_at(ending, qdrant_url) as (address, came):
        env = environment(redis.url, address, tmp_path / "blobs", probe_port)
        ledger = Ledger.open(BrokerSettings(broker_url=redis.url), LedgerSettings())
        job = queue_one_chunk_document(ledger, blobs, 0, tiny_key())
        publish([job], env)
        with worker("embeddings", env, tmp_path / "log", concurrency=2) as process:
            assert came.wait(WAIT_SECONDS)
            if redis_is_silent:
                with stopped(redis):
                    process.terminate()
                    assert process.wait(GONE_SECONDS) == 0
            else:
                process.terminate()
                process.terminate()
                assert process.wait(GONE_SECONDS) == 0
        assert given_back(HandBacks(ledger, blobs)) == [job.model_copy(update={"sequence": 2})]
        task = ledger.task("default", job.task_id)
        assert task
        deaths = ledger._redis.hget(f"task:{job.task_id}", "deaths")
        assert (task.state, task.attempt, deaths) == ("PENDING", 0, "0")
