"""One inspection: every check looks, waits, and looks again at what seemed wrong.

Beside live writers only what stays the same is a finding. Nothing is locked and nothing is written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from embedfleet.contracts.errors import DependencyDown
from embedfleet.fsck.documents import DocumentCheck
from embedfleet.fsck.files import FileCheck
from embedfleet.fsck.findings import Finding, Kind, Patience, Scope
from embedfleet.fsck.lists import ListCheck
from embedfleet.fsck.looks import Looker
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.vectors.audit import PointAudit

SUSPECTS = 1000
STRANGE = frozenset({Kind.ORPHAN_POINTS, Kind.DEAD_GENERATION})


@dataclass(frozen=True, slots=True)
class Holdings:
    """The documents of which Qdrant holds points.

    Attributes:
        recognised: the ledger wants these points.
        strange: it wants none of these; some of the recognised may have such points besides.
    """

    recognised: int
    strange: int

    @property
    def are_others(self) -> bool:
        """Whether this looks like the Qdrant of another fleet."""
        return self.strange > self.recognised


class Check(Protocol):
    """One part of an inspection."""

    def suspects(self) -> Iterator[Finding]:
        """Yield what looks wrong at first sight."""

    def again(self, suspects: Sequence[Finding]) -> set[Finding]:
        """Return those that still look the same, and perhaps more."""


class Inspection:
    """Looks at everything once.

    Args:
        ledger: Redis.
        blobs: where files are.
        store: Qdrant.
        scope: what is looked at.
        patience: how long something may look wrong.
        model_key: the model that the fleet runs; empty when that isn't known.
        wait: waits some seconds between the two looks.
    """

    def __init__(
        self,
        ledger: LedgerAudit,
        blobs: Blobs,
        store: PointAudit,
        scope: Scope,
        patience: Patience,
        model_key: str,
        wait: Callable[[float], object],
    ) -> None:
        self._ledger, self._patience, self._wait = ledger, patience, wait
        self._looker = Looker(ledger, blobs, store, scope, patience, model_key)
        self._documents = DocumentCheck(ledger, blobs, store, scope, self._looker)
        self._checks: tuple[Check, ...] = (
            self._documents,
            FileCheck(ledger, blobs, scope, patience),
            ListCheck(ledger, scope),
        )

    @property
    def documents(self) -> int:
        """How many documents have been looked at."""
        return self._looker.documents

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong, and was wrong a while before.

        Raises:
            DependencyDown: Redis, Qdrant or the blobs can't be reached, or Redis has lost its records and
                the janitor hasn't put them back yet.
        """
        self._require_rebuilt()
        for check in self._checks:
            for suspects in _batches(check.suspects()):
                self._wait(self._patience.look)
                still = check.again(suspects)
                self._require_rebuilt()
                yield from (one for one in suspects if one in still)

    def holdings(self) -> Holdings:
        """Count the documents of which Qdrant holds points; an inspection that has done this is used up.

        Raises:
            DependencyDown: as `findings` does.
        """
        self._require_rebuilt()
        strange = {(one.tenant, one.document_id) for one in self._documents.suspects() if one.kind in STRANGE}
        self._require_rebuilt()
        return Holdings(self._looker.recognised, len(strange))

    def _require_rebuilt(self) -> None:
        if not self._ledger.is_rebuilt():
            reason = (
                "it was started anew, and may have lost records: an api's janitor has to put them back, "
                "or it isn't the fleet's"
            )
            raise DependencyDown("Redis", self._ledger.address, reason)


def _batches(suspects: Iterator[Finding]) -> Iterator[list[Finding]]:
    batch: list[Finding] = []
    for one in suspects:
        batch.append(one)
        if len(batch) == SUSPECTS:
            yield batch
            batch = []
    if batch:
        yield batch
