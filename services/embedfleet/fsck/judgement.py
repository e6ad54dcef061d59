"""What is wrong with one document, judged from all that is kept of it. Pure.

A document that is in work, being deleted or was changed a moment ago is not judged: writers are at it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from embedfleet.contracts.documents import Document
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState
from embedfleet.fsck.findings import Finding, Kind, Patience
from embedfleet.runtime.ledger.records import Passes

NEVER = Passes()


@dataclass(slots=True)
class Points:
    """The points of one generation.

    Attributes:
        count: those under the id of their chunk. Ids are made of document, generation and index, so there
            is one of each index at most, and `count` of them up to `highest` are without a hole.
        highest: the highest index among them.
        misplaced: those under another id: a second point of a chunk.
        models: the models that made them.
    """

    count: int = 0
    highest: int = -1
    misplaced: int = 0
    models: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Look:
    """All that is kept of one document.

    Attributes:
        tenant: whose it is.
        collection: empty where nothing says it; nothing is known of its points then.
        document_id: the document.
        row: the ledger's record.
        deleted_through: the newest generation that the ledger says is deleted.
        settle_at: from when on the janitor has to settle it; None: it hasn't to.
        is_listed: its tenant's lists name it.
        is_being_deleted: a tombstone is there.
        has_unfinished_task: asked for documents in work only.
        record: the durable record.
        record_is_damaged: it is there and can't be read.
        has_upload: the uploaded file that the row names is there.
        has_manifest: the manifest of the row's task is there.
        chunk_generations: those of which chunk files are there that the janitor should have swept.
        points: by generation.
    """

    tenant: str
    collection: str
    document_id: str
    row: Document | None
    deleted_through: int
    settle_at: float | None
    is_listed: bool
    is_being_deleted: bool
    has_unfinished_task: bool
    record: Document | None
    record_is_damaged: bool
    has_upload: bool
    has_manifest: bool
    chunk_generations: frozenset[int]
    points: Mapping[int, Points]

    def finding(self, kind: Kind, detail: str, generation: int = 0, subject: str = "") -> Finding:
        """Return a finding about this document."""
        return Finding(
            kind, detail, self.tenant, self.collection, self.document_id, generation, subject,
            witness=witness_of(self.row),
        )  # fmt: skip


def witness_of(row: Document | None) -> tuple[str, ...]:
    """Return what tells one state of a document's row from the next."""
    return (row.task_id, str(row.generation), str(row.state), str(row.updated_at)) if row else ()


def is_recognised(look: Look) -> bool:
    """Say whether the ledger wants points that are there: of the live generation, or of what is in work."""
    row = look.row
    if row is None or not look.points:
        return False
    return row.state not in TERMINAL_DOCUMENT_STATES or row.live_generation in look.points


def is_stuck(since: float, now: float, patience: Patience, passed: float, progress: float) -> bool:
    """Say whether the janitor leaves something undone; a long list takes its time, and is no finding.

    Args:
        since: when that came onto the janitor's list.
        now: the same clock.
        patience: how long it may be there.
        passed: when it began the last pass over the list that is over. What was on it long before was tried.
        progress: when it last got on with anything.
    """
    waits = now - since >= patience.stuck
    return waits and (passed - since >= patience.stuck or now - progress >= patience.stuck)


def judge(
    look: Look, now: float, patience: Patience, model_key: str = "", passes: Passes = NEVER
) -> Iterator[Finding]:
    """Yield what is wrong with a document.

    Args:
        look: what is kept of it.
        now: seconds since the epoch by Redis' clock.
        patience: how long something may look wrong.
        model_key: the model that the fleet runs; empty when that isn't known.
        passes: how far the janitor is.
    """
    row = look.row
    if look.is_being_deleted:
        return
    if row is None:
        yield from _unknown(look)
        return
    quiet = now - row.updated_at
    if quiet < patience.change:
        return
    if not look.is_listed:
        yield look.finding(Kind.DOCUMENT_UNLISTED, f"{row.filename} is missing in its tenant's lists")
    if row.state not in TERMINAL_DOCUMENT_STATES:
        yield from _in_work(look, row)
    elif look.settle_at is not None:
        if is_stuck(look.settle_at, now, patience, passes.settled, passes.at):
            yield look.finding(Kind.UNSETTLED_STUCK, f"{row.state} for {quiet:.0f} s and not settled")
    else:
        yield from _settled(look, row)
        yield from _points(look, row, model_key)


