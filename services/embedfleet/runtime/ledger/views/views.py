"""What may be read of the ledger: tasks, documents, pools, and lists.py. Nothing here changes a state."""

import logging
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, TypeVar

from embedfleet.contracts.documents import Document
from embedfleet.contracts.jobs import LEASES, Queue
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState
from embedfleet.contracts.versions import Stranger
from embedfleet.runtime.ledger.records import (
    Load,
    Passes,
    Pool,
    Task,
    document_of,
    known_documents,
    task_of,
)
from embedfleet.runtime.ledger.redis_health import require
from embedfleet.runtime.ledger.views.lists import LedgerLists, seconds

Durable = TypeVar("Durable", bound=Document | Stranger)

PROBE_MILLISECONDS = 1000
SETTLE_PAGE = 200
TO_SETTLE = "to_settle"
SETTLE_AGAIN = "settle_again"
REBUILT = "rebuilt"
PASSES = "passes"


_log = logging.getLogger(__name__)


class LedgerViews(LedgerLists):
    """Reads; a tenant's have it in their keys. Raises `DependencyDown` where Redis can't be reached."""

    @property
    def address(self) -> str:
        """Where Redis is, for messages; without its password."""
        return self._address

    def ping(self) -> None:
        """Raise `DependencyDown` unless Redis takes writes: a full or read-only one answers PING, too."""
        self.time_of_write()

    def time_of_write(self) -> float:
        """Write to Redis; return its clock, seconds since the epoch. Raises as `ping` does."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set("probe", 1, px=PROBE_MILLISECONDS)
            pipe.time()
            _, clock = pipe.execute()
        return seconds(clock)

    def require_safe_redis(self) -> None:
        """Raise `ConfigurationError` when this Redis would lose work without an error."""
        with self._reachable():
            info = self._redis.info("everything")
        require(info, self._address)

    def task(self, tenant: str, task_id: str) -> Task | None:
        """Return a task of this tenant, or None."""
        with self._reachable():
            row = self._redis.hgetall(f"task:{task_id}")
        return task_of(task_id, row) if row and row["tenant"] == tenant else None

    def has_expired(self, tenant: str, task_id: str) -> bool:
        """Say whether a task of this tenant existed and its details have expired."""
        with self._reachable():
            return bool(self._redis.exists(f"tombstone:{tenant}:{task_id}"))

    def document(self, tenant: str, document_id: str) -> Document | None:
        """Return a document of this tenant, or None.

        Raises:
            NewerVersion: it is in a state that only a newer version knows.
        """
        with self._reachable():
            row = self._redis.hgetall(f"document:{tenant}:{document_id}")
        return document_of(row) if row else None

    def documents_by_id(self, tenant: str, document_ids: Sequence[str]) -> dict[str, Document]:
        """Return those of these documents that are there; one round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for document_id in document_ids:
                pipe.hgetall(f"document:{tenant}:{document_id}")
            rows = pipe.execute()
        return {document.id: document for document in known_documents(rows)}

    def document_ids(self, tenant: str, collection: str) -> list[str]:
        """Return the ids of all documents of a collection."""
        with self._reachable():
            ids: list[str] = self._redis.zrange(f"index:documents:{tenant}:{collection}", 0, -1)
        return ids

    def deleted_through(self, tenant: str, document_id: str) -> int:
        """Return the newest deleted generation of a document; 0 when none was, or that is a day ago."""
        with self._reachable():
            return int(self._redis.hget(f"deleted:{tenant}:{document_id}", "generation") or 0)

    def live_generations(self, tenant: str, document_ids: Sequence[str]) -> dict[str, int]:
        """Return the generation that search shows of each document; one round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for document_id in document_ids:
                pipe.hget(f"document:{tenant}:{document_id}", "live_generation")
            live = pipe.execute()
        pairs = zip(document_ids, live, strict=True)
        return {document_id: int(number) for document_id, number in pairs if number}

    def load(self, tenant: str, key: str, *, with_memory: bool = False) -> Load:
        """Return what is under way, in all and of one API key; one round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget("load", "documents", f"documents:{tenant}:{key}", "tokens")
            if with_memory:
                pipe.info("memory")
            counts, *memory = pipe.execute()
        documents, of_key, tokens = (int(count or 0) for count in counts)
        return Load(documents, of_key, tokens, _share(memory[0]) if memory else None)

    def pool(self, queue: str) -> Pool:
        """Return how a pool is."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(f"workers:{queue}", 0, -1, withscores=True)
            pipe.time()
            pipe.zrange(f"parked_workers:{queue}", 0, -1, withscores=True)
            pipe.hexists("load", "resume_at")
            workers, clock, parked, is_held = pipe.execute()
        since = seconds(clock) - self._settings.lease_seconds
        alive, waiting = (sum(beat >= since for _, beat in listed) for listed in (workers, parked))
        return Pool(alive, waiting, queue != Queue.EMBEDDINGS and bool(is_held))

    def queue_of(self, document: Document) -> str:
        """Return where a document of this size waits for a worker."""
        return self._settings.routes.of(document.size_bytes)

    def memory_share(self) -> float:
        """Return the share of Redis' `maxmemory` in use; 0 where it has no limit."""
        with self._reachable():
            return _share(self._redis.info("memory"))

    def queued(self, queue: str) -> int:
        """Return how many messages wait on a queue."""
        with self._reachable():
            return int(self._redis.llen(queue))

    def next_expiry(self) -> float:
        """Return the seconds until the first of all leases ends, 0 when one has; infinity without any."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for queue in self._settings.routes.queues:
                pipe.zrange(f"{LEASES}{queue}", 0, 0, withscores=True)
            pipe.time()
            *first, clock = pipe.execute()
        ends = [float(score) for pairs in first for _, score in pairs]
        return max(min(ends, default=inf) - seconds(clock), 0.0)

    def passes(self) -> Passes:
        """Return how far the janitor is."""
        with self._reachable():
            fields = self._redis.hmget(PASSES, Passes._fields)
        return Passes(*(float(field or 0) for field in fields))

    def run_id(self) -> str:
        """Return what tells one start of Redis from the next; a replica that takes over has another, too."""
        with self._reachable():
            return str(self._redis.info("server")["run_id"])

    def is_rebuilt(self) -> bool:
        """Whether this run of Redis holds what the durable records say; False after a restart, at first."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.get(REBUILT)
            pipe.info("server")
            rebuilt, info = pipe.execute()
        return bool(rebuilt == info["run_id"])

    def behind(self, records: Sequence[Durable]) -> list[Durable]:
        """Return those of these durable records that the ledger may not know; one round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for record in records:
                pipe.hmget(f"document:{record.tenant}:{record.id}", "generation", "state")
            rows = pipe.execute(raise_on_error=False)  # one key that holds no hash spoils no other's answer
        return [record for record, row in zip(records, rows, strict=True) if _is_behind(row, record)]

    def unsettled(self, limit: int) -> list[Document]:
        """Return documents that ended and are not settled yet: durable record, blobs, old points."""
        with self._reachable():
            members = self._redis.zrange(TO_SETTLE, 0, limit - 1)
        return self._ended(members)

    def ended(self, tenant: str, document_id: str) -> Document | None:
        """Return a document that has ended, to act on it; None also where a newer version wrote it."""
        return next(iter(self._ended([f"{tenant}:{document_id}"])), None)

    def due_to_settle(self, until: float) -> Iterator[list[Document]]:
        """Yield in pages the documents that have to be settled, first or once more; each is met once.

        Args:
            until: seconds since the epoch by Redis' clock; what ends later is left out.
        """
        for key in (TO_SETTLE, SETTLE_AGAIN):
            after = "-inf"
            while True:
                with self._reachable():
                    page = self._redis.zrangebyscore(key, after, until, 0, SETTLE_PAGE, withscores=True)
                if not page:
                    break
                after = f"({page[-1][1]!r}"
                yield self._ended([member for member, _ in page])

    def _ended(self, members: Sequence[str]) -> list[Document]:
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for member in members:
                pipe.hgetall(f"document:{member}")
            rows = pipe.execute()
        documents: list[Document] = []
        for member, row in zip(members, rows, strict=True):
            try:
                documents += known_documents([row], "forbid")
            except (KeyError, ValueError):
                _log.exception("the row of document %s can't be read", member)
        # One that was uploaded again between the two reads is running, not ended.
        return [document for document in documents if document.state in TERMINAL_DOCUMENT_STATES]

    def without_row(self, task_ids: Sequence[str]) -> list[str]:
        """Return those of these tasks that the ledger doesn't know (any more); one round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for task_id in task_ids:
                pipe.exists(f"task:{task_id}")
            known = pipe.execute()
        return [task_id for task_id, there in zip(task_ids, known, strict=True) if not there]


def _is_behind(row: Any, record: Document | Stranger) -> bool:
    """Say whether a row may tell less than a durable record; what can't be read is for `restore`."""
    try:
        generation, state = int(row[0] or 0), row[1]
    except (TypeError, ValueError):
        return True
    if generation != record.generation:
        return generation < record.generation
    return state not in (record.state, DocumentState.REVOKED)


def _share(memory: dict[str, Any]) -> float:
    limit = int(memory.get("maxmemory") or 0)
    return int(memory["used_memory"]) / limit if limit else 0.0
