"""The document worker: ``celery -A embedfleet.documents.tasks worker --queues=documents --concurrency=4``.

Its threads only supervise: the file is parsed, cleaned and chunked in a sandbox child a thread.

=========================================  ===========================================================
the worker dies after                      what the next run does
=========================================  ===========================================================
some chunk files are stored                writes the same files again, under the same names
the ledger took the end of the task        nothing: the embedding tasks exist, the janitor wakes them
=========================================  ===========================================================
"""

import time
import uuid
from contextlib import ExitStack
from functools import partial
from pathlib import PurePath
from typing import Any

from celery import signals

from embedfleet.contracts.documents import Chunk
from embedfleet.contracts.jobs import ProcessDocument, Queue
from embedfleet.documents import metrics
from embedfleet.documents.pipeline import Processed
from embedfleet.documents.sandbox import SandboxPool
from embedfleet.encoders import models
from embedfleet.runtime import chunkfiles
from embedfleet.runtime.blobs import chunk_prefix, open_blobs
from embedfleet.runtime.broker import app
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.settings import (
    BrokerSettings,
    EngineSettings,
    ModelSettings,
    SandboxSettings,
    load,
)
from embedfleet.runtime.worker.lifecycle import compose
from embedfleet.runtime.worker.runs import Run, Stopped
from embedfleet.runtime.worker.worker import Worker

STORE_PATIENCE_SECONDS = 120.0

_blobs = open_blobs()
_sandboxes: SandboxPool


def _start(worker: Worker, concurrency: int) -> None:
    global _sandboxes
    files = models.locate(load(ModelSettings))
    _sandboxes = SandboxPool(
        concurrency,
        files.tokenizer,
        models.chunk_tokens(files),
        load(SandboxSettings),
        load(BrokerSettings).max_tasks_per_child,
        metrics.lost,
    )
    signals.worker_shutdown.connect(lambda **_: _sandboxes.close(), weak=False)


_worker = compose(Queue.DOCUMENTS, _start, _blobs, dependencies=[_blobs.check])


@app.task(name=ProcessDocument.task_name, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def process_document_task(self: Any, /, **message: Any) -> None:
    """Turn one uploaded file into chunk files and embedding tasks."""
    _worker.receive(ProcessDocument, message, _process, self.request.id)


def _process(run: Run) -> None:
    document, limit = run.document, load(BrokerSettings).time_limit
    extension = PurePath(document.blob).suffix.lower()
    run.enter("parse", patience=limit)
    with ExitStack() as open_files:
        upload = _worker.hold(
            run, lambda: open_files.enter_context(_blobs.file(document.blob, document.size_bytes))
        )
        began = time.monotonic()
        processed = _sandboxes.process(
            upload,
            extension,
            document.options,
            deadline_seconds=limit,
            on_progress=run.progress,
            check=run.check,
        )
    metrics.parsed(extension, time.monotonic() - began)
    run.enter("store", patience=STORE_PATIENCE_SECONDS)
    try:
        parts = _store(run, processed.chunks)
        result = _result(run, processed, parts)
        jobs = _worker.end(run, lambda: _worker.ledger.chunked(run.claim, parts, result))
    except Stopped:
        if run.is_lost:
            _take_back(run)
        raise
    _worker.publish(jobs)
    metrics.chunked(extension, document, processed)


def _store(run: Run, chunks: list[Chunk]) -> list[Part]:
    size, parts = load(EngineSettings).chunks_per_task, []
    for number, start in enumerate(range(0, len(chunks), size)):
        run.check()
        piece = chunks[start : start + size]
        key = f"{chunk_prefix(run.document)}/{number}"
        _worker.hold(run, partial(_blobs.put, key, chunkfiles.pack(piece)))
        run.alive()
        # The same id whoever runs this: a run that is repeated creates the same tasks.
        task_id = str(uuid.uuid5(uuid.UUID(run.task.id), str(number)))
        tokens = sum(chunk.token_count for chunk in piece)
        parts.append(Part(task_id, number, len(piece), key, tokens))
    return parts


def _take_back(run: Run) -> None:
    """Remove the chunk files that a late writer stored for a document that was deleted."""
    document = run.document
    if _worker.ledger.deleted_through(document.tenant, document.id) >= document.generation:
        _blobs.delete_folder(chunk_prefix(document))


def _result(run: Run, processed: Processed, parts: list[Part]) -> dict[str, Any]:
    ids = [part.task_id for part in parts]
    return {
        "success": True,
        "task_id": run.task.id,
        "chunk_count": len(processed.chunks),
        "embedding_task_id": ids[0],
        "embedding_task_ids": ids,
        "chunk_size_effective": processed.chunk_size_effective,
        "pages": processed.pages,
        "pages_without_text": processed.pages_without_text,
    }
