"""Single worker processes, and documents of one chunk that wait for them: no API is needed."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from embedfleet.contracts.documents import Chunk, ChunkOptions, Document, document_id
from embedfleet.contracts.jobs import Job, ProcessDocument
from embedfleet.contracts.states import DocumentState
from embedfleet.encoders.models import locate
from embedfleet.runtime import chunkfiles
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part
from embedfleet.runtime.settings import ModelSettings
from tests.api.serving import TINY_MODEL, fetch

STOP_SECONDS = 30
PUBLISH = """
import sys
from embedfleet.contracts.jobs import GenerateEmbeddings
from embedfleet.runtime.broker import publish
publish([GenerateEmbeddings.model_validate_json(line) for line in sys.stdin])
"""


def queue_one_chunk_document(
    ledger: Ledger, blobs: Blobs, number: int, model_key: str, collection: str = "tiny"
) -> Job:
    """Bring a document to the point where only its embedding task is left; a collection has one model."""
    key, task_id = f"{number}.txt", str(uuid.uuid4())
    document = Document(
        id=document_id("default", collection, key),
        tenant="default",
        collection=collection,
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
    text = " ".join(f"Note {number}: the ferry leaves at {hour} o'clock with bicycles." for hour in range(16))
    file = f"chunks/default/{document.id}/1/0"
    blobs.put(file, chunkfiles.pack([Chunk(0, text, 0, len(text), token_count=200)]))
    ledger.accept(document)
    claim = ledger.claim(ProcessDocument(task_id=task_id), "test")
    assert isinstance(claim, Claim)
    jobs = ledger.chunked(claim, [Part(str(uuid.uuid4()), 0, 1, file)], {"success": True})
    assert jobs
    return jobs[0]


def tiny_key() -> str:
    """Return the model key of the workers here."""
    return locate(ModelSettings(model_path=TINY_MODEL)).model_key


def publish(jobs: list[Job], env: dict[str, str]) -> None:
    """Send the wake-up calls, as a document worker would."""
    lines = "\n".join(job.model_dump_json() for job in jobs)
    subprocess.run([sys.executable, "-c", PUBLISH], input=lines, text=True, env=env, check=True)


def environment(redis: str, qdrant: str, blobs: Path, probe_port: int) -> dict[str, str]:
    """Return the variables of a worker; its model is the tiny one, which takes no seconds to load."""
    return {
        **os.environ,
        "CELERY_BROKER_URL": redis,
        "QDRANT_URL": qdrant,
        "FLEET_BLOB_URL": str(blobs),
        "FLEET_MODEL_PATH": str(TINY_MODEL),
        "FLEET_PROBE_HOST": "127.0.0.1",
        "FLEET_PROBE_PORT": str(probe_port),
    }


def is_ready(probe_port: int) -> bool:
    """Say whether the worker behind a probe port is ready."""
    try:
        return fetch(f"http://127.0.0.1:{probe_port}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def worker(
    queue: str, env: dict[str, str], log: Path, concurrency: int, prelude: str = "", kind: str = ""
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker as the documentation says; stop it by SIGTERM and see that it ends well.

    Args:
        queue: its pool.
        env: its variables.
        log: where its output goes.
        concurrency: its threads.
        prelude: Python that its process runs first.
        kind: which workers take this queue, where they don't have its name.
    """
    program = ["-c", f"{prelude}\nfrom celery.__main__ import main\nmain()"] if prelude else ["-m", "celery"]
    command = [sys.executable, *program, "-A", f"embedfleet.{kind or queue}.tasks", "worker"]
    command += [f"--queues={queue}", f"--concurrency={concurrency}"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=STOP_SECONDS)
    assert code == 0, log.read_text("utf-8")
