"""The check of blobs that no document names: manifests, tombstones, uploaded files."""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import NotFound
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES
from embedfleet.fsck.findings import Finding, Kind, Patience, Scope
from embedfleet.fsck.judgement import is_stuck, witness_of
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.durable import is_named


class FileCheck:
    """Finds manifests, tombstones and uploads that should have gone."""

    def __init__(self, ledger: LedgerAudit, blobs: Blobs, scope: Scope, patience: Patience) -> None:
        self._ledger, self._blobs = ledger, blobs
        self._scope, self._patience = scope, patience

    def suspects(self) -> Iterator[Finding]:
        """Yield what looks wrong at first sight."""
        for folder in ("pending", "deleted", "uploads"):
            for key, age in self._blobs.ages(folder):
                yield from self._judged(key, age)

    def again(self, suspects: Sequence[Finding]) -> set[Finding]:
        """Return those that still look the same."""
        return {
            found for one in suspects for found in self._judged(one.subject, self._blobs.age(one.subject))
        }

    def _judged(self, key: str, age: float) -> Iterator[Finding]:
        folder, _, rest = key.partition("/")
        if folder == "pending":
            found = self._manifest(key, age)
        elif folder == "deleted":
            found = self._tombstone(key, age, rest.split("/"))
        else:
            found = self._upload(key, age, rest.split("/"))
        if found and self._scope.holds(found.tenant, found.collection):
            yield found

    def _manifest(self, key: str, age: float) -> Finding | None:
        task_id = key.removeprefix("pending/")
        if age < self._patience.change:
            return None
        try:
            manifest = Document.model_validate_json(self._blobs.get(key))
        except (NotFound, ValidationError):
            return None  # gone meanwhile; the janitor moves what it can't read to damaged/
        (standing,) = self._ledger.standings([(manifest.tenant, manifest.id)])
        row, finding = standing.row, None
        if row and row.task_id == task_id:
            has_ended = row.state in TERMINAL_DOCUMENT_STATES and standing.settle_at is None
            if has_ended and self._ledger.now() - row.updated_at >= self._patience.change:
                finding = Kind.MANIFEST_OF_ENDED, f"{row.filename} is {row.state} and settled"
        elif age >= self._patience.stuck and self._ledger.without_row([task_id]):
            if row and row.uploaded_at > manifest.uploaded_at:
                finding = Kind.MANIFEST_OF_ENDED, f"a newer upload of {row.filename} took its place"
            else:
                finding = Kind.MANIFEST_WITHOUT_ROW, f"{manifest.filename} waits for {age:.0f} s"
        if finding is None:
            return None
        return Finding(
            *finding, manifest.tenant, manifest.collection, manifest.id, subject=key, task_id=task_id,
            witness=witness_of(row),
        )  # fmt: skip

    def _tombstone(self, key: str, age: float, parts: list[str]) -> Finding | None:
        if age < self._patience.stuck or len(parts) != 4 or not parts[3].isdecimal():
            return None
        now, passes = self._ledger.now(), self._ledger.passes()
        if not is_stuck(now - age, now, self._patience, passes.deleted, passes.at):
            return None
        tenant, collection, document_id, generation = parts
        detail = f"deleted {age:.0f} s ago, and not done"
        return Finding(
            Kind.DELETION_STUCK, detail, tenant, collection, document_id, int(generation), subject=key
        )

    def _upload(self, key: str, age: float, parts: list[str]) -> Finding | None:
        if len(parts) != 3 or age < self._patience.file:
            return None
        tenant, document_id, _ = parts
        row = self._ledger.document(tenant, document_id)
        if is_named(self._blobs, key, row):
            return None
        collection = row.collection if row else ""
        detail = f"written {age:.0f} s ago, and no document names it"
        return Finding(Kind.ORPHAN_UPLOAD, detail, tenant, collection, document_id, subject=key)
