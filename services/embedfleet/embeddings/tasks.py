"""The embedding worker: ``celery -A embedfleet.embeddings.tasks worker --queues=embeddings``.

Its threads read chunk files and store vectors; one lane encodes for all of them.

=========================================  ===========================================================
the worker dies after                      what the next run does
=========================================  ===========================================================
some points are stored                     skips those, embeds the rest: the ids are the same
all points are stored                      skips all, ends the task
the ledger took the end of the task        nothing; the janitor settles a document that became READY
=========================================  ===========================================================
"""

from collections.abc import Sequence
from typing import Any

from celery import signals

from embedfleet.contracts.documents import Chunk, point_id, qdrant_collection, text_hash
from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings, Queue
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES
from embedfleet.embeddings.engine import Lane, Submission
from embedfleet.encoders import base, models
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime import chunkfiles
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.broker import app
from embedfleet.runtime.lifecycle import compose
from embedfleet.runtime.runs import Run, Stopped
from embedfleet.runtime.settings import BlobSettings, EngineSettings, ModelSettings, VectorSettings, load
from embedfleet.runtime.worker import Worker
from embedfleet.vectors import VectorStore

SLICE_CHUNKS = 32
PATIENCE_SECONDS = 300.0

_blobs = Blobs(load(BlobSettings).blob_url)
_store = VectorStore(load(VectorSettings))
_lane: Lane
_tokenizer: TextTokenizer


def _start(worker: Worker, concurrency: int) -> None:
    global _lane, _tokenizer
    model, engine = load(ModelSettings), load(EngineSettings)
    encoder = base.load(model, engine)
    files = models.locate(model)
    _tokenizer = TextTokenizer(files)
    _lane = Lane(encoder, engine.max_batch_tokens, _tokenizer.pad_id)
    # A thread that is inside the runtime when the interpreter ends aborts the process.
    signals.worker_shutdown.connect(lambda **_: _lane.close(), weak=False)


_worker = compose(Queue.EMBEDDINGS, _start, dependencies=[_store.ping])


@app.task(name=GenerateEmbeddings.task_name)  # type: ignore[untyped-decorator]  # celery has no types
def generate_embeddings_task(**message: Any) -> None:
    """Embed one chunk file and store its vectors."""
    _worker.run(GenerateEmbeddings.model_validate(message), _embed)


def _embed(run: Run) -> None:
    document = run.document
    if document.model_key != _lane.encoder.model_key:
        raise EmbeddingError(
            f"the upload names the model {document.model_key}, this worker runs {_lane.encoder.model_key}; "
            "give api and workers the same FLEET_MODEL_ID",
            code="model_mismatch",
        )
    run.enter("read", PATIENCE_SECONDS)
    chunks = chunkfiles.unpack(_blobs.get(run.task.chunk_file))
    collection = qdrant_collection(document.tenant, document.collection)
    _worker.hold(run, lambda: _store.ensure_collection(collection, _lane.encoder.dim))
    missing = _missing(run, collection, chunks)
    try:
        _encode_and_store(run, collection, missing, done=len(chunks) - len(missing), total=len(chunks))
        if _worker.ledger.embedded(run.claim, _result(run, len(missing), len(chunks))) is None:
            run.lose()
            raise Stopped
    except Stopped:
        if run.is_lost:
            _take_back(run, collection)
        raise


def _result(run: Run, inserted: int, total: int) -> dict[str, Any]:
    return {
        "success": True,
        "task_id": run.task.id,
        "vectors_inserted": inserted,
        "skipped": total - inserted,
    }


def _missing(run: Run, collection: str, chunks: list[Chunk]) -> list[Chunk]:
    if run.claim.fence == 1:
        return chunks
    ids = [_point(run, chunk) for chunk in chunks]
    stored: set[str] = set()
    _worker.hold(run, lambda: stored.update(_store.stored(collection, ids)))
    return [chunk for chunk, point in zip(chunks, ids, strict=True) if point not in stored]


def _encode_and_store(run: Run, collection: str, chunks: list[Chunk], done: int, total: int) -> None:
    run.enter("encode", PATIENCE_SECONDS)
    run.progress(done, total)
    slices = [chunks[at : at + SLICE_CHUNKS] for at in range(0, len(chunks), SLICE_CHUNKS)]
    # All slices are submitted at once: while one is stored the lane encodes the next.
    submissions = [
        _lane.submit(run.document.id, _tokenizer.encode([chunk.text for chunk in piece])) for piece in slices
    ]
    try:
        for piece, submission in zip(slices, submissions, strict=True):
            _upsert(run, collection, piece, submission)
            done += len(piece)
            run.progress(done, total)
    finally:
        for submission in submissions:
            submission.future.cancel()


def _upsert(run: Run, collection: str, chunks: Sequence[Chunk], submission: Submission) -> None:
    def check() -> None:
        run.check()
        if _lane.busy_seconds < PATIENCE_SECONDS:
            run.alive()  # rows of other tasks are before ours; only a hung lane is a stall

    vectors = submission.wait(check)
    ids = [_point(run, chunk) for chunk in chunks]
    payloads = [_payload(run, chunk) for chunk in chunks]
    _worker.hold(run, lambda: _store.upsert(collection, ids, vectors, payloads))


def _point(run: Run, chunk: Chunk) -> str:
    return point_id(run.document.id, run.task.generation, chunk.index)


def _payload(run: Run, chunk: Chunk) -> dict[str, Any]:
    document = run.document
    return {
        "document_id": document.id,
        "generation": run.task.generation,
        "chunk_index": chunk.index,
        "text_hash": text_hash(chunk.text),
        "text": chunk.text,
        "filename": document.filename,
        "page": chunk.page,
        "heading": chunk.heading,
        "start": chunk.start,
        "end": chunk.end,
        "metadata": document.metadata,
        "model_key": document.model_key,
        "precision": _lane.encoder.precision,
    }


def _take_back(run: Run, collection: str) -> None:
    """Remove what a late writer stored for a generation that was deleted, revoked, failed or overtaken."""
    deleted = _worker.ledger.deleted_through(run.document.tenant, run.document.id)
    if deleted >= run.task.generation:
        _store.delete_generations(collection, run.document.id, keep=None, through=deleted)
        return
    now = _worker.ledger.document(run.document.tenant, run.document.id)
    if now is None:
        return  # Redis has lost it: what is live is known again when the janitor has rebuilt the record
    if now.generation > run.task.generation or now.state in TERMINAL_DOCUMENT_STATES:
        through = min(now.generation, run.task.generation)
        _store.delete_generations(collection, now.id, through=through, keep=now.live_generation)
