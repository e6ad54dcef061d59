"""The ledger: the one truth about tasks and documents, in Redis.

Celery's messages are wake-up calls; what may run, who runs it and what came of it is decided here,
by compare-and-set edges in Lua (``script/``). A claim hands out a *fence*: a number that grows
with every claim of the task. Every later write names its fence and is refused when another claim,
a revocation or a newer generation has overtaken it.

What a caller has to do after an edge: publish the jobs it answers. A publish that is lost costs a
delay, never the task: the janitor's `scan` publishes again what nobody claims.
"""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import FleetError, NewerVersion
from embedfleet.contracts.jobs import Job, ProcessDocument, Queue
from embedfleet.contracts.states import TaskState
from embedfleet.runtime import tracing
from embedfleet.runtime.ledger import calls
from embedfleet.runtime.ledger.calls import LedgerCalls, jobs_of
from embedfleet.runtime.ledger.queues import Overview
from embedfleet.runtime.ledger.records import (
    Acceptance,
    Claim,
    Held,
    Part,
    Pulse,
    claim_of,
    document_fields,
)
from embedfleet.runtime.ledger.views import PASSES, REBUILT

JITTER = 0.1
BACKLOG = "backlog"
# So many of each kind a call: one look at a task keeps Redis busy for ~30 µs, and nothing else runs then.
SCAN_LIMIT = 20


