"""Two Celery workers that do nothing: one bare, one through the ledger, on the same settings.

``celery -A benchmarks.ledger.workers:bare worker`` · ``celery -A benchmarks.ledger.workers:fleet worker``
"""

from typing import Any

from embedfleet.contracts.jobs import GenerateEmbeddings, ProcessDocument, Queue
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.broker import app as fleet
from embedfleet.runtime.broker import create_app, publish
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.settings import BlobSettings, BrokerSettings, LedgerSettings, load
from embedfleet.runtime.worker.lifecycle import compose
from embedfleet.runtime.worker.runs import Run

BARE_QUEUE = "bare"
BARE_TASK = "bench.noop"

bare = create_app(load(BrokerSettings), load(LedgerSettings))
_worker = compose(Queue.EMBEDDINGS, lambda *_: None, Blobs(load(BlobSettings).blob_url), [])


@bare.task(name=BARE_TASK)  # type: ignore[untyped-decorator]  # celery has no types
def noop(**_message: Any) -> None:
    """Do nothing."""


@fleet.task(name=GenerateEmbeddings.task_name, bind=True)  # type: ignore[untyped-decorator]
def end_embedding(self: Any, /, **message: Any) -> None:
    """Claim, do nothing, end: the document becomes READY."""
    _worker.receive(GenerateEmbeddings, message, _embedded, self.request.id)


@fleet.task(name=ProcessDocument.task_name, bind=True)  # type: ignore[untyped-decorator]
def end_document(self: Any, /, **message: Any) -> None:
    """Claim, do nothing, end: one embedding task comes into being and is published."""
    _worker.receive(ProcessDocument, message, _chunked, self.request.id)


def _embedded(run: Run) -> None:
    result = {"success": True, "task_id": run.task.id}
    _worker.end(run, lambda: _worker.ledger.embedded(run.claim, result))


def _chunked(run: Run) -> None:
    part = Part(f"{run.task.id}-0", 0, 8, f"chunks/{run.document.id}/1/0")
    result = {"success": True, "task_id": run.task.id}
    publish(_worker.end(run, lambda: _worker.ledger.chunked(run.claim, [part], result)))
