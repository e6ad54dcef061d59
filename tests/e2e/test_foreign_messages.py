"""What is pushed onto a queue by hand: dropped and counted, and the worker goes on."""

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.e2e.fleet import until
from tests.e2e.workers import environment, publish, queue_one_chunk_document, tiny_key, worker
from tests.qdrant_process import QdrantProcess

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

TASK = "embedfleet.embeddings.generate_embeddings_task"
HEADERS: dict[str, Any] = {"lang": "py", "task": TASK, "id": "abc", "root_id": "abc", "retries": 0}
BODY: list[Any] = [[], {"task_id": "nobody"}, {}]


def message(
    body: Any = BODY, headers: Any = HEADERS, kind: str = "application/json", **properties: Any
) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {
        "correlation_id": "x",
        "delivery_tag": str(uuid.uuid4()),
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "embeddings"},
    }
    return json.dumps(
        {
            "body": base64.b64encode(data).decode(),
            "content-encoding": "utf-8",
            "content-type": kind,
            "headers": headers,
            "properties": known | properties,
        }
    )


MALFORMED: list[bytes | str] = [
    b"garbage",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{}",
    b'{"properties": {}}',
    message(delivery_tag=None),
    message(delivery_info=None),
    message(headers=None),
    message(headers={"task": TASK}),
    message(headers=HEADERS | {"task": ["x"]}),
    message(headers=HEADERS | {"id": {"a": 1}}),
    message(headers=HEADERS | {"eta": "2999-01-01T00:00:00"}),
    message(headers=HEADERS | {"timelimit": "x"}),
    message(b"\x80\x04.", kind="application/x-python-serialize"),
    message(b"not json"),
    message("text"),
    message({"x": 1}),
    message([[1, 2], {}, {}]),
    message([[], [], {}]),
    message([[], {"task_id": "nobody"}, "x"]),
    message([[], {"task_id": "nobody"}, {"callbacks": [{"task": "x"}]}]),
    message([[], {"something": "else"}, {}]),
    message([[], {"task_id": 7}, {}]),
]
FOREIGN: list[bytes | str] = [
    message(headers=HEADERS | {"task": "somebody.elses"}),
    message(headers=HEADERS | {"expires": "nonsense"}),
]


def dropped(probe_port: int) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{probe_port}/metrics", timeout=5).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["fleet_messages_dropped"].samples
    return {one.labels["reason"]: one.value for one in samples if one.name.endswith("_total") and one.value}


def test_no_message_can_stop_a_worker(empty_redis: RedisServer, tmp_path: Path) -> None:
    (probe_port,) = free_ports(1)
    ledger = Ledger.open(BrokerSettings(broker_url=empty_redis.url), LedgerSettings())
    log, redis = tmp_path / "log", connect(empty_redis.url)
    newer = message([[], {"task_id": "nobody", "cost": 7}, {}])
    for one in [*MALFORMED, *FOREIGN, newer, message()]:
        redis.lpush("embeddings", one)
    with QdrantProcess(tmp_path / "qdrant") as qdrant:
        env = environment(empty_redis.url, qdrant.url, tmp_path / "blobs", probe_port)
        publish([queue_one_chunk_document(ledger, Blobs(tmp_path / "blobs"), 0, tiny_key())], env)
        with worker("embeddings", env, log, concurrency=2) as process:
            until(lambda: len(ledger.unsettled(1)) == 1, "the good one among them is READY")
            assert dropped(probe_port) == {"malformed": len(MALFORMED), "newer": 1, "unknown": 1}
            assert process.poll() is None
    assert log.read_text("utf-8").count(" ready.") == 1, "it never connected again"
    assert redis.hlen("unacked") == 0
    redis.close()
