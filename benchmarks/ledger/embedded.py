"""An embedding worker that only goes through the ledger: ``celery -A benchmarks.ledger.embedded worker``."""

from typing import Any

from embedfleet.contracts.jobs import GenerateEmbeddings, Queue
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.broker import app
from embedfleet.runtime.settings import BlobSettings, load
from embedfleet.runtime.worker.lifecycle import compose
from embedfleet.runtime.worker.runs import Run

_worker = compose(Queue.EMBEDDINGS, lambda *_: None, Blobs(load(BlobSettings).blob_url), [])


@app.task(name=GenerateEmbeddings.task_name, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def noop(self: Any, /, **message: Any) -> None:
    """Claim, do nothing, end: the document becomes READY."""
    _worker.receive(GenerateEmbeddings, message, _end, self.request.id)


def _end(run: Run) -> None:
    result = {"success": True, "task_id": run.task.id}
    _worker.end(run, lambda: _worker.ledger.embedded(run.claim, result))
