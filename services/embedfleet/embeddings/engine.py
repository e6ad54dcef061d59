"""One lane a device: many tasks submit rows, one thread encodes them in batches across the tasks.

No timer while busy: as a batch computes, the next one gathers. The lane owns the encoder; a task owns its
submission and may leave at any time, which costs nobody else anything.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Histogram

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.batching import next_batch, padded_tokens
from embedfleet.encoders.base import Encoder, pad

Vectors = NDArray[np.float32]

WINDOW_ROWS = 512
CHECK_SECONDS = 0.2
THIN_ROWS = 16
GATHER_SECONDS = 0.005

# Bounds one below the powers of two: "at least 16 rows" is what lies above 15.
_SIZES = (1, 3, 7, 15, 31, 63, 127, 255, 511)
BATCH_ROWS = Histogram("fleet_batch_rows", "Rows in a batch of the lane.", buckets=_SIZES)
BATCH_DOCUMENTS = Histogram("fleet_batch_documents", "Documents that share a batch.", buckets=_SIZES)
TOKENS = Counter("fleet_engine_tokens", "Tokens that the lane encoded.", ["kind"])

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Submission:
    """Rows of one task; its vectors come as a future, in the rows' order."""

    rows: Sequence[Sequence[int]]
    vectors: Vectors
    future: "Future[Vectors]" = field(default_factory=Future)
    missing: int = 0

    def wait(self, check: Callable[[], None]) -> Vectors:
        """Return float32[rows, dim], L2-normalised; calls `check` a few times a second.

        Raises:
            EmbeddingError: the encoder failed on these rows.
            Exception: whatever `check` raises; the rows that still wait are then taken back.
        """
        while True:
            try:
                return self.future.result(timeout=CHECK_SECONDS)
            except FutureTimeout:
                pass
            try:
                check()
            except BaseException:
                self.future.cancel()
                raise


@dataclass(frozen=True, slots=True)
class _Row:
    owner: str
    submission: Submission
    position: int

    @property
    def tokens(self) -> Sequence[int]:
        return self.submission.rows[self.position]


class Lane:
    """Encodes what waits, batch after batch, on a thread of its own."""

    def __init__(self, encoder: Encoder, max_batch_tokens: int, pad_id: int) -> None:
        self.encoder = encoder
        self._max_batch_tokens = max_batch_tokens
        self._pad_id = pad_id
        self._waiting: dict[str, dict[_Row, None]] = {}  # rows in order, by owner; owners in turn
        self._changed = threading.Condition()
        self._closed = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="lane", daemon=True)
        self._thread.start()

    def submit(self, owner: str, rows: Sequence[Sequence[int]]) -> Submission:
        """Queue rows of token ids, special tokens included, each ≤ the encoder's `max_tokens` long.

        Args:
            owner: whose rows they are; owners take turns, the rows of one keep their order.
            rows: one list of ids a text.

        Raises:
            EmbeddingError: the lane is closed.
        """
        vectors = np.empty((len(rows), self.encoder.dim), dtype=np.float32)
        submission = Submission(rows, vectors, missing=len(rows))
        if not rows:
            submission.future.set_result(vectors)
            return submission
        with self._changed:
            if self._closed:
                raise EmbeddingError("the lane is closed", code="draining")
            mine = self._waiting.setdefault(owner, {})
            mine.update((_Row(owner, submission, position), None) for position in range(len(rows)))
            self._changed.notify()
        return submission

    @property
    def busy_seconds(self) -> float:
        """How long the batch in hand has been computing."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Stop after the batch in hand; what waits is not encoded."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while batch := self._take():
            self._busy_since = time.monotonic()
            try:
                self._encode(batch)
            except Exception as error:
                self._recover(batch, error)
            self._busy_since = None

    def _take(self) -> list[_Row]:
        with self._changed:
            if not self._drop_finished():
                self._changed.wait_for(lambda: self._closed or self._drop_finished())
                # Idle until now: give the tasks that are just being claimed a moment to join.
                self._changed.wait_for(lambda: self._closed or self._rows() >= THIN_ROWS, GATHER_SECONDS)
            if self._closed:
                return []
            window = self._window()
            chosen = next_batch([len(row.tokens) for row in window], self._max_batch_tokens, WINDOW_ROWS)
            batch = [window[at] for at in chosen]
            for row in batch:
                del self._waiting[row.owner][row]
            first = next(iter(self._waiting))
            self._waiting[first] = self._waiting.pop(first)  # the next batch is built around another owner
            return batch

    def _rows(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _window(self) -> list[_Row]:
        """Return the rows that may be chosen: the owners' next rows in turn, so that none starves."""
        turns = chain.from_iterable(zip_longest(*self._waiting.values()))
        return list(islice((row for row in turns if row is not None), WINDOW_ROWS))

    def _drop_finished(self) -> bool:
        """Forget rows that are cancelled or failed; say whether any row still waits."""
        for owner, rows in list(self._waiting.items()):
            for row in [row for row in rows if row.submission.future.done()]:
                del rows[row]
            if not rows:
                del self._waiting[owner]
        return bool(self._waiting)

    def _encode(self, batch: list[_Row]) -> None:
        rows = [row.tokens for row in batch]
        ids, lengths = pad(rows, self._pad_id)
        vectors = self.encoder.encode(ids, lengths)
        BATCH_ROWS.observe(len(batch))
        BATCH_DOCUMENTS.observe(len({row.owner for row in batch}))
        real = sum(map(len, rows))
        TOKENS.labels("real").inc(real)
        TOKENS.labels("padding").inc(padded_tokens([len(row) for row in rows]) - real)
        for row, vector in zip(batch, vectors, strict=True):
            submission = row.submission
            submission.vectors[row.position] = vector
            submission.missing -= 1
            if submission.missing == 0:
                with suppress(InvalidStateError):  # its task has left
                    submission.future.set_result(submission.vectors)

    def _recover(self, batch: list[_Row], error: Exception) -> None:
        """Encode the rows of a batch that failed one by one, so that only the task with a bad row fails."""
        _log.error("a batch of %d rows failed", len(batch), exc_info=error)
        if len(batch) == 1:
            with suppress(InvalidStateError):
                batch[0].submission.future.set_exception(EmbeddingError(f"the encoder failed: {error}"))
            return
        for row in batch:
            if not row.submission.future.done():
                try:
                    self._encode([row])
                except Exception as its_own:
                    self._recover([row], its_own)
