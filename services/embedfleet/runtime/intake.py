"""The accept path: durable before the answer, and repeatable at every step.

============================  =============================================================
dies after                    what happens then
============================  =============================================================
the upload is stored          no manifest: the janitor's sweep removes the file
``pending/`` is written       the janitor accepts it (the client got no answer, or a 503)
the ledger's row is written   the janitor finds that nobody claims the task, and publishes
the publish                   nothing is missing
============================  =============================================================

A document that is renewed has a durable upload already, so the ledger comes before the manifest:

============================  =============================================================
dies after                    what happens then
============================  =============================================================
its upload is copied          nothing names the copy: the janitor's sweep removes it
the ledger's row is written   the generation runs; a loss of Redis undoes it, `fsck` finds it
``pending/`` is written       nothing is missing
============================  =============================================================
"""

import uuid
from collections.abc import Callable
from pathlib import PurePath

from embedfleet.contracts.documents import NAMESPACE, Document
from embedfleet.contracts.errors import DependencyDown, NewerVersion, NotFound
from embedfleet.contracts.jobs import Job
from embedfleet.contracts.states import DocumentState
from embedfleet.contracts.versions import Stranger
from embedfleet.runtime.blobs import Blobs, chunk_folder, pending_key, record_key, upload_key
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.durable import durable_record
from embedfleet.runtime.ledger.records import Acceptance
from embedfleet.runtime.ledger.tombstones import Tombstones

# A manifest without a row that is younger than this may be an upload in the middle of `accept`.
PENDING_GRACE_SECONDS = 10.0
# The same for an uploaded file without a manifest: a large one takes long to be stored.
ORPHAN_GRACE_SECONDS = 3600.0


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
            DependencyDown: Redis or the blobs can't be reached; it may be taken yet, and the same upload sent
                again becomes the same document.
            NewerVersion: the document was written by a newer version, and Redis has lost it; as above.
        """
        try:
            # Which of two uploads is the newer is judged by one clock, whichever api took them.
            document = document.model_copy(update={"uploaded_at": self._ledger.time_of_write()})
        except DependencyDown:
            self._blobs.delete(document.blob)
            raise
        # From here on nothing is taken back: when the answer of an edge is lost, only the janitor can
        # tell whether the ledger has the row, and a client that tries again meets the same document.
        self._blobs.put(pending_key(document.task_id), document.model_dump_json().encode())
        return self.redrive(document)

    def redrive(self, document: Document, above: int = 0) -> Acceptance:
        """Bring an upload whose manifest is stored into the ledger and onto its queue.

        Args:
            document: the upload.
            above: as for `Ledger.accept`.
        """
        for tombstone in self._tombstones.of_document(document.tenant, document.collection, document.id):
            self._ledger.delete(document.tenant, document.id, tombstone.generation)
        self._agree(document)
        # Redis may have lost generations that were in work. Their numbers must not come again: their points
        # may be there, as long as their chunk files are.
        folders = self._blobs.folders(chunk_folder(document))
        above = max([above, *(int(name) for name in folders if name.isdecimal())])
        acceptance = self._ledger.accept(document, above=above)
        if acceptance.task_id != document.task_id:
            self.discard(document)
        self._publish(acceptance.publish)
        return acceptance

    def renew(self, document: Document, model_key: str) -> bool:
        """Process a document's upload once more, as its next generation; the live one stays until then.

        Args:
            document: its record as it was read; nothing happens when the ledger has another by now.
            model_key: the model that the generation is embedded with.

        Returns:
            Whether the document is in work now.

        Raises:
            NotFound: ``no_blob``, its upload is gone.
        """
        # The same id however often this is repeated: there is one renewal of a generation.
        task_id = str(uuid.uuid5(NAMESPACE, f"renewed:{document.task_id}"))
        blob = upload_key(document.tenant, document.id, task_id, PurePath(document.blob).suffix)
        if not self._blobs.exists(document.blob):
            raise NotFound(f"the upload of {document.filename} is gone: upload it again", code="no_blob")
        # A file of its own: the janitor removes the upload of a generation that was overtaken.
        self._blobs.put(blob, self._blobs.pieces(document.blob))
        now = self._ledger.now()
        fields = {"task_id": task_id, "blob": blob, "model_key": model_key, "uploaded_at": now}
        renewed = document.model_copy(update=fields)
        acceptance = self._ledger.accept(renewed, replaces=document.task_id)
        if acceptance.task_id != task_id:
            self._blobs.delete(blob)
            return False
        self._blobs.put(pending_key(task_id), renewed.model_dump_json().encode())
        row = self._ledger.document(document.tenant, document.id)
        if row is None or row.task_id != task_id:
            self._blobs.delete(pending_key(task_id))  # deleted or overtaken meanwhile
        self._publish(acceptance.publish)
        return True

    def discard(self, document: Document) -> None:
        """Remove an upload's manifest and then its file: a manifest without one can't be driven."""
        self._blobs.delete(pending_key(document.task_id))
        self._blobs.delete(document.blob)

    def _agree(self, document: Document) -> None:
        """Make row and durable record of a document say the same before a new generation takes its place."""
        record = durable_record(self._blobs, record_key(document.tenant, document.id))
        row = self._ledger.ended(document.tenant, document.id)
        if record and self._ledger.behind([record]):
            if isinstance(record, Stranger):
                raise NewerVersion(f"the record of document {record.id}")
            self._ledger.restore(record)
        elif row and row.state is DocumentState.READY and (not record or record.generation < row.generation):
            # READY for some seconds only, and nobody settles it once another generation is in work.
            self._blobs.put(record_key(row.tenant, row.id), row.model_dump_json().encode())
            if self._ledger.deleted_through(row.tenant, row.id) >= row.generation:
                self._blobs.delete(record_key(row.tenant, row.id))
