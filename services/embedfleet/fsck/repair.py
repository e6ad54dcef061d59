"""The repair of each kind of finding: idempotent, and by the paths that the fleet itself takes.

====================================  ==================================================================
dies after                            what happens then
====================================  ==================================================================
any write of a repair                 the finding is seen again, and its repair repeated; or it is gone
a document is in work again           as with any upload: see `Intake.renew`
====================================  ==================================================================

Every repair reads the ledger anew and leaves alone what has changed. Qdrant and the blobs can't be fenced:
an upload that is accepted, embedded and READY between that read and the removal of a lost generation of the
same number loses those points; it is found as `points_missing`.
"""

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from embedfleet.contracts.documents import Document, qdrant_collection
from embedfleet.contracts.errors import FleetError, NewerVersion, NotFound
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState
from embedfleet.deletions import Deletions
from embedfleet.fsck.findings import Finding, Kind
from embedfleet.fsck.judgement import witness_of
from embedfleet.janitor import Janitor
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.durable import read_whole
from embedfleet.runtime.ledger.tombstones import Tombstone
from embedfleet.vectors.audit import PointAudit

RENEWED = "processed again as its next generation"
CHANGED = "nothing: it has changed meanwhile"


class Unrepairable(FleetError):
    """This finding can't be repaired by a program; the detail says what to do."""

    default_code = "unrepairable"
    retryable = False


