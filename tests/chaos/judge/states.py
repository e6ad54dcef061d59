"""The state log: what every tracked task and document was seen to be, five times a second."""

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import redis

from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, TERMINAL_TASK_STATES
from tests.chaos.judge.looks import Looks

WORK = {"documents": "parse", "embeddings": "embed"}


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One look at a task that differed from the one before.

    Attributes:
        at: monotonic time.
        state: Celery's word.
        fence: of its latest claim.
        pid: process that holds or held it; 0 before the first claim.
        work: `parse` or `embed`: by the queue it came from.
    """

    at: float
    state: str
    fence: int
    pid: int
    work: str


@dataclass(frozen=True, slots=True)
class DocumentSeen:
    """One look at a document that differed from the one before."""

    at: float
    state: str
    generation: int
    live: int


class StateLog(Looks):
    """Reads the ledger's rows directly, beside the relay, so that no fault blinds it but Redis' own."""

    def __init__(self, client: Any, tenant: str = "default") -> None:
        super().__init__("state-log")
        self._redis, self._tenant = client, tenant
        self._documents: set[str] = set()
        self._expanded: dict[str, str] = {}
        self.tasks: dict[str, list[TaskSeen]] = {}
        self.documents: dict[str, list[DocumentSeen]] = {}

    def track(self, document_id: str, task_id: str) -> None:
        """Look at a document, its task and all tasks that come of it from now on."""
        with self._lock:
            self._documents.add(document_id)
            self.tasks.setdefault(task_id, [])

    def forget_tasks(self) -> None:
        """Begin anew with the tasks: Redis has lost them, so those of unended documents run again."""
        with self._lock:
            for seen in self.tasks.values():
                seen.clear()

    def forget_documents(self, but: str) -> None:
        """Begin anew with all documents but one: their ends may be among what Redis has lost."""
        with self._lock:
            self.documents = {one: seen for one, seen in self.documents.items() if one == but}

    def regressions(self) -> list[str]:
        """Return what was seen after an end that ends for good."""
        found = []
        for task_id, seen in self._of_tasks():
            for before, after in pairwise(seen):
                if before.state in TERMINAL_TASK_STATES and (after.state, after.fence) != (
                    before.state,
                    before.fence,
                ):
                    found.append(f"task {task_id}: {before.state} then {after.state}")
                if after.fence < before.fence:
                    found.append(f"task {task_id}: fence {before.fence} then {after.fence}")
        for document_id, looks in self._of_documents():
            for earlier, later in pairwise(looks):
                same = earlier.generation == later.generation
                if same and earlier.state in TERMINAL_DOCUMENT_STATES and later.state != earlier.state:
                    found.append(f"document {document_id}: {earlier.state} then {later.state}")
                if later.generation < earlier.generation or later.live < earlier.live:
                    found.append(f"document {document_id}: a generation went back")
        return found

    def released_after(self, pid: int, died_at: float) -> float:
        """Return the monotonic time at which the last task of a dead process was somebody's again.

        0 when the process held none, infinity when one is still held in its name.
        """
        times = [0.0]
        for _, seen in self._of_tasks():
            held = [n for n, look in enumerate(seen) if look.pid == pid and look.state == "STARTED"]
            if not held:
                continue
            after = [look.at for look in seen[held[-1] + 1 :] if _moved(seen[held[-1]], look)]
            released = after[0] if after else float("inf")
            times.append(released if released > died_at else 0.0)
        return max(times)

    def first_claim_after(self, at: float, work: str = "") -> float:
        """Return the monotonic time of the first claim after a moment; infinity when there was none.

        Args:
            at: the moment.
            work: `parse` or `embed`; any by default.
        """
        claims = [
            after.at
            for _, seen in self._of_tasks()
            for before, after in pairwise([TaskSeen(0, "", 0, 0, ""), *seen])
            if after.at > at and after.fence > before.fence and work in ("", after.work)
        ]
        return min(claims, default=float("inf"))

    def work_of(self, pid: int) -> str:
        """Return what a process is at, `parse` or `embed`; empty when it holds no task."""
        for _, seen in self._of_tasks():
            if seen and seen[-1].pid == pid and seen[-1].state == "STARTED":
                return seen[-1].work
        return ""

    def _of_tasks(self) -> list[tuple[str, list[TaskSeen]]]:
        with self._lock:
            return [(task_id, list(seen)) for task_id, seen in self.tasks.items()]

    def _of_documents(self) -> list[tuple[str, list[DocumentSeen]]]:
        with self._lock:
            return [(document_id, list(seen)) for document_id, seen in self.documents.items()]

    def look(self) -> None:
        """Read the rows; nothing is to be seen while Redis is away."""
        with suppress(redis.RedisError):
            self._read()

    def _read(self) -> None:
        with self._lock:
            task_ids, document_ids = list(self.tasks), list(self._documents)
        with self._redis.pipeline(transaction=False) as pipe:
            for task_id in task_ids:
                pipe.hmget(f"task:{task_id}", "state", "fence", "owner", "queue")
            for document_id in document_ids:
                pipe.hmget(f"document:{self._tenant}:{document_id}", "state", "generation", "live_generation")
            rows = pipe.execute()
        now = time.monotonic()
        with self._lock:
            for task_id, row in zip(task_ids, rows, strict=False):
                if row[0]:
                    _note(self.tasks[task_id], _task_seen(now, row))
            for document_id, row in zip(document_ids, rows[len(task_ids) :], strict=True):
                if row[0]:
                    _note(
                        self.documents.setdefault(document_id, []),
                        DocumentSeen(now, row[0], int(row[1]), int(row[2] or 0)),
                    )
        self._expand()

    def _expand(self) -> None:
        """Track the embedding tasks of documents that have come so far."""
        for document_id, seen in self._of_documents():
            generation = str(seen[-1].generation)
            if seen[-1].state != "EMBEDDING" or self._expanded.get(document_id) == generation:
                continue
            members = self._redis.zrange(f"members:{self._tenant}:{document_id}:{generation}", 0, -1)
            with self._lock:
                self._expanded[document_id] = generation
                for task_id in members:
                    self.tasks.setdefault(task_id, [])


def _task_seen(now: float, row: list[str | None]) -> TaskSeen:
    return TaskSeen(now, row[0] or "", int(row[1] or 0), pid_of(row[2]), WORK[row[3] or "documents"])


def pid_of(owner: str | None) -> int:
    """Return the process id in the name of a claim's owner; 0 without one."""
    parts = (owner or "").split(":")
    return int(parts[1]) if len(parts) > 1 else 0


def _moved(before: TaskSeen, after: TaskSeen) -> bool:
    return (before.state, before.fence) != (after.state, after.fence)


def _note(seen: list[Any], look: Any) -> None:
    """Append a look unless only its time is new."""
    if not seen or any(
        getattr(seen[-1], name) != getattr(look, name) for name in look.__slots__ if name != "at"
    ):
        seen.append(look)
