"""The janitor: brings back what nobody works on, and settles what has ended.

Runs in every api; a Redis key elects one, and two at once are harmless: every step is idempotent, and what
an older one writes late is settled once more. It alone settles a document, so there is one order of steps
to reason about:

====================================  =================================================================
dies after                            what happens then
====================================  =================================================================
the document ended (ledger)           it stays in `to_settle`; the next round settles it
the durable record is written         the same
points of dead generations are gone   the same
chunk files are gone                  the same
``pending/`` is gone                  the same; after a total loss of Redis nothing is re-driven
====================================  =================================================================

What ended FAILED or REVOKED loses its manifest first: it must not run again after a loss of Redis.
What turned READY is settled some seconds later: by then Redis has it on disk, too.
What a writer without a claim may still have written to is settled once more, when none can be left.
What was deleted has its own steps: `deletions`. A Redis that has just started may be older than the blobs: it
is compared with the durable records before anything else is done.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from embedfleet.contracts.documents import Document, qdrant_collection
from embedfleet.contracts.errors import DependencyDown, NewerVersion
from embedfleet.contracts.jobs import Job
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState
from embedfleet.deletions import Deletions
from embedfleet.runtime import intake
from embedfleet.runtime.blobs import Blobs, pending_key, record_key
from embedfleet.runtime.handbacks import HandBacks
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.durable import Rebuild, durable_record, listed, read_whole
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.telemetry import process_name
from embedfleet.sparing import Spared
from embedfleet.sweeping import Sweep
from embedfleet.vectors import VectorStore

SETTLE_GRACE_SECONDS = 5.0
SWEEP_SECONDS = 600.0
CLOCK_MARGIN_SECONDS = 2.0  # by so much the age of a file may be wrong
SHORTEST_PAUSE_SECONDS = 1.0
# The role is kept for three; in the others somebody else takes it.
REST_INTERVALS = 5

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


class Demoted(Exception):
    """Another janitor has the role by now."""


class Janitor:
    """A thread that scans every few seconds while it holds the role."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        store: VectorStore,
        publish: Callable[[list[Job]], None],
        settings: LedgerSettings,
    ) -> None:
        self._ledger, self._blobs, self._publish = ledger, blobs, publish
        self.sweep = Sweep(ledger, blobs)
        self._intake = Intake(ledger, blobs, publish)
        self._revocations = Revocations(ledger, blobs)
        self._hand_backs = HandBacks(ledger, blobs)
        self._deletions = Deletions(ledger, blobs, store)
        self._store = self._deletions.store
        self._durable = Rebuild(ledger, blobs)
        self._interval = settings.scan_seconds
        self._name = process_name()
        self._swept_at = -math.inf
        self._woke_at = 0.0
        self._lost_at: float | None = None
        self._has_left, self._rests_until = False, 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="janitor", daemon=True)

    def start(self) -> None:
        """Start to scan."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the round in hand."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def round(self) -> None:
        """Do one round.

        Raises:
            DependencyDown: Redis, Qdrant or the blobs can't be reached; the next round goes on.
        """
        # Should Redis start again meanwhile, this is not the id of what it holds then.
        run_id = self._ledger.run_id()
        is_rebuilt = self._ledger.is_rebuilt()
        self._lost_at = None if is_rebuilt else self._lost_at or time.monotonic()
        is_known = is_rebuilt or self._durable.run(self._each)
        marks, are_all = listed(self._each, "revoked", self._blobs.keys)
        is_known &= self._each(self._revocations.repeat, marks) and are_all
        self._wake()
        is_known &= self._take_up_pending()
        if is_known and not is_rebuilt:
            self._ledger.rebuilt(run_id)
        if self._ledger.run_id() != run_id:
            return  # what another Redis holds is compared first
        self._settle_all()
        self._deletions.round(self._each)
        is_due = (is_rebuilt or is_known) and time.monotonic() - self._swept_at > SWEEP_SECONDS
        if is_due and self._ledger.run_id() == run_id:
            self._swept_at = time.monotonic()
            self.sweep.run(self._each)
        self._ledger.note_progress("round")

    def settle(self, document: Document) -> None:
        """Make a document's end durable and remove what no longer serves it."""
        began, key = self._ledger.now(), record_key(document.tenant, document.id)
        record = durable_record(self._blobs, key)
        if self._durable.puts_back(document, record):
            return
        if document.state is DocumentState.READY:
            self._blobs.put(key, document.model_dump_json().encode())
        else:
            self._blobs.delete(pending_key(document.task_id))
            if record and record.generation != document.live_generation:
                # Forgotten, and then revoked: it must not come back with the next loss of Redis.
                self._deletions.remove_record(document.tenant, document.id, document.generation)
        if document.state is not DocumentState.READY or document.generation > 1:
            self._delete_points(document, through=document.generation)
        self._deletions.remove_chunks(document.tenant, document.id, document.generation)
        self._blobs.delete(pending_key(document.task_id))
        if not self._ledger.settled(document, began):
            # Deleted since it was read, perhaps to the end: what was written above must not bring it back.
            self._deletions.remove_record(document.tenant, document.id, document.generation)

    def _settle_all(self) -> None:
        now = self._ledger.now()
        for page in self._ledger.due_to_settle(now):
            self._each(self.settle, [one for one in page if _is_due(one, now)])
            self._ledger.note_progress()
        self._ledger.note_progress("settled", now)

    def _turn(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take_turn()
            except Demoted:
                _log.info("another janitor took over in the middle of a round")
            except DependencyDown as error:
                _log.warning("the janitor waits: %s", error)
            except Exception:
                _log.exception("a round of the janitor failed")
            self._stopping.wait(self._pause())

    def _pause(self) -> float:
        """Return the seconds until the next round: none longer than until the next lease ends."""
        if self._deletions.has_more:
            return min(self._interval, SHORTEST_PAUSE_SECONDS)
        try:
            return min(self._interval, max(self._ledger.next_expiry(), SHORTEST_PAUSE_SECONDS))
        except Exception:  # nobody would start the thread again; a round tells better what is wrong
            _log.debug("it isn't known when the next lease ends", exc_info=True)
            return self._interval

    def _each(self, step: Callable[[Item], object], items: Iterable[Item]) -> bool:
        """Take a step for each item; one that fails holds up no other, but what is down for all does.

        A round may be long: tasks are woken and the role is kept meanwhile.

        Returns:
            Whether none failed.

        Raises:
            DependencyDown: the items that are left have to wait for the next round.
            Demoted: another janitor has the role.
        """
        is_whole = True
        for item in items:
            if time.monotonic() - self._woke_at >= self._interval:
                if self._thread.ident and not self._is_elected():
                    raise Demoted
                self._wake()
            try:
                step(item)
                continue
            except NewerVersion as error:
                self._has_left = True
                _log.warning("left where it is: %s", error)
            except Spared as error:
                _log.debug("%s waits: %s", getattr(item, "id", item), error)
            except DependencyDown as error:
                self._deletions.raise_if_down(error)
                _log.warning("%s waits: %s", getattr(item, "id", item), error)
            except Exception:
                _log.exception("the janitor failed on %s", getattr(item, "id", item))
            is_whole = False
        return is_whole

    def _take_turn(self) -> None:
        """Do a round if the role is ours; after one that left something to a newer version it is others'."""
        if time.monotonic() < self._rests_until:
            self._wake()
        elif self._is_elected():
            self._has_left = False
            try:
                self.round()
            finally:
                if self._has_left and not self._deletions.has_more:
                    self._rests_until = time.monotonic() + REST_INTERVALS * self._interval

    def _is_elected(self) -> bool:
        return self._ledger.elect("janitor", self._name, 3 * self._interval)

    def _wake(self) -> None:
        self._woke_at = time.monotonic()
        notes: list[str] = []
        self._serve(lambda: notes.extend(self._hand_backs.noted()), "handed_back/")
        for key in notes:  # before the scan would count their leases as deaths
            self._serve(partial(self._give_back, key), key)
        more = True
        while more and not self._stopping.is_set():
            jobs, more = self._ledger.scan()
            self._publish(jobs)

    def _give_back(self, key: str) -> None:
        self._publish(self._hand_backs.repeat(key))

    def _serve(self, step: Callable[[], object], what: str) -> None:
        """Take a step that holds up no other, unless what it needs is down for all."""
        try:
            step()
        except DependencyDown as error:
            self._deletions.raise_if_down(error)
            _log.warning("%s waits: %s", what, error)

    def _take_up_pending(self) -> bool:
        """Find manifests whose upload isn't in the ledger, the oldest first.

        Returns:
            False when one that Redis may have lost has to wait, for its turn or for a newer version. One that
            came after Redis did is an upload in the middle.
        """
        there, are_read = listed(self._each, "pending", self._blobs.keys)
        keys = {key.removeprefix("pending/"): key for key in there}
        unknown = [keys[task_id] for task_id in self._ledger.without_row(list(keys))]
        ages = dict[str, float]()
        are_read &= self._each(lambda key: ages.update({key: self._blobs.age(key)}), unknown)
        due = [key for key, age in ages.items() if age >= intake.PENDING_GRACE_SECONDS]
        found: list[Document | None] = []
        are_read &= self._each(lambda key: found.append(read_whole(self._blobs, Document, key)), due)
        manifests = sorted(filter(None, found), key=lambda manifest: manifest.uploaded_at)
        are_taken_up = self._each(self.take_up, manifests) and are_read
        since = time.monotonic() - (self._lost_at or 0.0) - CLOCK_MARGIN_SECONDS
        return are_taken_up and all(age < since for key, age in ages.items() if key not in due)

    def take_up(self, manifest: Document) -> None:
        """Do what a manifest asks for: settle what has ended, drop what was overtaken, drive the rest."""
        record = self._ledger.document(manifest.tenant, manifest.id)
        if record and record.task_id == manifest.task_id and record.state in TERMINAL_DOCUMENT_STATES:
            if ended := self._ledger.ended(manifest.tenant, manifest.id):
                self.settle(ended)
        elif record and record.uploaded_at > manifest.uploaded_at:
            self._intake.discard(manifest)  # a newer upload took its place
        elif self._deletions.covers(manifest):
            self._intake.discard(manifest)
        elif self._revocations.covers(manifest):
            if record is None or record.state in TERMINAL_DOCUMENT_STATES:
                self._delete_points(record or manifest, through=None)
            self._intake.discard(manifest)
        else:
            _log.info("re-driven", extra={"task_id": manifest.task_id, "document_id": manifest.id})
            # Redis may have lost generations whose points are there: their numbers must not come again.
            collection = qdrant_collection(manifest.tenant, manifest.collection)
            self._intake.redrive(manifest, above=self._store.newest_generation(collection, manifest.id))

    def _delete_points(self, document: Document, through: int | None) -> None:
        collection = qdrant_collection(document.tenant, document.collection)
        self._store.delete_generations(
            collection, document.id, keep=document.live_generation, through=through
        )


def _is_due(document: Document, now: float) -> bool:
    """Say whether a document may be settled, by Redis' clock; see the head of this file."""
    return document.state is not DocumentState.READY or now - document.updated_at >= SETTLE_GRACE_SECONDS
