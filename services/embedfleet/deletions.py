"""Deletions, the janitor's part: removes what the tombstones name.

Every step takes only what is of a deleted generation or older, so that an upload under the same key that
comes meanwhile is never touched. After a loss of Redis the tombstones alone bring the ledger up again.

=====================================  ================================================================
dies after                             what happens then
=====================================  ================================================================
the ledger's edge is taken             the next round takes it again, which changes nothing
points are gone                        the same; points that a late writer stored meanwhile go then
chunk files are gone                   the same
a manifest is gone                     the same; after a total loss of Redis it is not re-driven
its uploaded file is gone              the same
the durable record is gone             the same
the tombstone is gone                  nothing is missing; the ledger refuses the generations for a day
=====================================  ================================================================

The tombstone stays until Qdrant counts no point, until no writer can be at work (docs/reliability.md), and
until Redis has the edge on disk. A writer that comes later still takes back what it stored.
"""

from collections.abc import Callable

from embedfleet.contracts.documents import Document, qdrant_collection
from embedfleet.contracts.errors import DependencyDown, NotFound
from embedfleet.runtime import intake
from embedfleet.runtime.blobs import Blobs, pending_key, record_key, task_of_upload, upload_folder
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.durable import Each, listed, record_of
from embedfleet.runtime.ledger.tombstones import Tombstone, Tombstones
from embedfleet.sparing import SparingStore
from embedfleet.vectors import VectorStore

LIMIT = 200


class Deletions:
    """Carries deletions out; `steps` are taken in order, and each may be repeated."""

    def __init__(self, ledger: Ledger, blobs: Blobs, store: VectorStore) -> None:
        self._ledger, self._blobs, self.store = ledger, blobs, SparingStore(store)
        self._tombstones = Tombstones(blobs)
        self._began, self._left = 0.0, list[str]()
        self.steps: tuple[Callable[[Tombstone], object], ...] = (
            self.bury,
            self._remove_points,
            self._remove_chunks,
            self._remove_uploads,
            self._remove_record,
            self._close,
        )

    def round(self, each: Each) -> None:
        """Go on with up to `LIMIT` deletions. A pass takes all that there are when it begins, some a round.

        Args:
            each: takes the steps; what it raises ends the pass, and the next round begins another.
        """
        if not self.has_more:
            self._began = self._ledger.now()
            keys, are_all = listed(each, "deleted", self._blobs.keys)
            if not are_all:
                return
            self._left = sorted(keys)
        keys, self._left = self._left[:LIMIT], self._left[LIMIT:]
        try:
            each(self._carry_out, keys)
        except Exception:
            self._left = []
            raise
        if not self.has_more:
            self._ledger.note_progress("deleted", self._began)
        else:
            self._ledger.note_progress()

    @property
    def has_more(self) -> bool:
        """Whether a pass is under way."""
        return bool(self._left)

    def carry_out(self, tombstone: Tombstone) -> None:
        """Take every step of one deletion; the last leaves the tombstone while a writer may be at work."""
        for step in self.steps:
            step(tombstone)

    def covers(self, manifest: Document) -> bool:
        """Say whether a manifest that the ledger has no row for is of a deleted upload."""
        found = self._tombstones.of_document(manifest.tenant, manifest.collection, manifest.id)
        return any(tombstone.covers(manifest) for tombstone in found)

    def bury(self, tombstone: Tombstone) -> bool:
        """Take the ledger's edge; say whether no writer can be at work any more."""
        return self._ledger.delete(tombstone.tenant, tombstone.document_id, tombstone.generation)

    def remove_record(self, tenant: str, document_id: str, through: int) -> None:
        """Remove a document's durable record, unless it is of a newer generation than this."""
        key = record_key(tenant, document_id)
        try:
            record = record_of(self._blobs.get(key), key)
        except NotFound:
            return
        if record is None or record.generation <= through:  # a damaged one brings nothing back
            self._blobs.delete(key)

    def remove_chunks(self, tenant: str, document_id: str, through: int) -> None:
        """Remove the chunk files of a document's generations up to one."""
        folder = f"chunks/{tenant}/{document_id}"
        for generation in self._blobs.folders(folder):
            if generation.isdecimal() and int(generation) <= through:
                self._blobs.delete_folder(f"{folder}/{generation}")

    def raise_if_down(self, error: DependencyDown) -> None:
        """Ask whether what a step for one row couldn't reach serves the others.

        A collection may be broken while Qdrant is well, and a file unreadable while the disk is.

        Raises:
            DependencyDown: it is down for all, as Redis always is.
        """
        match error.dependency:
            case "Redis":
                raise error
            case "Qdrant":
                self.store.ping()
            case _:
                self._blobs.check()

    def _carry_out(self, key: str) -> None:
        for tombstone in self._tombstones.at([key]):
            self.carry_out(tombstone)

    def _remove_points(self, tombstone: Tombstone) -> None:
        self.store.delete_generations(
            _collection(tombstone), tombstone.document_id, keep=None, through=tombstone.generation
        )

    def _remove_chunks(self, tombstone: Tombstone) -> None:
        self.remove_chunks(tombstone.tenant, tombstone.document_id, tombstone.generation)

    def _remove_uploads(self, tombstone: Tombstone) -> None:
        """Remove uploaded files, each after its manifest: a manifest without its file can't be driven."""
        for key in list(self._blobs.keys(upload_folder(tombstone.tenant, tombstone.document_id))):
            if self._is_dead(key, tombstone):
                self._blobs.delete(pending_key(task_of_upload(key)))
                self._blobs.delete(key)

    def _is_dead(self, key: str, tombstone: Tombstone) -> bool:
        """Say whether an uploaded file is of a deleted generation."""
        task_id = task_of_upload(key)
        if task_id == tombstone.task_id:
            return True
        task = self._ledger.task(tombstone.tenant, task_id)
        if task is not None:
            return task.generation <= tombstone.generation
        pending = pending_key(task_id)
        try:
            manifest = Document.model_validate_json(self._blobs.get(pending))
        except NotFound:
            # An upload may be about to write its manifest; and a live document's has none any more.
            record = self._ledger.document(tombstone.tenant, tombstone.document_id)
            return not (record and record.blob == key) and self._blobs.age(key) >= intake.ORPHAN_GRACE_SECONDS
        return tombstone.covers(manifest) and self._blobs.age(pending) >= intake.PENDING_GRACE_SECONDS

    def _remove_record(self, tombstone: Tombstone) -> None:
        self.remove_record(tombstone.tenant, tombstone.document_id, tombstone.generation)

    def _close(self, tombstone: Tombstone) -> None:
        left = self.store.count(_collection(tombstone), tombstone.document_id, through=tombstone.generation)
        if left:
            return
        if self.bury(tombstone):
            self._tombstones.remove(tombstone)
        else:
            self._ledger.note_removed(tombstone.tenant, tombstone.document_id, tombstone.generation)


def _collection(tombstone: Tombstone) -> str:
    return qdrant_collection(tombstone.tenant, tombstone.collection)
