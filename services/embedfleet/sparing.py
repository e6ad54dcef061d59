"""Qdrant as the janitor asks it: a collection that doesn't answer holds up no other for long.

A call that isn't answered takes `FLEET_QDRANT_TIMEOUT`, and a round may have thousands of them. So what let
the janitor wait in vain is left alone for a multiple of that time: the document for longer than its
collection, so that the others of it have their turn. What is refused at once is asked again at once.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from embedfleet.contracts.errors import DependencyDown
from embedfleet.vectors import VectorStore

# Of its time the janitor waits for one collection at most a tenth.
COLLECTION_WAITS = 10
DOCUMENT_WAITS = 4 * COLLECTION_WAITS
# A refusal that takes no longer costs nothing.
QUICK_SECONDS = 1.0

Answer = TypeVar("Answer")


class Spared(DependencyDown):
    """It isn't asked now: it let the janitor wait a short time ago."""


class SparingStore:
    """The points, for one thread; raises as `VectorStore` does, and `Spared`."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self._spared = dict[tuple[str, ...], float]()
        self._slow: tuple[str, str, float] | None = None

    def ping(self) -> None:
        """Raise `DependencyDown` unless Qdrant answers; if it does, spare what was too slow just now."""
        slow, self._slow = self._slow, None
        self._store.ping()
        if slow is None:
            return
        name, document_id, waited = slow
        now = time.monotonic()
        self._spared = {what: until for what, until in self._spared.items() if until > now}
        self._spared[name,] = now + COLLECTION_WAITS * waited
        self._spared[name, document_id] = now + DOCUMENT_WAITS * waited

    def delete_generations(
        self, name: str, document_id: str, keep: int | None = None, through: int | None = None
    ) -> None:
        """See `VectorStore`."""
        delete = self._store.delete_generations
        self._ask(name, document_id, partial(delete, name, document_id, keep=keep, through=through))

    def newest_generation(self, name: str, document_id: str) -> int:
        """See `VectorStore`."""
        return self._ask(name, document_id, partial(self._store.newest_generation, name, document_id))

    def count(self, name: str, document_id: str, through: int) -> int:
        """See `VectorStore`."""
        return self._ask(name, document_id, partial(self._store.count, name, document_id, through=through))

    def _ask(self, name: str, document_id: str, call: Callable[[], Answer]) -> Answer:
        began = time.monotonic()
        for what in ((name,), (name, document_id)):
            if began < self._spared.get(what, began):
                reason = "it didn't answer a short time ago, and is asked again later"
                raise Spared("Qdrant", f"collection {name}", reason)
        try:
            return call()
        except DependencyDown:
            waited = time.monotonic() - began
            self._slow = (name, document_id, waited) if waited > QUICK_SECONDS else None
            raise
