"""The delete path: durable before the answer, and repeatable at every step.

===============================  ==========================================================================
dies after                       what happens then
===============================  ==========================================================================
the tombstone is stored          the janitor takes the ledger's edge (the client got no answer, or a 503)
the ledger took the edge         search shows nothing of it any more; the janitor removes the rest
===============================  ==========================================================================

A tombstone names the newest generation that dies. What is uploaded under the same key later has a higher
one, so that neither the janitor nor a writer that comes late ever touches it. `Intake` looks for tombstones
first: an upload is never "unchanged" against a document whose deletion has only just begun.
"""

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Self

from pydantic import BaseModel, ConfigDict

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger

PAGE = 200


class Tombstone(BaseModel):
    """What was deleted: all generations of a document up to one, which `task_id` and `uploaded_at` are of."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    collection: str
    document_id: str
    generation: int
    task_id: str
    uploaded_at: float

    @classmethod
    def of(cls, document: Document) -> Self:
        """Return the tombstone for all that there is of a document now."""
        fields = document.model_dump(include=cls.model_fields.keys() - {"document_id"})
        return cls(document_id=document.id, **fields)

    @property
    def key(self) -> str:
        """Where it is kept; a later deletion of the same document has a file of its own."""
        return f"{_folder(self.tenant, self.collection)}/{self.document_id}/{self.generation}"

    def covers(self, manifest: Document) -> bool:
        """Say whether an upload that the ledger doesn't know (any more) is one of the deleted."""
        return manifest.task_id == self.task_id or manifest.uploaded_at < self.uploaded_at


class Tombstones:
    """The tombstones in the blobs: while one is there, its deletion goes on, or a writer may be late."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def put(self, tombstone: Tombstone) -> None:
        """Store one durably."""
        self._blobs.put(tombstone.key, tombstone.model_dump_json().encode())

    def remove(self, tombstone: Tombstone) -> None:
        """Remove one: its deletion is done."""
        self._blobs.delete(tombstone.key)

    def of_document(self, tenant: str, collection: str, document_id: str) -> list[Tombstone]:
        """Return those of a document."""
        return list(self.at(self._blobs.keys(f"{_folder(tenant, collection)}/{document_id}")))

    def at(self, keys: Iterable[str]) -> Iterator[Tombstone]:
        """Yield those of these that are there and can be read."""
        return filter(None, (self._blobs.read(Tombstone, key) for key in keys))

    def of_collection(self, tenant: str, collection: str, document_id: str = "") -> Iterator[tuple[str, int]]:
        """Yield document and generation of those of a collection, or of one document."""
        folder = _folder(tenant, collection) + (f"/{document_id}" if document_id else "")
        for key in self._blobs.keys(folder):
            _, document, generation = key.rsplit("/", 2)
            if generation.isdecimal():
                yield document, int(generation)

    def collections(self, tenant: str) -> list[str]:
        """Return the collections in which something is being deleted."""
        return self._blobs.folders(f"deleted/{tenant}")


class Deletion:
    """Takes deletions of documents and of collections."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger = ledger
        self._tombstones = Tombstones(blobs)

    def document(self, tenant: str, document_id: str) -> bool:
        """Delete a document; False when there is none and none is being deleted.

        Raises:
            DependencyDown: Redis or the blobs can't be reached: try again.
        """
        self._check_rebuilt()
        found = self._ledger.document(tenant, document_id)
        if found is None:
            return self._is_document_going_on(tenant, document_id)
        self._delete(found)
        return True

    def collection(self, tenant: str, collection: str) -> int | None:
        """Delete all documents that a collection has now, one after the other.

        Returns:
            How many there were; None when there are none and none is being deleted.

        Raises:
            DependencyDown: Redis or the blobs can't be reached: some may be deleted; try again.
        """
        self._check_rebuilt()
        deleted = 0
        for document_id in self._ledger.document_ids(tenant, collection):
            found = self._ledger.document(tenant, document_id)
            if found is not None:
                self._delete(found)
                deleted += 1
        if not deleted and not self._is_going_on(tenant, collection):
            return None
        return deleted

    def _delete(self, document: Document) -> None:
        tombstone = Tombstone.of(document)
        self._tombstones.put(tombstone)
        self._ledger.delete(document.tenant, document.id, tombstone.generation)

    def _is_document_going_on(self, tenant: str, document_id: str) -> bool:
        try:
            name = str(uuid.UUID(document_id))
        except ValueError:
            return False  # no id of ours, and it must not become a path
        return any(
            self._is_going_on(tenant, collection, name) for collection in self._tombstones.collections(tenant)
        )

    def _is_going_on(self, tenant: str, collection: str, document_id: str = "") -> bool:
        """Say whether anything is still there; a tombstone alone only waits for writers that may be late."""
        buried = self._tombstones.of_collection(tenant, collection, document_id)
        while page := list(islice(buried, PAGE)):
            removed = self._ledger.removed_through([f"{tenant}:{document}" for document, _ in page])
            if any(generation > gone for (_, generation), gone in zip(page, removed, strict=True)):
                return True
        return False

    def _check_rebuilt(self) -> None:
        """Refuse while Redis may not know what was accepted: it would come back after it was deleted."""
        if not self._ledger.is_rebuilt():
            raise DependencyDown(
                "Redis", self._ledger.address, "it was started anew; what it has lost is being put back"
            )


def _folder(tenant: str, collection: str) -> str:
    return f"deleted/{tenant}/{collection}"