def _unknown(look: Look) -> Iterator[Finding]:
    """Judge what is there of a document without a row."""
    record = look.record
    if look.record_is_damaged:
        # Its points may be all that is left of a READY document.
        yield look.finding(Kind.RECORD_UNREADABLE, "it can't be read, and the ledger has no row of it")
        return
    if record and record.generation > look.deleted_through:
        detail = f"{record.filename} was READY in generation {record.live_generation}"
        yield look.finding(Kind.ROW_MISSING, detail)
        return
    if record:
        yield look.finding(Kind.ORPHAN_RECORD, f"{record.filename} was deleted", record.generation)
    yield from _chunks(look)
    for generation, points in sorted(look.points.items()):
        detail = f"{points.count + points.misplaced} points, and no document"
        yield look.finding(Kind.ORPHAN_POINTS, detail, generation)


def _in_work(look: Look, row: Document) -> Iterator[Finding]:
    if not look.has_unfinished_task:
        yield look.finding(Kind.DOCUMENT_STUCK, f"{row.state}, and no task of it is left", row.generation)
    elif not look.has_manifest:
        detail = f"{row.filename} is {row.state} without a manifest"
        yield look.finding(Kind.MANIFEST_MISSING, detail, row.generation, f"pending/{row.task_id}")


def _settled(look: Look, row: Document) -> Iterator[Finding]:
    """Judge the blobs of a document that ended."""
    yield from _record(look, row)
    if row.state is DocumentState.READY and not look.has_upload:
        yield look.finding(Kind.UPLOAD_MISSING, f"{row.filename} can't be processed again", subject=row.blob)
    yield from _chunks(look)


def _record(look: Look, row: Document) -> Iterator[Finding]:
    record = look.record
    if look.record_is_damaged:
        yield look.finding(Kind.RECORD_UNREADABLE, f"the durable record of {row.filename} can't be read")
    elif row.live_generation == 0:
        if record:
            detail = f"nothing of {row.filename} is live, and it would come back after a loss of Redis"
            yield look.finding(Kind.ORPHAN_RECORD, detail, record.generation)
    elif record is None:
        yield look.finding(Kind.RECORD_MISSING, f"a loss of Redis would lose {row.filename}")
    elif record.live_generation != row.live_generation:
        detail = f"it says generation {record.live_generation}, generation {row.live_generation} is live"
        yield look.finding(Kind.RECORD_OUTDATED, detail)


def _chunks(look: Look) -> Iterator[Finding]:
    for generation in sorted(look.chunk_generations):
        subject = f"chunks/{look.tenant}/{look.document_id}/{generation}"
        yield look.finding(Kind.ORPHAN_CHUNKS, "nothing will read them", generation, subject)


def _points(look: Look, row: Document, model_key: str) -> Iterator[Finding]:
    """Judge the points of a document that ended."""
    for generation, points in sorted(look.points.items()):
        if generation != row.live_generation:
            count = points.count + points.misplaced
            detail = f"{count} points of generation {generation}, live is {row.live_generation or 'none'}"
            yield look.finding(Kind.DEAD_GENERATION, detail, generation)
    live = row if row.state is DocumentState.READY else look.record
    if live is None or not row.live_generation or live.generation != row.live_generation:
        return  # what the live generation must have is in its durable record only
    found, wanted = look.points.get(live.generation, Points()), live.chunk_count or 0
    extra = found.misplaced + max(0, found.count - wanted)
    if found.count < wanted or (found.count == wanted and found.highest != wanted - 1):
        detail = f"{found.count} of {wanted} points of {row.filename}"
        yield look.finding(Kind.POINTS_MISSING, detail, live.generation)
    if extra:
        detail = f"{extra} points of {row.filename} too many: it has {wanted} chunks"
        yield look.finding(Kind.POINTS_EXTRA, detail, live.generation)
    wrong = found.models - {live.model_key} or {live.model_key} - {model_key or live.model_key}
    if wrong:
        wanted_model = model_key or live.model_key
        detail = f"{row.filename} was embedded by {', '.join(sorted(wrong))}, not by {wanted_model}"
        yield look.finding(Kind.WRONG_MODEL, detail, live.generation)