class Ledger(LedgerCalls):
    """Records, edges, leases and lists. Thread-safe; raises `DependencyDown` where Redis can't be reached."""

    def accept(self, document: Document, replaces: str = "", above: int = 0) -> Acceptance:
        """Take an uploaded document as a new generation, unless nothing changed.

        Args:
            document: the upload.
            replaces: take it even though nothing changed, but only in place of the generation of this
                task: a document that is newer or deleted stays as it is.
            above: a number that the new generation must be higher than: points of it may be there.

        Raises:
            NewerVersion: the document is in a state that only a newer version knows.
        """
        answer = self._edge(
            "accept",
            document=document_fields(document),
            name=ProcessDocument.task_name,
            queue=self._settings.routes.of(document.size_bytes),
            above=above,
            **({"replaces": replaces} if replaces else {}),
            **({"trace": trace} if (trace := tracing.traceparent()) else {}),
        )
        if answer.get("newer"):
            raise NewerVersion(f"the state of document {document.id}")
        return Acceptance(
            task_id=answer["task_id"],
            generation=answer["generation"],
            unchanged=bool(answer.get("unchanged")),
            publish=jobs_of(answer),
        )

    def restore(self, document: Document) -> bool:
        """Put back a record from its durable copy; False when what is here is newer, or it is deleted.

        Raises:
            NewerVersion: the row is in a state that only a newer version knows.
        """
        answer = self._edge("restore", document=document_fields(document))
        if answer.get("newer"):
            raise NewerVersion(f"the state of document {document.id}")
        return bool(answer["restored"])

    def claim(self, job: Job, owner: str) -> Claim | str:
        """Take the right to run a task.

        Args:
            job: the message.
            owner: unique for this run; the same owner may ask again after a lost answer.

        Returns:
            The claim, or why there is none: `unknown`, `foreign`, `newer`, `finished`, `held`, `early`,
            `revoked` or `backlog`. Only `BACKLOG` is worth asking again: the task is there and waits.
        """
        answer = self._edge(
            "claim",
            task_id=job.task_id,
            name=job.task_name,
            sequence=job.sequence,
            owner=owner,
            lease=self._settings.lease_seconds,
            **({"trace": True} if tracing.is_on() else {}),
        )
        if "refused" in answer:
            return str(answer["refused"])
        claim = claim_of(job.task_id, answer["task"], answer["document"], answer.get("trace", ""))
        if claim is None:
            # Nothing is published, for this process would take it again at once: the janitor does, later.
            self._edge(
                "hand_back", task_id=job.task_id, fence=int(answer["task"]["fence"]), owner=owner, parks=0
            )
            return "newer"
        return claim

    def beat(
        self, queue: str, worker: str, pulses: Iterable[Pulse], parked: str = "", *, takes: bool = True
    ) -> set[str]:
        """Extend leases, and say that a process is there.

        Args:
            queue: what it takes.
            worker: its name.
            pulses: signs of life of the leases that it holds.
            parked: the dependency that it waits for, or nothing.
            takes: it takes the queue now; one that drains, or was told to stop, doesn't.

        Returns:
            The owners of the leases that are lost: revoked, overtaken, expired.
        """
        leases = [
            {**_name(pulse), "stage": pulse.stage, "done": pulse.done, "total": pulse.total}
            for pulse in pulses
        ]
        answer = self._edge(
            "beat",
            queue=queue,
            worker=worker,
            leases=leases,
            lease=self._settings.lease_seconds,
            takes=takes,
            **({"parked": parked} if parked else {}),
        )
        return set(answer["lost"])

    def chunked(self, claim: Claim, parts: Sequence[Part], result: dict[str, Any]) -> list[Job] | None:
        """End a document task; return the embedding jobs to publish, or None when the claim is lost."""
        rows = [asdict(part) for part in parts]
        if planned := rows[calls.SLICE :]:
            self._plan(claim, planned)
        answer = self._edge(
            "chunked",
            **_name(claim),
            parts=rows[: calls.SLICE],
            planned=len(planned),
            chunk_count=sum(p.chunks for p in parts),
            total=max(claim.task.total, 1),
            result=json.dumps(result),
        )
        return None if answer.get("lost") else jobs_of(answer)

    def embedded(self, claim: Claim, result: dict[str, Any]) -> bool | None:
        """End an embedding task; True when that made the document READY, None when the claim is lost."""
        answer = self._edge("embedded", **_name(claim), result=json.dumps(result))
        return None if answer.get("lost") else bool(answer.get("ready"))

    def fail(self, claim: Claim, error: FleetError, *, retryable: bool, trace: str = "") -> TaskState | None:
        """Record a failed run: RETRY while attempts are left, else FAILURE; None when the claim is lost."""
        answer = self._edge(
            "fail",
            **_name(claim),
            error=json.dumps(error.as_dict() | ({"traceback": trace} if trace else {})),
            retryable=retryable,
            delays=[d * random.uniform(1 - JITTER, 1 + JITTER) for d in self._settings.delays],  # noqa: S311
        )
        return None if answer.get("lost") else TaskState(answer["state"])

    def hand_back(self, claim: Held, *, refused: bool = False) -> list[Job] | None:
        """Give a task back without spending an attempt; return what to publish.

        That is nothing when the claim is lost, and None when it is because the task is REVOKED.

        Args:
            claim: the run that ends.
            refused: a dependency couldn't serve it; counted in `Task.parks`.
        """
        answer = self._edge("hand_back", **_name(claim), parks=int(refused))
        return None if answer.get("revoked") else jobs_of(answer)

    def revoke(self, tenant: str, task_id: str) -> bool:
        """Revoke the task's unfinished document with all its unfinished tasks; False when there is none."""
        return bool(self._edge("revoke", tenant=tenant, task_id=task_id)["revoked"])

    def delete(self, tenant: str, document_id: str, through: int) -> bool:
        """Delete all generations of a document up to one; a newer upload lives on.

        Returns:
            Whether it is quiet: Redis has it on disk, and no writer of a deleted generation is left.
        """
        answer = self._edge(
            "delete",
            tenant=tenant,
            document=document_id,
            generation=through,
            durable_after=self._durable_after,
            quiet_after=self._quiet_after,
        )
        return bool(answer["quiet"])

    def note_removed(self, tenant: str, document_id: str, through: int) -> None:
        """Note that nothing is left of the generations that `delete` has just deleted."""
        self._edge("removed", tenant=tenant, document=document_id, generation=through)

    def removed_through(self, members: Sequence[str]) -> list[int]:
        """Return of each `tenant:document` what `note_removed` was told last; 0: nothing. One round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for member in members:
                pipe.hget(f"deleted:{member}", "removed")
            return [int(removed or 0) for removed in pipe.execute()]

    def scan(self) -> tuple[list[Job], bool]:
        """Find expired leases, due retries, lost wake-ups, and documents on a queue that there is no more.

        Returns:
            What to publish, and whether more is due than one call looks at.
        """
        routes = self._settings.routes
        answer = self._edge(
            "scan",
            limit=SCAN_LIMIT,
            queues=routes.queues,
            document_queues=routes.taken_by(Queue.DOCUMENTS),
        )
        return jobs_of(answer), bool(answer["more"])

    def overview(self, *, take: bool = False) -> Overview:
        """Return how all queues are at one moment; one round trip, no longer for many tasks than for few.

        Args:
            take: also how long documents took to become READY; each is told to one caller, who counts it.
        """
        queues, alive = self._settings.routes.queues, self._settings.lease_seconds
        arguments = {"queues": queues, "alive": alive} | ({"take": True} if take else {})
        return Overview.of(self._call("overview", arguments))

    def settled(self, document: Document, began: float) -> bool:
        """Take a document off those that have to be settled, unless it has moved on.

        Args:
            document: its record as it was settled.
            began: when the settling began, by Redis' clock. It is settled once more if writers of it or of
                its older generations may have been at work then.

        Returns:
            False when it was deleted.
        """
        answer = self._edge(
            "settled",
            tenant=document.tenant,
            document=document.id,
            generation=document.generation,
            state=document.state,
            began=began,
            quiet_after=self._quiet_after,
        )
        return not answer["deleted"]

    def note_progress(self, passed: str = "", began: float = 0.0) -> None:
        """Note that the janitor gets on.

        Args:
            passed: the field of `Passes` that is of a pass which is over, if one is.
            began: when that began; by default now.
        """
        now = self.now()
        fields = {"at": now, **({passed: began or now} if passed else {})}
        with self._reachable():
            self._redis.hset(PASSES, mapping=fields)

    def rebuilt(self, run_id: str) -> None:
        """Note that what Redis held when this run of it began was compared with every durable record."""
        with self._reachable():
            self._redis.set(REBUILT, run_id)

    def elect(self, role: str, owner: str, seconds: float) -> bool:
        """Hold a role for some seconds; False when another process holds it. Losing it is harmless."""
        key, milliseconds = f"role:{role}", int(seconds * 1000)
        with self._reachable():
            if self._redis.set(key, owner, nx=True, px=milliseconds):
                return True
            return self._redis.get(key) == owner and bool(self._redis.pexpire(key, milliseconds))


def _name(claim: Held) -> dict[str, Any]:
    """Return what an edge tells a claim by."""
    return {"task_id": claim.task_id, "fence": claim.fence, "owner": claim.owner}
