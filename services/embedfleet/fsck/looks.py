"""Looks at documents: the ledger first, then blobs, then points, then the ledger once more.

In this order, because a deletion leaves its tombstone until the points are gone, and because a document of
which the ledger has changed meanwhile is no suspect.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import ValidationError

from embedfleet.contracts.documents import Document, point_id, qdrant_collection
from embedfleet.contracts.errors import NotFound
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES
from embedfleet.fsck.findings import Finding, Patience, Scope
from embedfleet.fsck.judgement import Look, Points, is_recognised, judge, witness_of
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.ledger.audit import LedgerAudit, Name, Standing
from embedfleet.runtime.ledger.records import Passes
from embedfleet.runtime.ledger.tombstones import Tombstones
from embedfleet.vectors.audit import PointAudit, StoredPoint

NAMES_A_LOOK = 500
POINTS_A_LOOK = 20_000

Named = tuple[str, str, str]
"""A tenant, a collection (empty where nothing says it), and the id of a document."""

Tallies = dict[str, dict[int, Points]]


class Looker:
    """Finds what is wrong with named documents; holds one portion of them in memory.

    Args:
        ledger: where rows are.
        blobs: where records, uploads and chunk files are.
        store: where points are.
        scope: what is looked at; documents outside are passed over.
        patience: how long something may look wrong.
        model_key: the model that the fleet runs; empty when that isn't known.

    Attributes:
        documents: how many rows it has seen, for the report.
        recognised: how often it has met a document of which Qdrant holds points that the ledger wants.
    """

    def __init__(
        self,
        ledger: LedgerAudit,
        blobs: Blobs,
        store: PointAudit,
        scope: Scope,
        patience: Patience,
        model_key: str = "",
    ) -> None:
        self._ledger, self._blobs, self._store = ledger, blobs, store
        self._scope, self._patience, self._model_key = scope, patience, model_key
        self._tombstones = Tombstones(blobs)
        self.documents = 0
        self.recognised = 0

    def look(
        self, named: Sequence[Named], seen: Counter[str] | None = None, *, again: bool = False
    ) -> Iterator[Finding]:
        """Yield what is wrong with these documents.

        Args:
            named: which.
            seen: counts their points, by Qdrant's name of the collection.
            again: they have been looked at before, and don't count twice.
        """
        seen = Counter() if seen is None else seen
        for at in range(0, len(named), NAMES_A_LOOK):
            piece = named[at : at + NAMES_A_LOOK]
            standings = self._ledger.standings([(tenant, document_id) for tenant, _, document_id in piece])
            now, passes = self._ledger.now(), self._ledger.passes()
            placed = [
                (self._placed(one, standing.row), standing)
                for one, standing in zip(piece, standings, strict=True)
            ]
            inside = [(one, standing) for one, standing in placed if self._scope.holds(one[0], one[1])]
            if not again:
                self.documents += sum(standing.row is not None for _, standing in inside)
            for portion in _portions(inside):
                yield from self._unchanged(self._judged(portion, now, passes, seen))

    def _placed(self, named: Named, row: Document | None) -> Named:
        tenant, collection, document_id = named
        known = row or (None if collection else self._record(tenant, document_id)[0])
        return tenant, known.collection if known else collection, document_id

    def _judged(
        self, portion: Sequence[tuple[Named, Standing]], now: float, passes: Passes, seen: Counter[str]
    ) -> list[Finding]:
        looks = [self._files_of(named, standing) for named, standing in portion]
        tallies = self._tallies(looks, seen)
        looks = [replace(look, points=tallies.get(look.document_id, {})) for look in looks]
        self.recognised += sum(map(is_recognised, looks))
        return [one for look in looks for one in judge(look, now, self._patience, self._model_key, passes)]

    def _unchanged(self, findings: list[Finding]) -> list[Finding]:
        """Return those whose document the ledger still has as it was before the look."""
        names: list[Name] = sorted({(one.tenant, one.document_id) for one in findings})
        rows = {
            name: standing.row for name, standing in zip(names, self._ledger.standings(names), strict=True)
        }
        return [one for one in findings if witness_of(rows[one.tenant, one.document_id]) == one.witness]

    def _files_of(self, named: Named, standing: Standing) -> Look:
        (tenant, collection, document_id), row = named, standing.row
        record, is_damaged = self._record(tenant, document_id)
        in_work = row is not None and row.state not in TERMINAL_DOCUMENT_STATES
        return Look(
            tenant=tenant,
            collection=collection,
            document_id=document_id,
            row=row,
            deleted_through=standing.deleted_through,
            settle_at=standing.settle_at,
            is_listed=standing.is_listed,
            is_being_deleted=self._is_being_deleted(tenant, collection, document_id),
            has_unfinished_task=bool(row and in_work and self._ledger.has_unfinished_task(row)),
            record=record,
            record_is_damaged=is_damaged,
            has_upload=bool(row and self._blobs.exists(row.blob)),
            has_manifest=bool(row and self._blobs.exists(pending_key(row.task_id))),
            chunk_generations=frozenset() if in_work else self._left_chunks(tenant, document_id),
            points={},
        )

    def _left_chunks(self, tenant: str, document_id: str) -> frozenset[int]:
        """Return the generations of which all chunk files are old: a late writer's go when they are swept."""
        folder, left = f"chunks/{tenant}/{document_id}", set[int]()
        for name in self._blobs.folders(folder):
            ages = [age for _, age in self._blobs.ages(f"{folder}/{name}")]
            if name.isdecimal() and ages and min(ages) >= self._patience.file:
                left.add(int(name))
        return frozenset(left)

    def _is_being_deleted(self, tenant: str, collection: str, document_id: str) -> bool:
        collections = [collection] if collection else self._tombstones.collections(tenant)
        return any(
            next(self._tombstones.of_collection(tenant, each, document_id), None) for each in collections
        )

    def _record(self, tenant: str, document_id: str) -> tuple[Document | None, bool]:
        """Return a durable record, and whether it is damaged."""
        key = record_key(tenant, document_id)
        try:
            return Document.model_validate_json(self._blobs.get(key)), False
        except NotFound:
            return None, False
        except ValidationError:
            return None, True

    def _tallies(self, looks: Sequence[Look], seen: Counter[str]) -> Tallies:
        by_collection: defaultdict[str, list[str]] = defaultdict(list)
        for look in looks:
            if look.collection:
                by_collection[qdrant_collection(look.tenant, look.collection)].append(look.document_id)
        tallies: Tallies = {}
        for name, document_ids in by_collection.items():
            for page in self._store.points(name, document_ids):
                seen[name] += len(page)
                for point in filter(None, page):
                    _count(tallies, point)
        return tallies


def _portions(inside: Sequence[tuple[Named, Standing]]) -> Iterator[list[tuple[Named, Standing]]]:
    """Yield documents in portions of about as many points as one look may hold."""
    portion: list[tuple[Named, Standing]] = []
    points = 0
    for named, standing in inside:
        portion.append((named, standing))
        points += (standing.row.chunk_count or 1) if standing.row else 1
        if points >= POINTS_A_LOOK:
            yield portion
            portion, points = [], 0
    if portion:
        yield portion


def _count(tallies: Tallies, point: StoredPoint) -> None:
    points = tallies.setdefault(point.document_id, {}).setdefault(point.generation, Points())
    points.models.add(point.model_key)
    if point.id == _id_of(point):
        points.count += 1
        points.highest = max(points.highest, point.chunk_index)
    else:
        points.misplaced += 1


def _id_of(point: StoredPoint) -> str:
    try:
        return point_id(point.document_id, point.generation, point.chunk_index)
    except ValueError:
        return ""  # its document id is none
