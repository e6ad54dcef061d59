"""The janitor: brings back what nobody works on, and settles what has ended.

Runs in every api; a Redis key elects one, and losing the election is harmless because every step is
idempotent. It alone settles a document, so there is one order of steps to reason about:

====================================  =================================================================
dies after                            what happens then
====================================  =================================================================
the document ended (ledger)           it stays in `unsettled`; the next round settles it
the durable record is written         the same
points of dead generations are gone   the same
chunk files are gone                  the same
``pending/`` is gone                  the same; after a total loss of Redis nothing is re-driven
====================================  =================================================================
"""

import logging
import os
import threading
import time
from collections.abc import Callable

from embedfleet.contracts.documents import Document, qdrant_collection
from embedfleet.contracts.errors import DependencyDown, NotFound
from embedfleet.contracts.jobs import Job
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger import SCAN_LIMIT, Ledger
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.vectors import VectorStore

SETTLE_LIMIT = 200
PENDING_GRACE_SECONDS = 10.0
ORPHAN_GRACE_SECONDS = 3600.0
SWEEP_SECONDS = 600.0

_log = logging.getLogger(__name__)


class Janitor:
    """A thread that scans every few seconds while it holds the role."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        store: VectorStore,
        publish: Callable[[list[Job]], None],
        settings: LedgerSettings,
    ) -> None:
        self._ledger, self._blobs, self._store, self._publish = ledger, blobs, store, publish
        self._intake = Intake(ledger, blobs, publish)
        self._interval = settings.scan_seconds
        self._name = f"{os.uname().nodename}:{os.getpid()}"
        self._swept_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="janitor", daemon=True)

    def start(self) -> None:
        """Start to scan."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the round in hand."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def round(self) -> None:
        """Do one round.

        Raises:
            DependencyDown: Redis, Qdrant or the blobs can't be reached; the next round goes on.
        """
        while len(jobs := self._ledger.scan()) > 0:
            self._publish(jobs)
            if len(jobs) < SCAN_LIMIT:
                break
        self._take_up_pending()
        for document in self._ledger.unsettled(SETTLE_LIMIT):
            self.settle(document)
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._sweep_uploads()
            self._swept_at = time.monotonic()

    def settle(self, document: Document) -> None:
        """Make a document's end durable and remove what no longer serves it."""
        if document.state is DocumentState.READY:
            self._blobs.put(record_key(document), document.model_dump_json().encode())
        if document.state is not DocumentState.READY or document.generation > 1:
            self._store.delete_generations(
                qdrant_collection(document.tenant, document.collection),
                document.id,
                through=document.generation,
                keep=document.live_generation,
            )
        for generation in self._blobs.folders(f"chunks/{document.tenant}/{document.id}"):
            if int(generation) <= document.generation:
                self._blobs.delete_folder(f"chunks/{document.tenant}/{document.id}/{generation}")
        self._blobs.delete(pending_key(document.task_id))
        self._ledger.settled(document)

    def _turn(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._ledger.elect("janitor", self._name, 3 * self._interval):
                    self.round()
            except DependencyDown as error:
                _log.warning("the janitor waits: %s", error)
            except Exception:
                _log.exception("a round of the janitor failed")
            self._stopping.wait(self._interval)

    def _take_up_pending(self) -> None:
        """Find manifests whose upload isn't in the ledger, or whose document has ended."""
        now = time.time()
        for key in list(self._blobs.keys("pending")):
            if (self._blobs.age(key, now) or 0) < PENDING_GRACE_SECONDS:
                continue
            try:
                manifest = Document.model_validate_json(self._blobs.get(key))
            except NotFound:
                continue  # settled meanwhile
            self._take_up(manifest)

    def _take_up(self, manifest: Document) -> None:
        record = self._ledger.document(manifest.tenant, manifest.id)
        if record and record.task_id == manifest.task_id:
            if record.state in TERMINAL_DOCUMENT_STATES:
                self.settle(record)
        elif self._ledger.has_expired(manifest.tenant, manifest.task_id):
            self._intake.discard(manifest)  # a newer generation took its place
        else:
            _log.info("re-driven", extra={"task_id": manifest.task_id, "document_id": manifest.id})
            self._intake.redrive(manifest)

    def _sweep_uploads(self) -> None:
        """Remove uploaded files that no document and no manifest names, once they are an hour old."""
        now = time.time()
        for key in list(self._blobs.keys("uploads")):
            if (self._blobs.age(key, now) or 0) < ORPHAN_GRACE_SECONDS:
                continue
            _, tenant, document_id, name = key.split("/", 3)
            record = self._ledger.document(tenant, document_id)
            manifest = pending_key(name.split(".", 1)[0])
            if not (record and record.blob == key) and not self._blobs.path(manifest).exists():
                self._blobs.delete(key)
