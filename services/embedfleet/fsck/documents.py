"""The check of documents: walks over rows, durable records, chunk files and points name them.

What no row names is held in memory, one entry a finding; of all else one page is.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from embedfleet.fsck.findings import Finding, Kind, Scope
from embedfleet.fsck.looks import NAMES_A_LOOK, Looker, Named
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.vectors.audit import PointAudit


class DocumentCheck:
    """Finds what is wrong with documents, known and unknown ones.

    Args:
        ledger: names those that have a row.
        blobs: names those that have a durable record or chunk files.
        store: names those that have points.
        scope: what is looked at.
        looker: looks at those that are named.
    """

    def __init__(
        self, ledger: LedgerAudit, blobs: Blobs, store: PointAudit, scope: Scope, looker: Looker
    ) -> None:
        self._ledger, self._blobs, self._store = ledger, blobs, store
        self._scope, self._looker = scope, looker
        self._seen: Counter[str] = Counter()
        self._foreign: Counter[str] = Counter()

    def suspects(self) -> Iterator[Finding]:
        """Yield what looks wrong at first sight."""
        for names in self._ledger.document_names(self._scope.tenant):
            yield from self._looker.look([(tenant, "", each) for tenant, each in names], self._seen)
        met: set[Finding] = set()
        for named in self._nameless():
            fresh = [one for one in self._looker.look(named) if one not in met]
            met.update(fresh)
            yield from fresh
        yield from self._foreign_points()

    def again(self, suspects: Sequence[Finding]) -> set[Finding]:
        """Return those that still look the same."""
        named = {(one.tenant, one.collection, one.document_id) for one in suspects if one.document_id}
        foreign = {one.subject for one in suspects if one.kind is Kind.FOREIGN_POINTS}
        self._foreign.update(dict.fromkeys(foreign, 0))
        for name in foreign:
            self._foreign[name] = sum(page.count(None) for page in self._store.points(name))
        return {*self._looker.look(sorted(named), again=True), *self._foreign_points()}

    def _nameless(self) -> Iterator[list[Named]]:
        """Yield documents that have a record, chunk files or points, and no row."""
        for tenant in self._blobs.folders("documents"):
            keys = self._blobs.keys(f"documents/{tenant}")
            ids = (key.rsplit("/", 1)[1].removesuffix(".json") for key in keys if key.endswith(".json"))
            for piece in _pieces(ids):
                yield self._without_row(tenant, "", piece)
        for tenant in self._blobs.folders("chunks"):
            for piece in _pieces(iter(self._blobs.folders(f"chunks/{tenant}"))):
                yield self._without_row(tenant, "", piece)
        for name, tenant, collection in self._collections():
            # When each point that is there belongs to a row, there is none to look for.
            if self._store.count(name) != self._seen[name]:
                yield from self._of_points(name, tenant, collection)

    def _of_points(self, name: str, tenant: str, collection: str) -> Iterator[list[Named]]:
        for page in self._store.points(name):
            self._foreign[name] += page.count(None)
            yield self._without_row(
                tenant, collection, sorted({point.document_id for point in page if point})
            )

    def _without_row(self, tenant: str, collection: str, document_ids: Sequence[str]) -> list[Named]:
        if self._scope.tenant not in ("", tenant) or not document_ids:
            return []
        missing = self._ledger.without_document([(tenant, each) for each in document_ids])
        return [(tenant, collection, document_id) for _, document_id in missing]

    def _foreign_points(self) -> Iterator[Finding]:
        for name, count in self._foreign.items():
            if count:
                tenant, _, collection = name.partition("__")
                detail = f"{count} points without document_id, generation or chunk_index"
                yield Finding(Kind.FOREIGN_POINTS, detail, tenant, collection, subject=name)

    def _collections(self) -> Iterator[tuple[str, str, str]]:
        """Yield the collections that are ours: Qdrant's name, tenant, collection."""
        for name in self._store.collections():
            tenant, divider, collection = name.partition("__")
            if divider and self._scope.holds(tenant, collection):
                yield name, tenant, collection


def _pieces(ids: Iterator[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    for each in ids:
        piece.append(each)
        if len(piece) == NAMES_A_LOOK:
            yield piece
            piece = []
    if piece:
        yield piece
