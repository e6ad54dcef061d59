"""Revocations that outlive Redis: what was answered "revoked" is never run again.

Redis may lose the last second of its log, or all it has. So a revocation is written to the blobs before
the ledger takes its edge, and stays there until Redis surely has the edge on disk. Workers look for it
when they claim a task and before they end one; the janitor repeats what it finds.

==================================  =====================================================================
dies after                          what happens then
==================================  =====================================================================
the mark is stored                  the janitor revokes the document (the client got no answer, or a 503)
the ledger took the edge            the janitor repeats it, which changes nothing, and removes the mark
Redis lost the edge, or everything  the janitor repeats it, or drops the upload's manifest
==================================  =====================================================================
"""

from pydantic import BaseModel, ConfigDict

from embedfleet.contracts.documents import Document
from embedfleet.contracts.states import DocumentState
from embedfleet.runtime.blobs import Blobs, pending_key, revoked_key
from embedfleet.runtime.ledger import Ledger

# Twice the time after which Redis has an edge on disk.
MARK_SECONDS = 10.0


class Mark(BaseModel):
    """That the upload which a task is of was revoked."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    task_id: str


class Revocations:
    """Takes revocations, and knows those that Redis may have lost."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger, self._blobs = ledger, blobs

    def revoke(self, document: Document) -> bool:
        """Revoke the generation that a document's record is of; False when it has ended already.

        Raises:
            DependencyDown: Redis or the blobs can't be reached: it may be revoked yet; ask again.
        """
        key, mark = revoked_key(document.task_id), Mark(tenant=document.tenant, task_id=document.task_id)
        self._blobs.put(key, mark.model_dump_json().encode())
        if self._ledger.revoke(mark.tenant, mark.task_id):
            return True
        now = self._ledger.document(document.tenant, document.id)
        if not (now and now.task_id == document.task_id and now.state is DocumentState.REVOKED):
            self._blobs.delete(key)  # else somebody else revoked it, and the mark is his, too
        return False

    def covers(self, document: Document) -> bool:
        """Say whether the generation that a document's record is of was revoked a short time ago."""
        return self._blobs.exists(revoked_key(document.task_id))

    def enforce(self, document: Document) -> bool:
        """Take the ledger's edge again if a revocation covers the document; say whether one does."""
        if not self.covers(document):
            return False
        self._ledger.revoke(document.tenant, document.task_id)
        return True

    def repeat(self, key: str) -> None:
        """Take the ledger's edge again for a mark, and remove it if it has done its work."""
        mark = self._blobs.read(Mark, key)
        if mark is None:
            return
        self._ledger.revoke(mark.tenant, mark.task_id)
        if self._blobs.age(key) >= MARK_SECONDS and not self._blobs.exists(pending_key(mark.task_id)):
            self._blobs.delete(key)