class Repair:
    """Repairs findings.

    Args:
        ledger: Redis.
        blobs: where files are.
        store: Qdrant.
        janitor: settles, takes up, sweeps; it need not run.
        intake: takes documents in again.
        model_key: the model that the fleet runs; empty: a document keeps its own.
        dim: length of that model's vectors; 0: not known.
    """

    def __init__(
        self,
        ledger: LedgerAudit,
        blobs: Blobs,
        store: PointAudit,
        janitor: Janitor,
        intake: Intake,
        model_key: str = "",
        dim: int = 0,
    ) -> None:
        self._ledger, self._blobs, self._store = ledger, blobs, store
        self._janitor, self._intake = janitor, intake
        self._model_key, self._dim = model_key, dim
        self._deletions = Deletions(ledger, blobs, store)
        renew, settle, mend_task = self._renew, self._settle, self._mend_task
        self.by_kind: Mapping[Kind, Callable[[Finding], str]] = {
            Kind.ROW_MISSING: self._restore,
            Kind.RECORD_MISSING: settle,
            Kind.RECORD_OUTDATED: settle,
            Kind.RECORD_UNREADABLE: settle,
            Kind.ORPHAN_RECORD: self._remove_record,
            Kind.UPLOAD_MISSING: _upload_again,
            Kind.ORPHAN_UPLOAD: self._remove_upload,
            Kind.ORPHAN_CHUNKS: self._remove_chunks,
            Kind.MANIFEST_MISSING: self._write_manifest,
            Kind.MANIFEST_OF_ENDED: self._take_up,
            Kind.MANIFEST_WITHOUT_ROW: self._take_up,
            Kind.POINTS_MISSING: renew,
            Kind.POINTS_EXTRA: renew,
            Kind.WRONG_MODEL: renew,
            Kind.DEAD_GENERATION: self._remove_points,
            Kind.ORPHAN_POINTS: self._remove_points,
            Kind.FOREIGN_POINTS: _remove_by_hand,
            Kind.DOCUMENT_STUCK: renew,
            Kind.DOCUMENT_UNLISTED: self._mend_document,
            Kind.UNSETTLED_STUCK: self._settle_stuck,
            Kind.DELETION_STUCK: self._carry_on,
            Kind.STALE_LEASE: mend_task,
            Kind.STALE_DUE: mend_task,
            Kind.STALE_INDEX: self._mend_entry,
            Kind.TASK_UNWATCHED: mend_task,
        }

    def repair(self, finding: Finding) -> str:
        """Repair a finding; return in some words what was done.

        Raises:
            Unrepairable: somebody has to do something else.
            DependencyDown: Redis, Qdrant or the blobs can't be reached.
        """
        return self.by_kind[finding.kind](finding)

    def _row(self, finding: Finding) -> Document | None:
        return self._ledger.document(finding.tenant, finding.document_id)

    def _ended(self, row: Document) -> Document:
        """Read a row that has ended once more, to the last field: what is settled is written down."""
        if ended := self._ledger.ended(row.tenant, row.id):
            return ended
        raise NewerVersion(f"the row of document {row.id}")

    def _restore(self, finding: Finding) -> str:
        key = record_key(finding.tenant, finding.document_id)
        return "put back" if self._ledger.restore(self._manifest(key)) else CHANGED

    def _settle(self, finding: Finding) -> str:
        row = self._row(finding)
        if row and row.state is DocumentState.READY:
            self._janitor.settle(self._ended(row))
            return "settled again"
        if row and row.state not in TERMINAL_DOCUMENT_STATES:
            return CHANGED
        raise Unrepairable(
            "what its live generation is made of was in its durable record only: upload it again"
        )

    def _settle_stuck(self, finding: Finding) -> str:
        row = self._row(finding)
        if row is None:
            return self._mend_document(finding)
        if row.state not in TERMINAL_DOCUMENT_STATES:
            return CHANGED
        self._janitor.settle(self._ended(row))
        return "settled"

    def _remove_record(self, finding: Finding) -> str:
        row = self._row(finding)
        if row and row.live_generation:
            return CHANGED
        self._deletions.remove_record(finding.tenant, finding.document_id, finding.generation)
        return "removed"

    def _remove_upload(self, finding: Finding) -> str:
        self._janitor.sweep.upload(finding.subject)
        return "removed"

    def _remove_chunks(self, finding: Finding) -> str:
        if witness_of(self._row(finding)) != finding.witness:
            return CHANGED
        self._blobs.delete_folder(finding.subject)
        return "removed"

    def _remove_points(self, finding: Finding) -> str:
        row = self._row(finding)
        if witness_of(row) != finding.witness:
            return CHANGED
        keep = row.live_generation if row else None
        name = qdrant_collection(finding.tenant, finding.collection)
        self._store.delete_generations(name, finding.document_id, keep=keep, through=finding.generation)
        return "removed"

    def _write_manifest(self, finding: Finding) -> str:
        row = self._row(finding)
        if row is None or witness_of(row) != finding.witness:
            return CHANGED
        self._blobs.put(pending_key(row.task_id), row.model_dump_json().encode())
        now = self._row(finding)
        if now is None or now.task_id != row.task_id:
            self._blobs.delete(pending_key(row.task_id))  # deleted or overtaken meanwhile
        return "written"

    def _take_up(self, finding: Finding) -> str:
        try:
            self._janitor.take_up(self._manifest(finding.subject))
        except NotFound:
            return CHANGED
        return "taken up"

    def _renew(self, finding: Finding) -> str:
        row = self._row(finding)
        if row is None or witness_of(row) != finding.witness:
            return CHANGED
        if row.state is not DocumentState.READY and finding.kind is not Kind.DOCUMENT_STUCK:
            raise Unrepairable(f"its newest upload is {row.state}: upload it again")
        known = self._store.dimension(qdrant_collection(row.tenant, row.collection))
        if self._dim and known and known != self._dim:
            raise Unrepairable(
                f"its collection holds vectors of {known} dimensions, the fleet's model makes {self._dim}: "
                "upload it into another collection"
            )
        try:
            return RENEWED if self._intake.renew(row, self._model_key or row.model_key) else CHANGED
        except NotFound as error:
            raise Unrepairable(error.detail) from error

    def _carry_on(self, finding: Finding) -> str:
        try:
            tombstone = Tombstone.model_validate_json(self._blobs.get(finding.subject))
        except NotFound:
            return CHANGED
        except ValidationError as error:
            raise Unrepairable(f"the tombstone {finding.subject} can't be read: delete it again") from error
        self._deletions.carry_out(tombstone)
        return "carried on"

    def _mend_task(self, finding: Finding) -> str:
        self._ledger.mend_task(finding.task_id, finding.tenant)
        return "corrected"

    def _mend_document(self, finding: Finding) -> str:
        self._ledger.mend_document(finding.tenant, finding.document_id, finding.collection)
        return "corrected"

    def _mend_entry(self, finding: Finding) -> str:
        return self._mend_task(finding) if finding.task_id else self._mend_document(finding)

    def _manifest(self, key: str) -> Document:
        found = read_whole(self._blobs, Document, key)
        if found is None:
            raise NotFound(f"{key} is gone, or was moved to damaged/", code="no_blob")
        return found


def _upload_again(finding: Finding) -> str:
    raise Unrepairable("search works, but it can't be processed again: upload it again")


def _remove_by_hand(finding: Finding) -> str:
    raise Unrepairable(
        f"Embedfleet didn't write them: remove them from the collection {finding.subject} by hand"
    )
