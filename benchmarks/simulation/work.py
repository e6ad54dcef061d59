"""The work: documents of 1 to 600 chunks, mixed lengths, always enough of it waiting."""

import random
from collections import deque
from dataclasses import dataclass

LENGTHS = range(32, 513, 32)
CHUNKS_A_TASK = 256
WAITING_ROWS = 8000
WINDOW_ROWS = 1024


@dataclass(slots=True)
class Part:
    """Rows of one task."""

    task: int
    rows: int


@dataclass(slots=True)
class Batch:
    """Rows of several tasks, padded to one length."""

    length: int
    parts: list[Part]
    tokens: int

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return sum(part.rows for part in self.parts)

    def first(self, rows: int) -> tuple["Batch", "Batch | None"]:
        """Return its first rows, and what is left."""
        total = self.rows
        if rows >= total:
            return self, None
        taken, rest, missing = list[Part](), list[Part](), rows
        for part in self.parts:
            here = min(part.rows, missing)
            missing -= here
            if here:
                taken.append(Part(part.task, here))
            if part.rows > here:
                rest.append(Part(part.task, part.rows - here))
        tokens = self.tokens * rows // total
        return Batch(self.length, taken, tokens), Batch(self.length, rest, self.tokens - tokens)


class Work:
    """Rows that wait, by length; batches are of like length and built around the oldest row.

    It stands for the lane's own batching, which costs too much to run 100,000 times for a test of memory.
    """

    def __init__(self, seed: int) -> None:
        self._drawn = random.Random(seed)  # noqa: S311 — repeatable on purpose
        self._waiting: dict[int, deque[Part]] = {length: deque() for length in LENGTHS}
        self._rows = 0
        self._tasks = 0
        self._left: dict[int, int] = {}
        self.failed: set[int] = set()
        self.finished = 0

    def oldest_length(self) -> int:
        """Return the length of the row that waits longest."""
        while self._rows < WAITING_ROWS:
            self._upload()
        heads = ((parts[0].task, length) for length, parts in self._waiting.items() if parts)
        return min(heads)[1]

    def take(self, length: int, most: int) -> Batch:
        """Take at most so many rows of this length; where they are too few, shorter ones fill it up."""
        missing = min(most, WINDOW_ROWS)
        batch = Batch(length, [], 0)
        for shorter in range(length, 0, -32):
            parts = self._waiting[shorter]
            while parts and missing:
                rows = min(parts[0].rows, missing)
                batch.parts.append(Part(parts[0].task, rows))
                batch.tokens += rows * (shorter - 16)  # lengths lie evenly within 32 tokens
                missing -= rows
                self._rows -= rows
                if rows == parts[0].rows:
                    parts.popleft()
                else:
                    parts[0].rows -= rows
        return batch

    def done(self, batch: Batch) -> None:
        """Count the rows of a batch that passed."""
        for part in batch.parts:
            self._left[part.task] -= part.rows
            if not self._left[part.task]:
                del self._left[part.task]
                self.finished += 1

    def fail(self, batch: Batch) -> None:
        """Count the tasks of rows that can't be encoded."""
        self.failed.update(part.task for part in batch.parts)

    def _upload(self) -> None:
        chunks = min(600, max(1, round(self._drawn.lognormvariate(2.5, 1.5))))
        for begin in range(0, chunks, CHUNKS_A_TASK):
            self._tasks += 1
            rows = min(CHUNKS_A_TASK, chunks - begin)
            self._left[self._tasks] = rows
            self._rows += rows
            counts = [0] * len(LENGTHS)
            for _ in range(rows):
                counts[self._length()] += 1
            for length, count in zip(LENGTHS, counts, strict=True):
                if count:
                    self._waiting[length].append(Part(self._tasks, count))

    def _length(self) -> int:
        """Return a position in LENGTHS: mostly chunks near 214 tokens, some short, some of long models."""
        kind = self._drawn.random()
        if kind < 0.6:
            return self._drawn.choice((5, 6, 6, 7))
        return self._drawn.randrange(8) if kind < 0.9 else self._drawn.randrange(16)
