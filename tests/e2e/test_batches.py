"""Batches form across documents: 64 one-chunk tasks in flight make batches of 16 rows and more."""

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from embedfleet.contracts.documents import Chunk, ChunkOptions, Document, document_id
from embedfleet.contracts.jobs import Job, ProcessDocument
from embedfleet.contracts.states import DocumentState
from embedfleet.encoders.models import locate
from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime import chunkfiles
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.records import Claim, Part
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, ModelSettings
from tests.e2e.fleet import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

DOCUMENTS = 256
IN_FLIGHT = 64


def queue_one_chunk_document(ledger: Ledger, blobs: Blobs, number: int, model_key: str) -> Job:
    """Bring a document to the point where only its embedding task is left."""
    key, task_id = f"{number}.txt", str(uuid.uuid4())
    document = Document(
        id=document_id("default", "batches", key),
        tenant="default",
        collection="batches",
        document_key=key,
        filename=key,
        media_type="text",
        size_bytes=1,
        content_hash=key,
        options=ChunkOptions(),
        model_key=model_key,
        state=DocumentState.QUEUED,
        task_id=task_id,
        blob=f"uploads/default/{number}.txt",
        created_at=0,
        updated_at=0,
    )
    text = f"Note {number}: the ferry leaves at {number % 24} o'clock and takes bicycles."
    file = f"chunks/default/{document.id}/1/0"
    blobs.put(file, chunkfiles.pack([Chunk(0, text, 0, len(text), token_count=20)]))
    ledger.accept(document)
    claim = ledger.claim(ProcessDocument(task_id=task_id), "test")
    assert isinstance(claim, Claim)
    jobs = ledger.chunked(claim, [Part(str(uuid.uuid4()), 0, 1, file)], {"success": True})
    assert jobs
    return jobs[0]


def test_the_median_batch_of_a_real_worker_has_16_rows_or_more(
    empty_redis: RedisServer, qdrant_url: str, tmp_path: Path
) -> None:
    (probe_port,) = free_ports(1)
    env = {
        **os.environ,
        "CELERY_BROKER_URL": empty_redis.url,
        "QDRANT_URL": qdrant_url,
        "FLEET_BLOB_URL": str(tmp_path),
        "FLEET_PROBE_HOST": "127.0.0.1",
        "FLEET_PROBE_PORT": str(probe_port),
    }
    ledger = Ledger.open(BrokerSettings(broker_url=empty_redis.url), LedgerSettings())
    blobs = Blobs(tmp_path)
    model_key = locate(ModelSettings()).model_key
    jobs = [queue_one_chunk_document(ledger, blobs, number, model_key) for number in range(DOCUMENTS)]
    publish = "import sys, json; from embedfleet.runtime.broker import publish\n"
    publish += "from embedfleet.contracts.jobs import GenerateEmbeddings as G\n"
    publish += "publish([G.model_validate_json(line) for line in sys.stdin])"
    lines = "\n".join(job.model_dump_json() for job in jobs)
    subprocess.run([sys.executable, "-c", publish], input=lines, text=True, env=env, check=True)
    command = [sys.executable, "-m", "celery", "-A", "embedfleet.embeddings.tasks", "worker"]
    command += ["--queues=embeddings", f"--concurrency={IN_FLIGHT}", "--loglevel=WARNING"]
    worker = subprocess.Popen(command, env=env)
    try:
        ready = ledger.unsettled
        until(lambda: len(ready(DOCUMENTS)) == DOCUMENTS, "all documents are READY")
        assert {document.state for document in ready(DOCUMENTS)} == {DocumentState.READY}
        metrics = httpx.get(f"http://127.0.0.1:{probe_port}/metrics").text
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0

    def count(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
        assert found, name
        return float(found.group(1))

    batches, small = count("fleet_batch_rows_count"), count('fleet_batch_rows_bucket{le="15.0"}')
    assert count("fleet_batch_rows_sum") == DOCUMENTS
    assert small < batches / 2, f"{small} of {batches} batches have fewer than 16 rows"
