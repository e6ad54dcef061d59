"""The ledger as `fsck` sees it: walks over everything in bounded pages, and lists brought in step with rows.

No walk locks anything or changes anything; SCAN and ZSCAN may answer an entry twice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedfleet.contracts.documents import Document
from embedfleet.contracts.jobs import LEASES
from embedfleet.contracts.states import TERMINAL_TASK_STATES, TaskState
from embedfleet.runtime.ledger.edges import Ledger
from embedfleet.runtime.ledger.records import document_of
from embedfleet.runtime.ledger.views import SETTLE_AGAIN, TO_SETTLE

PAGE = 500
SUMMARY, MODEL = "fsck", "model"
# An api that serves says so every 15 s; one of another model takes over when that stops.
MODEL_SECONDS = 60.0
UNFINISHED = tuple(state for state in TaskState if state not in TERMINAL_TASK_STATES)

Name = tuple[str, str]
"""A tenant, and the id of a document of his."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger knows of a document.

    Attributes:
        row: its record.
        deleted_through: the newest generation that was deleted, 0 for none.
        settle_at: from when on the janitor has to settle it, first or once more; None: it hasn't to.
        is_listed: the lists of its tenant and of its collection name it.
    """

    row: Document | None
    deleted_through: int
    settle_at: float | None
    is_listed: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A task that a list names, read in one transaction.

    Attributes:
        task_id: the task.
        is_there: whether the list names it (still).
        state: of its row; None without one.
        fence: of its row.
        tenant: of its row.
        is_watched: the janitor will look at it: it is in `due`, or it waits on a queue.
    """

    task_id: str
    is_there: bool
    state: TaskState | None
    fence: int
    tenant: str
    is_watched: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """What the last check of the fleet's own found.

    Attributes:
        at: when it ended, seconds since the epoch by Redis' clock; 0: never.
        counts: findings by kind.
    """

    at: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """The model that the fleet's apis search with, and give to new uploads.

    Attributes:
        model_key: empty when no api has said so yet.
        dim: length of that model's vectors; 0: not known.
        at: when one of them last said so, seconds since the epoch by Redis' clock.
    """

    model_key: str = ""
    dim: int = 0
    at: float = 0.0


