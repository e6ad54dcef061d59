"""What can be found, and what is done about it. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of findings; a label of metrics, so a name never changes."""

    ROW_MISSING = "row_missing"
    RECORD_MISSING = "record_missing"
    RECORD_OUTDATED = "record_outdated"
    RECORD_UNREADABLE = "record_unreadable"
    ORPHAN_RECORD = "orphan_record"
    UPLOAD_MISSING = "upload_missing"
    ORPHAN_UPLOAD = "orphan_upload"
    ORPHAN_CHUNKS = "orphan_chunks"
    MANIFEST_MISSING = "manifest_missing"
    MANIFEST_OF_ENDED = "manifest_of_ended"
    MANIFEST_WITHOUT_ROW = "manifest_without_row"
    POINTS_MISSING = "points_missing"
    POINTS_EXTRA = "points_extra"
    WRONG_MODEL = "wrong_model"
    DEAD_GENERATION = "dead_generation"
    ORPHAN_POINTS = "orphan_points"
    FOREIGN_POINTS = "foreign_points"
    DOCUMENT_STUCK = "document_stuck"
    DOCUMENT_UNLISTED = "document_unlisted"
    UNSETTLED_STUCK = "unsettled_stuck"
    DELETION_STUCK = "deletion_stuck"
    STALE_LEASE = "stale_lease"
    STALE_DUE = "stale_due"
    STALE_INDEX = "stale_index"
    TASK_UNWATCHED = "task_unwatched"


MEANINGS: Mapping[Kind, tuple[str, str]] = {
    Kind.ROW_MISSING: ("a durable record that the ledger doesn't know", "put back into the ledger"),
    Kind.RECORD_MISSING: ("a READY document without a durable record", "written again"),
    Kind.RECORD_OUTDATED: ("a durable record of another generation than the live one", "written again"),
    Kind.RECORD_UNREADABLE: (
        "a durable record that can't be read",
        "written again, if the ledger has the row",
    ),
    Kind.ORPHAN_RECORD: ("a durable record of a document that is deleted or was never READY", "removed"),
    Kind.UPLOAD_MISSING: ("a READY document whose uploaded file is gone", "can't be: upload it again"),
    Kind.ORPHAN_UPLOAD: ("an uploaded file that no document names", "removed"),
    Kind.ORPHAN_CHUNKS: ("chunk files of a generation that nothing builds", "removed"),
    Kind.MANIFEST_MISSING: ("a document in work that a loss of Redis would lose", "written again"),
    Kind.MANIFEST_OF_ENDED: ("a manifest in pending/ of an upload that has ended", "settled and removed"),
    Kind.MANIFEST_WITHOUT_ROW: ("an accepted upload that never reached the ledger", "taken up"),
    Kind.POINTS_MISSING: ("a live generation with fewer points than chunks", "processed again"),
    Kind.POINTS_EXTRA: ("a live generation with points that are no chunks of it", "processed again"),
    Kind.WRONG_MODEL: ("a live generation that another model embedded", "processed again"),
    Kind.DEAD_GENERATION: ("points of a generation that is neither live nor being built", "removed"),
    Kind.ORPHAN_POINTS: ("points of a document that is unknown or deleted", "removed"),
    Kind.FOREIGN_POINTS: ("points in our collections that Embedfleet didn't write", "can't be: remove them"),
    Kind.DOCUMENT_STUCK: ("a document in work of which no task is left", "processed again"),
    Kind.DOCUMENT_UNLISTED: ("a document that its tenant's lists don't name", "listed"),
    Kind.UNSETTLED_STUCK: ("a document that ended and isn't settled after minutes", "settled"),
    Kind.DELETION_STUCK: ("a deletion that isn't done after minutes", "carried on"),
    Kind.STALE_LEASE: ("a lease of a task that isn't running", "dropped"),
    Kind.STALE_DUE: ("an appointment of the janitor for a task that has ended", "dropped"),
    Kind.STALE_INDEX: ("a list that names a task or a document that isn't so, or isn't there", "corrected"),
    Kind.TASK_UNWATCHED: ("an unfinished task that the janitor would never look at", "watched again"),
}
"""What each kind is, and how it is repaired."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One inconsistency. Two are the same when everything but the sentence is.

    Attributes:
        kind: what it is.
        detail: one sentence with the figures.
        tenant: whose it is, as far as known; the same holds for the next three.
        collection: without the tenant's prefix.
        document_id: the document.
        generation: of the document, 0 where it is about no certain one.
        subject: the blob, or the ledger's key; empty where the document itself is meant.
        task_id: the task that a list names.
        witness: the state of the ledger that it was seen in; a finding whose witness changed is none.
    """

    kind: Kind
    detail: str = field(compare=False)
    tenant: str = ""
    collection: str = ""
    document_id: str = ""
    generation: int = 0
    subject: str = ""
    task_id: str = ""
    witness: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, str | int]:
        """Return what a machine reads of it; what is empty is left out."""
        fields = ("tenant", "collection", "document_id", "generation", "subject", "task_id", "detail")
        values = {name: getattr(self, name) for name in fields}
        return {"kind": str(self.kind), **{name: value for name, value in values.items() if value}}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, something may look wrong before it is.

    Attributes:
        change: after a document's last change; a lease: by then a writer that lost its claim has stopped.
        look: between the two looks at a suspect; a writer whose claim is lost hears of it within a beat.
        stuck: what the janitor settles within seconds, or has on a long list that it gets on with.
        file: a file that nothing names; the janitor sweeps those after an hour, every ten minutes.
    """

    change: float = 30.0
    look: float = 7.5
    stuck: float = 600.0
    file: float = 5400.0

    @classmethod
    def of_lease(cls, seconds: float) -> "Patience":
        """Return the patience for a fleet with leases of this length."""
        return cls(change=seconds, look=seconds / 4)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at; empty: everything."""

    tenant: str = ""
    collection: str = ""

    def holds(self, tenant: str, collection: str) -> bool:
        """Say whether something of this tenant and collection is looked at."""
        return self.tenant in ("", tenant) and self.collection in ("", collection)

    @property
    def is_whole(self) -> bool:
        """Whether everything is looked at."""
        return not self.tenant and not self.collection


class Tally:
    """Counts of findings by kind, and the first few of each."""

    def __init__(self, examples: int) -> None:
        self.counts: Counter[Kind] = Counter()
        self.examples: defaultdict[Kind, list[Finding]] = defaultdict(list)
        self._most = examples

    def add(self, finding: Finding) -> bool:
        """Count a finding; say whether it is one of the first of its kind."""
        self.counts[finding.kind] += 1
        if len(self.examples[finding.kind]) == self._most:
            return False
        self.examples[finding.kind].append(finding)
        return True
