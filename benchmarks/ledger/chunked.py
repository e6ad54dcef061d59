"""A document worker that only goes through the ledger: ``celery -A benchmarks.ledger.chunked worker``."""

from typing import Any

from embedfleet.contracts.jobs import ProcessDocument, Queue
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.broker import app, publish
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.settings import BlobSettings, load
from embedfleet.runtime.worker.lifecycle import compose
from embedfleet.runtime.worker.runs import Run

_worker = compose(Queue.DOCUMENTS, lambda *_: None, Blobs(load(BlobSettings).blob_url), [])


@app.task(name=ProcessDocument.task_name, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def noop(self: Any, /, **message: Any) -> None:
    """Claim, do nothing, end: one embedding task comes into being and is published."""
    _worker.receive(ProcessDocument, message, _end, self.request.id)


def _end(run: Run) -> None:
    part = Part(f"{run.task.id}-0", 0, 8, f"chunks/{run.document.id}/1/0")
    result = {"success": True, "task_id": run.task.id}
    publish(_worker.end(run, lambda: _worker.ledger.chunked(run.claim, [part], result)))
