"""Hand-backs that don't need Redis: what a worker had in hand while Redis refused to take it back.

A lease that runs out counts as the death of its worker, and three deaths make a task poison. A worker that
ends while Redis is down, read-only or full didn't die of its task, nor did one whose drain somebody silent
held up. So it leaves a note in the blobs, and the janitor gives the task back before it looks for leases that
ran out.

==================================  =====================================================================
dies after                          what happens then
==================================  =====================================================================
the note is stored                  the janitor gives the task back, once Redis takes it
the ledger took the edge            the janitor repeats it, which changes nothing, and removes the note
==================================  =====================================================================

A note that names an older claim than the task's latest changes nothing.
"""

from pydantic import BaseModel, ConfigDict

from embedfleet.contracts.jobs import Job
from embedfleet.runtime.blobs import Blobs, handed_back_key
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim


class Note(BaseModel):
    """That a claim has ended; names it as a `Claim` does."""

    model_config = ConfigDict(frozen=True)

    task_id: str
    fence: int
    owner: str


class HandBacks:
    """Takes notes, and carries them out."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger, self._blobs = ledger, blobs

    def note(self, claim: Claim) -> None:
        """Give a claim back as soon as Redis takes it.

        Raises:
            DependencyDown: the blobs refuse, too; the lease will run out.
        """
        note = Note(task_id=claim.task_id, fence=claim.fence, owner=claim.owner)
        key = handed_back_key(claim.task_id, claim.fence, claim.owner)
        self._blobs.put(key, note.model_dump_json().encode())

    def noted(self) -> list[str]:
        """Return where all notes are."""
        return list(self._blobs.keys("handed_back"))

    def repeat(self, key: str) -> list[Job]:
        """Give back what a note names; return what to publish.

        Raises:
            DependencyDown: Redis still refuses, or the note can't be read; it stays.
        """
        note = self._blobs.read(Note, key)
        if note is None:
            return []
        jobs = self._ledger.hand_back(note)
        self._blobs.delete(key)
        return jobs or []
