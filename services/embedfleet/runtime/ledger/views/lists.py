"""Lists of tasks and of documents in pages, newest first; a page goes on where the one before it ended.

Where that was is a time and an id, no number of entries: what comes or goes meanwhile moves nothing. A page
reads as many entries of an index as it has, and few more, however many there are in front of it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, TypeVar

import redis

from embedfleet.contracts.documents import Document
from embedfleet.contracts.states import TASK_EDGES, TaskState
from embedfleet.runtime.ledger.records import Task, known_documents, task_of
from embedfleet.runtime.ledger.redis_client import reachable
from embedfleet.runtime.settings import LedgerSettings

# One edge moves at most `SLICE` tasks at the same instant, see calls.py; more than this costs one more read.
SAME_INSTANT = 64

Item = TypeVar("Item")


class Place(NamedTuple):
    """Where an entry is in a list; the order is Redis' own in a sorted set.

    Attributes:
        time: seconds since the epoch by Redis' clock.
        id: of the task or the document.
    """

    time: float
    id: str


class Page(NamedTuple, Generic[Item]):
    """A part of a list.

    Attributes:
        items: what is there of it; rarely fewer than were asked for though more follow: some are gone.
        total: how many entries the whole list has.
        following: the place to go on after; None at the end.
    """

    items: list[Item]
    total: int
    following: Place | None


class LedgerLists:
    """Reads pages, each with the tenant in its key; raises `DependencyDown` where Redis can't be reached."""

    def __init__(self, client: redis.Redis, settings: LedgerSettings, address: str) -> None:
        self._redis: Any = client
        self._settings = settings
        self._address = address

    def tasks(
        self, tenant: str, states: Sequence[TaskState], limit: int, after: Place | None = None
    ) -> Page[Task]:
        """Return the tasks in these states that come after a place: by when they came into their state."""
        expired = self.now() - self._settings.result_expires
        oldest = {
            f"index:tasks:{tenant}:{state}": "-inf" if TASK_EDGES[state] else expired for state in states
        }
        places, total = self._places(oldest, limit + 1, after)
        rows = self._rows([f"task:{place.id}" for place in places[:limit]])
        tasks = [task_of(place.id, row) for place, row in zip(places, rows, strict=False) if row]
        return Page(tasks, total, _following(places, limit))

    def documents(
        self, tenant: str, collection: str | None, limit: int, after: Place | None = None
    ) -> Page[Document]:
        """Return a tenant's documents after a place, of one collection or of all: by when they were made."""
        index = f"index:documents:{tenant}" + (f":{collection}" if collection else "")
        places, total = self._places({index: "-inf"}, limit + 1, after)
        rows = self._rows([f"document:{tenant}:{place.id}" for place in places[:limit]])
        return Page(known_documents(rows), total, _following(places, limit))

    def now(self) -> float:
        """Return Redis' clock, seconds since the epoch: what the ledger is judged by."""
        with self._reachable():
            return seconds(self._redis.time())

    def _places(
        self, oldest: Mapping[str, float | str], count: int, after: Place | None
    ) -> tuple[list[Place], int]:
        """Return the first places after one in all of these indexes together, and how many they have in all.

        Args:
            oldest: of each index the time up to which it is read.
            count: how many places are wanted.
            after: the place before the first; None: from the newest on.
        """
        top, reach = (after.time, count + SAME_INSTANT) if after else ("+inf", count)
        while True:
            # At one moment: what moves from one index to the next is in exactly one of the answers.
            with self._reachable(), self._redis.pipeline(transaction=True) as pipe:
                for index, floor in oldest.items():
                    pipe.zrevrangebyscore(index, top, floor, start=0, num=reach, withscores=True)
                    pipe.zcount(index, floor, "+inf")
                answers = pipe.execute()
            found = [[Place(float(time), member) for member, time in pairs] for pairs in answers[::2]]
            behind = [[place for place in places if not after or place < after] for places in found]
            if all(
                len(mine) >= count or len(all_of_it) < reach
                for mine, all_of_it in zip(behind, found, strict=True)
            ):
                break
            reach *= 2
        merged = sorted((place for places in behind for place in places), reverse=True)
        return merged[:count], sum(answers[1::2])

    def _rows(self, keys: Sequence[str]) -> list[dict[str, str]]:
        with self._reachable(), self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            rows: list[dict[str, str]] = pipe.execute()
        return rows

    def _reachable(self) -> AbstractContextManager[None]:
        return reachable(self._address)


def seconds(clock: tuple[int, int]) -> float:
    """Return what TIME answers as one number."""
    whole, microseconds = clock
    return whole + microseconds / 1e6


def _following(places: Sequence[Place], limit: int) -> Place | None:
    return places[limit - 1] if len(places) > limit else None
