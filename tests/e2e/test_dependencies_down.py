"""A dependency that is down: a clear line that names its address, no traceback, no attempt spent."""

from pathlib import Path

import pytest

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.e2e.fleet import until
from tests.e2e.workers import environment, is_ready, publish, queue_one_chunk_document, tiny_key, worker
from tests.qdrant_process import QdrantProcess

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]


@pytest.mark.parametrize("queue", ["documents", "embeddings"])
def test_a_worker_waits_for_a_redis_that_is_down_at_its_start(queue: str, tmp_path: Path) -> None:
    redis_port, probe_port = free_ports(2)
    redis = RedisServer(tmp_path / "redis", redis_port)
    env = environment(redis.url, "http://127.0.0.1:1", tmp_path / "blobs", probe_port)
    log = tmp_path / "log"
    with worker(queue, env, log, concurrency=2):
        until(
            lambda: log.exists() and f"127.0.0.1:{redis_port}" in log.read_text("utf-8"),
            "the address is named",
        )
        assert not is_ready(probe_port)
        with redis:
            until(lambda: is_ready(probe_port), "the worker consumes")
            assert "Traceback" not in log.read_text("utf-8")


def test_a_worker_that_holds_a_message_outlives_the_death_of_redis(tmp_path: Path) -> None:
    (probe_port,) = free_ports(1)
    redis, log = RedisServer(tmp_path / "redis"), tmp_path / "log"
    with redis:
        env = environment(redis.url, "http://127.0.0.1:1", tmp_path / "blobs", probe_port)
        ledger = Ledger.open(BrokerSettings(broker_url=redis.url), LedgerSettings())
        publish([queue_one_chunk_document(ledger, Blobs(tmp_path / "blobs"), 0, tiny_key())], env)
        with worker("embeddings", env, log, concurrency=2):
            until(lambda: ledger.pool("embeddings").parked, "the task is held, for Qdrant is down")
            redis.kill()
            until(lambda: log.read_text("utf-8").count("Error 111") > 0, "the worker tries to connect again")
            redis.start()
            until(lambda: ledger.pool("embeddings").workers == 1, "the worker beats again")
            assert "Unrecoverable" not in log.read_text("utf-8")


def test_a_pool_parks_while_qdrant_is_down_and_goes_on_by_itself(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    qdrant_port, probe_port = free_ports(2)
    qdrant = f"http://127.0.0.1:{qdrant_port}"
    env = environment(empty_redis.url, qdrant, tmp_path / "blobs", probe_port) | {"FLEET_HOLD_SECONDS": "1"}
    ledger = Ledger.open(BrokerSettings(broker_url=empty_redis.url), LedgerSettings())
    job = queue_one_chunk_document(ledger, Blobs(tmp_path / "blobs"), 0, tiny_key())
    publish([job], env)
    log = tmp_path / "log"
    with worker("embeddings", env, log, concurrency=2):
        until(lambda: presence(ledger) == (1, 1), "it is there, and parked")
        until(lambda: "handed back" in log.read_text("utf-8"), "the work is handed back")
        assert not is_ready(probe_port)
        with QdrantProcess(tmp_path / "qdrant", "--port", str(qdrant_port)):
            until(lambda: len(ledger.unsettled(1)) == 1, "the document is READY")
            until(lambda: presence(ledger) == (1, 0), "it is parked no more")
        task = ledger.task("default", job.task_id)
        assert task
        assert (task.state, task.attempt) == ("SUCCESS", 0)
        assert "Traceback" not in log.read_text("utf-8")
    assert presence(ledger) == (0, 0), "it has left, and said so"


def presence(ledger: Ledger) -> tuple[int, int]:
    """Return how many embedding workers there are, and how many of them are parked."""
    (queue,) = [one for one in ledger.overview().queues if one.name == "embeddings"]
    return queue.consumers, queue.parked
