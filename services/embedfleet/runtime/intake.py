"""The accept path: durable before the answer, and repeatable at every step.

============================  =============================================================
dies after                    what happens then
============================  =============================================================
the upload is stored          no manifest: the janitor's sweep removes the file
``pending/`` is written       the janitor accepts it (the client got no answer, or a 503)
the ledger's row is written   the janitor finds that nobody claims the task, and publishes
the publish                   nothing is missing
============================  =============================================================
"""

from collections.abc import Callable

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown
from embedfleet.contracts.jobs import Job
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Acceptance
from embedfleet.runtime.ledger.tombstones import Tombstones


class Intake:
    """Takes uploads whose file is in the blobs already."""

    def __init__(self, ledger: Ledger, blobs: Blobs, publish: Callable[[list[Job]], None]) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._publish = publish
        self._tombstones = Tombstones(blobs)

    def accept(self, document: Document) -> Acceptance:
        """Make an upload durable and queue it; an unchanged one leaves nothing behind.

        Raises:
            DependencyDown: Redis or the blobs can't be reached; nothing was accepted.
        """
        try:
            self._ledger.ping()
        except DependencyDown:
            self._blobs.delete(document.blob)
            raise
        # From here on nothing is taken back: when the answer of an edge is lost, only the janitor can
        # tell whether the ledger has the row, and a client that tries again meets the same document.
        self._blobs.put(pending_key(document.task_id), document.model_dump_json().encode())
        return self.redrive(document)

    def redrive(self, document: Document) -> Acceptance:
        """Bring an upload whose manifest is stored into the ledger and onto its queue."""
        for tombstone in self._tombstones.of_document(document.tenant, document.collection, document.id):
            self._ledger.delete(document.tenant, document.id, tombstone.generation)
        if self._ledger.document(document.tenant, document.id) is None:
            self._restore(document)
        acceptance = self._ledger.accept(document)
        if acceptance.task_id != document.task_id:
            self.discard(document)
        self._publish(acceptance.publish)
        return acceptance

    def discard(self, document: Document) -> None:
        """Remove an upload's manifest and then its file: a manifest without one can't be driven."""
        self._blobs.delete(pending_key(document.task_id))
        self._blobs.delete(document.blob)

    def _restore(self, document: Document) -> None:
        key = record_key(document)
        if self._blobs.path(key).exists():
            self._ledger.restore(Document.model_validate_json(self._blobs.get(key)))
