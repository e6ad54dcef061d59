"""Points on their way into the vector store: written behind the lane, those of many tasks in one request.

Nothing waits to gather more: while one request runs, what comes for its collection makes the next one. So
one-chunk documents share requests when there are many of them, and wait for nobody when there are few.

What a task may rely on is what an upsert of its own would give it:

- its points are stored (`wait=true`) when it is told so, and only then;
- whether its run may still write is asked right before the request;
- a request that fails is nobody's failure yet: each of its tasks is told to try alone, on its own thread,
  with all the patience of `Worker.hold`. So what one of them has wrong fails it alone;
- `cancel` returns when no request with its points is on its way.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from embedfleet.contracts.errors import DependencyDown
from embedfleet.embeddings import metrics
from embedfleet.embeddings.submissions import Vectors
from embedfleet.runtime import tracing

WRITERS = 4
MOST_POINTS = 512

_log = logging.getLogger(__name__)


class Store(Protocol):
    """The part of `VectorStore` that writes."""

    def upsert(
        self, name: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[dict[str, Any]]
    ) -> None:
        """Store points and wait until they are durable."""


@dataclass(slots=True, eq=False)
class Points:
    """Points of one task.

    Attributes:
        collection: Qdrant's name of it.
        ids: n UUIDs.
        payloads: n dicts of JSON values.
        check: raises when the task may not write any more.
        vectors: float32[n, dim]; there when they are put.
        future: True: they are stored. False: a request that they shared failed, try alone.
        trace: `tracing.context` of the task's thread.
    """

    collection: str
    ids: Sequence[str]
    payloads: Sequence[dict[str, Any]]
    check: Callable[[], None]
    vectors: Vectors | None = None
    future: "Future[bool]" = field(default_factory=Future)
    trace: Any = None

    def cancel(self) -> None:
        """See that they are not written any more, or wait until they are."""
        if not self.future.cancel():
            wait([self.future])


class Upserts:
    """Writes points, the oldest first, one request at a time a collection.

    Args:
        store: where to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, list[Points]] = {}
        self._writing: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"upserts-{number}", daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, points: Points) -> None:
        """Write these soon."""
        name = points.collection
        with self._changed:
            # Whoever writes there looks again when it is done: waking another one would be for nothing.
            is_news = name not in self._waiting and name not in self._writing
            self._waiting.setdefault(name, []).append(points)
            if is_news:
                self._changed.notify()

    def close(self) -> None:
        """Stop after the requests in hand; what waits is not written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._write(batch)
            finally:
                with self._changed:
                    self._writing.discard(batch[0].collection)

    def _take(self) -> list[Points]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._next() is not None)
            name = self._next()
            if self._closed or name is None:
                return []
            self._writing.add(name)
            waiting = self._waiting.pop(name)
            count = _within(waiting)
            if rest := waiting[count:]:
                self._waiting[name] = rest
            if self._next() is not None:
                self._changed.notify()  # it came while this thread was busy
            return waiting[:count]

    def _next(self) -> str | None:
        return next((name for name in self._waiting if name not in self._writing), None)

    def _write(self, batch: list[Points]) -> None:
        mine = [points for points in batch if _may_write(points)]
        if not mine:
            return
        try:
            write(self._store, mine)
        except Exception as error:
            _log.warning("points of %d tasks were not stored together: %s", len(mine), error)
            _settle(mine, stored=False)
            if isinstance(error, DependencyDown):
                self._give_up()
        else:
            _settle(mine, stored=True)

    def _give_up(self) -> None:
        """Let everybody wait for the store on a thread of their own; these are few."""
        with self._changed:
            waiting = [points for each in self._waiting.values() for points in each]
            self._waiting.clear()
        _settle([points for points in waiting if points.future.set_running_or_notify_cancel()], stored=False)


def write(store: Store, batch: Sequence[Points]) -> None:
    """Store points, all of one collection and with vectors, in one request; count it.

    Raises:
        FleetError: as `Store.upsert` does.
    """
    ids = [one for points in batch for one in points.ids]
    vectors = np.concatenate([points.vectors for points in batch if points.vectors is not None])
    payloads = [one for points in batch for one in points.payloads]
    traced = ((points.trace, len(points.ids)) for points in batch)
    with metrics.UPSERT_SECONDS.time(), tracing.shared("upsert", traced):
        store.upsert(batch[0].collection, ids, vectors, payloads)
    metrics.POINTS.inc(len(ids))


def _within(waiting: list[Points]) -> int:
    """Return how many of them, at least one, have `MOST_POINTS` points together."""
    total = 0
    for count, points in enumerate(waiting):
        total += len(points.ids)
        if count and total > MOST_POINTS:
            return count
    return len(waiting)


def _may_write(points: Points) -> bool:
    if not points.future.set_running_or_notify_cancel():
        return False
    try:
        points.check()
    except Exception as error:
        points.future.set_exception(error)
        return False
    return True


def _settle(batch: Iterable[Points], *, stored: bool) -> None:
    for points in batch:
        points.future.set_result(stored)
