"""Batches form across documents: 64 one-chunk tasks in flight fill them."""

import re
from pathlib import Path

import httpx
import pytest

from embedfleet.contracts.states import DocumentState
from embedfleet.encoders.models import locate
from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, ModelSettings
from tests.e2e.fleet import until
from tests.e2e.workers import environment, publish, queue_one_chunk_document, worker

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

DOCUMENTS = 256
IN_FLIGHT = 64


def test_the_median_batch_of_a_real_worker_has_over_512_tokens_of_several_documents(
    empty_redis: RedisServer, qdrant_url: str, tmp_path: Path
) -> None:
    (probe_port,) = free_ports(1)
    env = environment(empty_redis.url, qdrant_url, tmp_path / "blobs", probe_port)
    del env["FLEET_MODEL_PATH"]
    ledger = Ledger.open(BrokerSettings(broker_url=empty_redis.url), LedgerSettings())
    blobs = Blobs(tmp_path / "blobs")
    model_key = locate(ModelSettings()).model_key
    publish([queue_one_chunk_document(ledger, blobs, n, model_key, "batches") for n in range(DOCUMENTS)], env)
    with worker("embeddings", env, tmp_path / "log", IN_FLIGHT):
        until(lambda: len(ledger.unsettled(DOCUMENTS)) == DOCUMENTS, "all documents are READY")
        assert {document.state for document in ledger.unsettled(DOCUMENTS)} == {DocumentState.READY}
        metrics = httpx.get(f"http://127.0.0.1:{probe_port}/metrics").text

    def count(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
        assert found, name
        return float(found.group(1))

    batches, small = count("fleet_batch_rows_count"), count('fleet_batch_tokens_bucket{le="512.0"}')
    assert count("fleet_batch_rows_sum") == count("fleet_batch_documents_sum") == DOCUMENTS
    assert small < batches / 2, (
        f"{small} of {batches} batches have at most 512 tokens"
    )  # the first cap is 1024
    assert count("fleet_tokens_total") > 100 * DOCUMENTS