class LedgerAudit(Ledger):
    """A ledger with the walks and the repairs of `fsck`."""

    def document_names(self, tenant: str = "") -> Iterator[list[Name]]:
        """Yield the documents that have a row, of one tenant or of all, in pages."""
        for keys in self._scan(f"document:{tenant or '*'}:*"):
            yield [(parts[1], parts[2]) for parts in (key.split(":", 2) for key in keys)]

    def standings(self, names: Sequence[Name]) -> list[Standing]:
        """Return what is known of these documents; two round trips."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for tenant, document_id in names:
                pipe.hgetall(f"document:{tenant}:{document_id}")
                pipe.hget(f"deleted:{tenant}:{document_id}", "generation")
                for key in (TO_SETTLE, SETTLE_AGAIN):
                    pipe.zscore(key, f"{tenant}:{document_id}")
            answers = pipe.execute()
            rows = [document_of(row) if row else None for row in answers[::4]]
            for (tenant, document_id), row in zip(names, rows, strict=True):
                pipe.zscore(f"index:documents:{tenant}", document_id)
                pipe.zscore(f"index:documents:{tenant}:{row.collection if row else ''}", document_id)
            scores = pipe.execute()
        listed = [None not in pair for pair in zip(scores[::2], scores[1::2], strict=True)]
        return [
            Standing(row, int(deleted or 0), first if first is not None else again, is_listed)
            for row, deleted, first, again, is_listed in zip(
                rows, answers[1::4], answers[2::4], answers[3::4], listed, strict=True
            )
        ]

    def without_document(self, names: Sequence[Name]) -> list[Name]:
        """Return those of these documents that have no row; one round trip."""
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for tenant, document_id in names:
                pipe.exists(f"document:{tenant}:{document_id}")
            known = pipe.execute()
        return [name for name, there in zip(names, known, strict=True) if not there]

    def has_unfinished_task(self, document: Document) -> bool:
        """Say whether any task of a document's newest generation has not ended, or has yet to come."""
        name = f"{document.tenant}:{document.id}:{document.generation}"
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            # The set is what the version before wrote.
            members = [
                *self._redis.zrange(f"members:{name}", 0, -1),
                *self._redis.smembers(f"generation:{name}"),
            ]
            for task_id in {document.task_id, *members}:
                pipe.hget(f"task:{task_id}", "state")
            pipe.exists(f"plan:{document.task_id}")
            *states, is_planned = pipe.execute()
        return bool(is_planned) or not {state for state in states if state} <= TERMINAL_TASK_STATES

    def task_lists(self) -> list[str]:
        """Return the keys of all lists that name unfinished tasks."""
        found = {"due", *(f"{LEASES}{queue}" for queue in self._settings.routes.queues), *self._waiting}
        for state in UNFINISHED:
            for keys in self._scan(f"index:tasks:*:{state}"):
                found.update(keys)
        return sorted(found)

    def document_lists(self) -> list[str]:
        """Return the keys of all lists of documents."""
        return sorted({key for keys in self._scan("index:documents:*") for key in keys})

    def members(self, key: str) -> Iterator[list[str]]:
        """Yield what a list names, in pages."""
        cursor = 0
        while True:
            with self._reachable():
                cursor, page = self._redis.zscan(key, cursor, count=PAGE)
            yield [member for member, _ in page]
            if cursor == 0:
                return

    def entries(self, key: str, task_ids: Sequence[str]) -> list[Entry]:
        """Return what is behind these entries of a list, all at one moment."""
        with self._reachable(), self._redis.pipeline(transaction=True) as pipe:
            for task_id in task_ids:
                pipe.zscore(key, task_id)
                pipe.hmget(f"task:{task_id}", "state", "fence", "tenant")
                for watched in ("due", *self._waiting):
                    pipe.zscore(watched, task_id)
            answers = pipe.execute()
        size = len(answers) // len(task_ids)
        replies = [answers[at : at + size] for at in range(0, len(answers), size)]
        return [
            Entry(
                task_id=task_id,
                is_there=score is not None,
                state=TaskState(state) if state else None,
                fence=int(fence or 0),
                tenant=tenant or "",
                is_watched=any(score is not None for score in watched),
            )
            for task_id, (score, (state, fence, tenant), *watched) in zip(task_ids, replies, strict=True)
        ]

    def is_listed(self, key: str, document_id: str) -> bool:
        """Say whether a list of documents names this one."""
        with self._reachable():
            return self._redis.zscore(key, document_id) is not None

    def mend_task(self, task_id: str, tenant: str) -> None:
        """Bring every list in step with a task's row; `tenant` is whose lists, when it has no row."""
        self._edge("mend_task", task_id=task_id, tenant=tenant, queues=self._settings.routes.queues)

    def mend_document(self, tenant: str, document_id: str, collection: str) -> None:
        """Bring every list in step with a document's row."""
        self._edge("mend_document", tenant=tenant, document=document_id, collection=collection)

    def summary(self) -> Summary:
        """Return what the fleet's own last check found."""
        with self._reachable():
            text = self._redis.get(SUMMARY)
        return Summary(**_known(Summary.__slots__, text))

    def note_summary(self, summary: Summary) -> None:
        """Keep what the fleet's own check found, for every api to show."""
        values: dict[str, Any] = {name: getattr(summary, name) for name in Summary.__slots__}
        with self._reachable():
            self._redis.set(SUMMARY, json.dumps(values))

    def served(self) -> Served:
        """Return the model that the fleet's apis serve with, or served with when one was last up."""
        with self._reachable():
            text = self._redis.get(MODEL)
        return Served(**_known(Served.__slots__, text))

    def note_served(self, model_key: str, dim: int, *, starts: bool) -> None:
        """Keep the model of an api that serves; while apis of two do, that of the one which started last.

        Args:
            model_key: its model.
            dim: length of that model's vectors.
            starts: it has just started. Later it repeats itself, and takes over from those that have gone.
        """
        known, now = self.served(), self.now()
        if starts or known.model_key == model_key or now - known.at > MODEL_SECONDS:
            with self._reachable():
                self._redis.set(MODEL, json.dumps({"model_key": model_key, "dim": dim, "at": now}))

    @property
    def _waiting(self) -> tuple[str, ...]:
        return tuple(f"waiting:{queue}" for queue in self._settings.routes.queues)

    def _scan(self, pattern: str) -> Iterator[list[str]]:
        cursor = 0
        while True:
            with self._reachable():
                cursor, keys = self._redis.scan(cursor, match=pattern, count=PAGE)
            yield keys
            if cursor == 0:
                return


def _known(names: tuple[str, ...], text: str | None) -> dict[str, Any]:
    """Return these of the fields that were written: another version may write more."""
    fields = json.loads(text) if text else {}
    return {name: fields[name] for name in names if name in fields}
