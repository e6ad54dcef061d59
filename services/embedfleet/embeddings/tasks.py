"""The embedding worker: ``celery -A embedfleet.embeddings.tasks worker --queues=embeddings``.

Its threads read chunk files and tokenise; one lane encodes for all of them, and writers store the vectors.

=========================================  ===========================================================
the worker dies after                      what the next run does
=========================================  ===========================================================
some points are stored                     skips those, stores the rest: the ids are the same
all points are stored                      skips all, ends the task
the ledger took the end of the task        nothing; the janitor settles a document that became READY
=========================================  ===========================================================
"""

import math
from dataclasses import asdict
from typing import Any

from celery import signals

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings, Queue
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES
from embedfleet.embeddings.engine import Engine
from embedfleet.embeddings.generation import PATIENCE_SECONDS, Counts, GenerationWriter
from embedfleet.encoders import base, models
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime import chunkfiles
from embedfleet.runtime.blobs import open_blobs
from embedfleet.runtime.broker import app
from embedfleet.runtime.settings import EngineSettings, ModelSettings, VectorSettings, load
from embedfleet.runtime.worker.lifecycle import compose
from embedfleet.runtime.worker.runs import Run, Stopped
from embedfleet.runtime.worker.worker import Worker
from embedfleet.vectors import VectorStore

# By then the tasks whose batch hangs have ended as `stalled`, which is one of their tries. A drain before
# would hand back unspent, for ever, the one that makes the lane hang.
HUNG_SECONDS = PATIENCE_SECONDS + 30

_blobs = open_blobs()
_store = VectorStore(load(VectorSettings))
_engine: Engine


def _start(worker: Worker, concurrency: int) -> None:
    global _engine
    model, settings = load(ModelSettings), load(EngineSettings)
    encoder = base.load(model, settings)
    _engine = Engine.start(encoder, TextTokenizer(models.locate(model)), _store, settings)
    # A thread that is inside the runtime when the interpreter ends aborts the process.
    signals.worker_shutdown.connect(lambda **_: _engine.close(), weak=False)


def _problems() -> list[str]:
    lane, busy = _engine.lane, _engine.lane.busy_seconds
    if lane.has_died:
        return ["the lane has died: nothing is encoded any more"]
    if HUNG_SECONDS <= busy < math.inf:
        return [f"the lane hangs: the device has not answered for {busy:.0f} s"]
    failure = lane.outages.failure
    return [f"the device serves no row: {failure}"] if failure else []


def _room() -> None:
    _engine.lane.outages.check()


_worker = compose(Queue.EMBEDDINGS, _start, _blobs, [_store.ping, _blobs.check, _room], _problems)


@app.task(name=GenerateEmbeddings.task_name, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def generate_embeddings_task(self: Any, /, **message: Any) -> None:
    """Embed one chunk file and store its vectors."""
    _worker.receive(GenerateEmbeddings, message, _embed, self.request.id)


def _embed(run: Run) -> None:
    document, encoder = run.document, _engine.lane.encoder
    if document.model_key != encoder.model_key:
        raise EmbeddingError(
            f"the upload names the model {document.model_key}, this worker runs {encoder.model_key}; "
            "give api and workers the same FLEET_MODEL_ID",
            code="model_mismatch",
        )
    run.enter("read", PATIENCE_SECONDS)
    chunks = chunkfiles.unpack(_worker.hold(run, lambda: _blobs.get(run.task.chunk_file)))
    writer = GenerationWriter(run, _worker.hold, _engine)
    try:
        result = _result(run, writer.write(chunks))
        _worker.end(run, lambda: _worker.ledger.embedded(run.claim, result))
    except Stopped:
        if run.is_lost:
            _take_back(run, writer.collection)
        raise


def _result(run: Run, counts: Counts) -> dict[str, Any]:
    return {
        "success": True,
        "task_id": run.task.id,
        "vectors_inserted": counts.embedded + counts.reused,
        **asdict(counts),
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
