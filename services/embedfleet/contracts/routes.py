"""Which queue an uploaded file waits on: by its size, so that small ones never wait behind large ones."""

import re
from dataclasses import dataclass
from typing import Self

from embedfleet.contracts.jobs import Queue

# Queues share Redis' key space with the ledger and Celery; this prefix keeps them apart.
_RULE = re.compile(r"(documents-[a-z0-9-]{1,29})=(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Routes:
    """Document queues besides `documents`.

    Attributes:
        rules: (smallest size in bytes, queue), the largest size first.
    """

    rules: tuple[tuple[int, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME=BYTES,...`; empty means that all files wait on `documents`.

        Raises:
            ValueError: it is written otherwise, or two rules contradict each other.
        """
        rules = []
        for part in filter(None, text.split(",")):
            found = _RULE.fullmatch(part.strip())
            if not found or int(found[2]) == 0:
                raise ValueError(
                    "must look like documents-large=20000000,documents-huge=200000000: names that begin with"
                    " documents-, and from how many bytes on files go there"
                )
            rules.append((int(found[2]), found[1]))
        sizes, names = {size for size, _ in rules}, {name for _, name in rules}
        if min(len(sizes), len(names)) < len(rules):
            raise ValueError("every queue needs a name and a size of its own")
        return cls(tuple(sorted(rules, reverse=True)))

    def of(self, size_bytes: int) -> str:
        """Return the queue of a file."""
        return next((name for size, name in self.rules if size_bytes >= size), str(Queue.DOCUMENTS))

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues that there are, the app's own and these."""
        return (*map(str, Queue), *(name for _, name in self.rules))

    def taken_by(self, pool: Queue) -> tuple[str, ...]:
        """Return the queues that workers of one kind can take."""
        own = str(pool)
        return (own, *(name for _, name in self.rules)) if pool is Queue.DOCUMENTS else (own,)
