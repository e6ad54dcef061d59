"""A fleet without processes: a ledger, blobs and Qdrant, documents in them, and a check with no patience."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from embedfleet.contracts.documents import Document, point_id
from embedfleet.contracts.jobs import Job
from embedfleet.fsck.course import Fsck
from embedfleet.fsck.findings import Finding, Patience, Scope
from embedfleet.janitor import Janitor
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.ledger.tombstones import Deletion
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.vectors.audit import PointAudit
from tests.runtime.uploads import claim, upload

COLLECTION = "default__notes"
SETTINGS = LedgerSettings(lease_seconds=0.5, retry_delays="0.05,0.1")
ALL = Scope()
NONE = Patience(change=-1, look=0, stuck=-1, file=3600)


@dataclass
class House:
    """What the check looks at, and hands that bring documents through as workers would."""

    ledger: LedgerAudit
    blobs: Blobs
    store: PointAudit
    published: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.intake = Intake(self.ledger, self.blobs, self.published.extend)
        self.janitor = Janitor(self.ledger, self.blobs, self.store, self.published.extend, SETTINGS)
        self.deletion = Deletion(self.ledger, self.blobs)

    def take(self, document: Document) -> Document:
        self.blobs.put(document.blob, b"the file")
        self.intake.accept(document)
        return document

    def embed(self, document: Document, points: int = 3, *, finish: bool = True) -> None:
        """Bring the newest generation through both pools."""
        job = self.published.pop()
        record = claim(self.ledger, job).document
        file = f"chunks/{record.tenant}/{record.id}/{record.generation}/0"
        self.blobs.put(file, b"chunks")
        part = Part(f"{job.task_id}-part", 0, points, file)
        jobs = self.ledger.chunked(claim(self.ledger, job), [part], {"success": True})
        assert jobs
        self.put_points(record, range(points))
        if finish:
            assert self.ledger.embedded(claim(self.ledger, jobs[0]), {}) is True

    def put_points(
        self, document: Document, indexes: range, ids: list[str] | None = None, **more: object
    ) -> None:
        """Store points of a document's generation; `more` overrides what their payloads say."""
        ids = ids or [point_id(document.id, document.generation, index) for index in indexes]
        said = {
            "document_id": document.id,
            "generation": document.generation,
            "model_key": document.model_key,
        }
        payloads = [said | {"chunk_index": index} | more for index in indexes]
        self.store.upsert(COLLECTION, ids, np.ones((len(ids), 2), np.float32), payloads)

    def settled(self, document: Document, points: int = 3) -> Document:
        """Upload, embed, settle; return the row."""
        self.take(document)
        self.embed(document, points)
        row = self.row(document)
        self.janitor.settle(row)
        return row

    def row(self, document: Document) -> Document:
        found = self.ledger.document(document.tenant, document.id)
        assert found
        return found

    def fsck(self, patience: Patience = NONE) -> Fsck:
        return Fsck(self.ledger, self.blobs, self.store, SETTINGS, patience)

    def findings(
        self,
        scope: Scope = ALL,
        patience: Patience = NONE,
        model_key: str = "",
        wait: Callable[[float], object] = lambda seconds: None,
    ) -> list[Finding]:
        return list(self.fsck(patience).inspection(scope, model_key, wait).findings())

    def kinds(self) -> list[str]:
        return sorted(finding.kind for finding in self.findings())

    def repair(self) -> dict[str, str]:
        """Repair; return by kind what was said last."""
        said: dict[str, str] = {}
        self.fsck().repair(
            ALL,
            lambda seconds: None,
            self.published.extend,
            lambda one, done, _: said.update({one.kind: done}),
        )
        return said


def document(name: str = "one", content: str = "one") -> Document:
    return upload(f"{name}-{content}", key=f"{name}.txt", content=content)
