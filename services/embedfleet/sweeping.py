"""The janitor's sweep: removes files that nothing names, once they are an hour old."""

from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES
from embedfleet.runtime import intake
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.durable import Each, is_named, listed


class Sweep:
    """Looks at every uploaded file and every chunk file."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger, self._blobs = ledger, blobs

    def run(self, each: Each) -> None:
        """Remove what nothing names; `each` takes the steps."""
        each(self._blobs.sweep_unfinished, [intake.ORPHAN_GRACE_SECONDS])
        for folder, step in (("uploads", self.upload), ("chunks", self._chunks)):
            ages, _ = listed(each, folder, self._blobs.ages)
            each(step, [key for key, age in ages if age >= intake.ORPHAN_GRACE_SECONDS])

    def upload(self, key: str) -> None:
        """Remove an uploaded file, unless a row, a manifest or a durable record names it."""
        _, tenant, document_id, _ = key.split("/", 3)
        if not is_named(self._blobs, key, self._ledger.document(tenant, document_id)):
            self._blobs.delete(key)

    def _chunks(self, key: str) -> None:
        _, tenant, document_id, generation, _ = key.split("/", 4)
        record = self._ledger.document(tenant, document_id)
        if record is None or record.generation > int(generation) or record.state in TERMINAL_DOCUMENT_STATES:
            self._blobs.delete(key)
