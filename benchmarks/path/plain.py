"""The plain design: Celery prefork, no ledger; each task embeds its own document. `make bench` runs it.

Same routes, same parser and chunker, same Redis and Qdrant; sentence-transformers, batches of 32.
"""

import os
import uuid
from pathlib import Path
from typing import Annotated, Any

import torch
from celery import Celery, signals
from fastapi import FastAPI, Form, UploadFile
from qdrant_client import QdrantClient, models
from sentence_transformers import SentenceTransformer

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.documents.parsers import Limits
from embedfleet.documents.pipeline import process
from embedfleet.documents.tokens import ModelTokens

MODEL, UPLOADS = Path(os.environ["BENCH_MODEL"]), Path(os.environ["BENCH_UPLOADS"])
REDIS, QDRANT = os.environ["BENCH_REDIS"], os.environ["BENCH_QDRANT"]
SPACE = models.VectorParams(size=384, distance=models.Distance.COSINE)
QUEUES = {"plain.process": {"queue": "documents"}, "plain.embed": {"queue": "embeddings"}}

worker = Celery("plain", broker=REDIS, backend=REDIS)
worker.conf.update(task_routes=QUEUES, worker_prefetch_multiplier=1, task_acks_late=True)
app, loaded = FastAPI(), dict[str, Any]()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def load(**_: Any) -> None:
    """Load the model once a process."""
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    loaded["model"] = SentenceTransformer(str(MODEL), device="cpu", local_files_only=True)
    loaded["tokens"] = ModelTokens.load(MODEL / "tokenizer.json")
    loaded["qdrant"] = QdrantClient(url=QDRANT, timeout=60, check_compatibility=False)


@app.post("/api/v1/documents/upload", status_code=202)
def upload(file: UploadFile, collection: Annotated[str, Form()]) -> dict[str, str]:
    """Keep the file, queue its task."""
    path = UPLOADS / f"{uuid.uuid4()}.txt"
    path.write_bytes(file.file.read())
    task = process_document.delay(str(path), collection, file.filename)
    return {"task_id": task.id, "status": "PENDING", "message": "queued"}


@app.get("/api/v1/tasks/{task_id}")
def status(task_id: str) -> dict[str, Any]:
    """Return what the result backend says."""
    result = worker.AsyncResult(task_id)
    return {"task_id": task_id, "status": result.state, "result": str(result.result)}


@worker.task(name="plain.process")  # type: ignore[untyped-decorator]
def process_document(path: str, collection: str, filename: str) -> dict[str, Any]:
    """Parse and chunk in process; send the chunks on in a message."""
    limits: Any = {"max_tokens": 256, "limits": Limits(), "progress": lambda *_: None}
    with Path(path).open("rb") as file:
        done = process(file, ".txt", ChunkOptions(), tokenizer=loaded["tokens"], **limits)
    chunks = [{"text": one.text, "chunk_index": one.index, "filename": filename} for one in done.chunks]
    task = generate_embeddings.delay(chunks, collection)
    return {"chunk_count": len(chunks), "embedding_task_id": task.id}


@worker.task(name="plain.embed")  # type: ignore[untyped-decorator]
def generate_embeddings(chunks: list[dict[str, Any]], collection: str) -> dict[str, Any]:
    """Embed one document's chunks, store the vectors."""
    texts, client = [chunk["text"] for chunk in chunks], loaded["qdrant"]
    vectors = loaded["model"].encode(texts, batch_size=32, show_progress_bar=False).tolist()
    if collection not in loaded:
        if not client.collection_exists(collection):
            client.create_collection(collection, vectors_config=SPACE)
        loaded[collection] = True
    pairs = zip(vectors, chunks, strict=True)
    points = [models.PointStruct(id=str(uuid.uuid4()), vector=one, payload=of) for one, of in pairs]
    client.upsert(collection, points, wait=True)
    return {"vectors_inserted": len(points)}
