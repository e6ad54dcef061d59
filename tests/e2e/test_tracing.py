"""One trace from the upload to the upsert, over both queues, though a message is lost on the way."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.contracts.jobs import Queue
from embedfleet.contracts.states import DocumentState
from embedfleet.local.redis import RedisServer
from tests.api.serving import base_env, send, serving
from tests.e2e.fleet import until
from tests.e2e.workers import worker

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
from tests.e2e.collector import Collector, Span

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("tracing")]

USERS = "4bf92f3577b34da6a3ce929d0e0e4736"
STAGES = {
    "embedfleet-api": {"upload"},
    "embedfleet-documents": {"process_document", "parse", "store"},
    "embedfleet-embeddings": {"generate_embeddings", "read", "encode", "upsert"},
}
WHOLE = {(service, name) for service, names in STAGES.items() for name in names}


ONE_SPAN = """
from embedfleet.runtime import tracing
tracing.start("embedfleet-api")
with tracing.span("upload", "", "SERVER"):
    pass
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def trace_once(endpoint: str) -> None:
    """Trace one span in a process that ends before the exporter's next turn."""
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "600"
    # The SDK by itself would wait for 30 s.
    subprocess.run([sys.executable, "-c", ONE_SPAN], env=env, check=True, timeout=25)


def test_the_last_spans_of_a_process_are_sent(collector: Collector) -> None:
    trace_once(collector.url)
    assert [span[:2] for span in collector.spans] == [("embedfleet-api", "upload")]


def test_a_collector_that_does_not_answer_holds_no_process_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        trace_once(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_one_trace_leads_from_the_upload_to_the_upsert_though_the_message_between_is_lost(
    empty_redis: RedisServer, qdrant_url: str, tmp_path: Path, collector: Collector
) -> None:
    env = base_env(empty_redis.url, tmp_path) | {
        "QDRANT_URL": qdrant_url,
        "FLEET_LEASE_SECONDS": "4",
        "FLEET_SCAN_SECONDS": "1",
        "FLEET_PROBE_PORT": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }

    def trace(of: str) -> list[Span]:
        return [span for span in collector.spans if span.trace == of]

    with serving(env, tmp_path) as api, api.client(traceparent=f"00-{USERS}-00f067aa0ba902b7-01") as client:
        text = "Chuyến phà đầu tiên rời bến lúc sáu giờ. " * 20
        with worker("documents", env, tmp_path / "documents.log", 1):
            answer = send(client, "bí mật.txt", text.encode()).raise_for_status().json()
            until(lambda: api.redis.llen(Queue.EMBEDDINGS) == 1, "the embedding task's message is there")
        api.redis.delete(Queue.EMBEDDINGS)
        with worker("embeddings", env, tmp_path / "embeddings.log", 2):
            document = answer["document_id"]
            until(
                lambda: api.ledger.document("default", document).state is DocumentState.READY, "it is READY"
            )
            until(lambda: {span[:2] for span in trace(USERS)} >= WHOLE, "all of its spans came")
    spans = {span.name: span for span in trace(USERS)}
    assert {span[:2] for span in collector.spans} == WHOLE
    assert {span.trace for span in collector.spans} == {USERS}
    upload = spans["upload"]
    assert upload.parent == "00f067aa0ba902b7"
    assert spans["process_document"].parent == spans["generate_embeddings"].parent == upload.id
    assert spans["upsert"].parent == spans["generate_embeddings"].id
    assert upload.attributes["fleet.document_id"] == document
    assert spans["generate_embeddings"].attributes["fleet.document_id"] == document
    sent = b"".join(collector.raw)
    assert not any(word.encode() in sent for word in ("bí mật", "phà", "notes"))
