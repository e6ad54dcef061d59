"""One lane a device: many tasks submit rows, which are encoded in batches across the tasks.

It has a thread for each batch that the encoder computes side by side (its `streams`); none waits for another.
No timer while busy: as a batch computes, the next one gathers. The lane owns the encoder; a task owns its
submissions and may leave at any time, which costs nobody else anything.

=====================================  ===============================================================
a batch                                then
=====================================  ===============================================================
gives a vector with NaN or infinity    that row fails, the others are delivered
runs out of memory                     its rows are tried again at once, in smaller batches
fails otherwise                        its rows are tried again one by one, so that only the bad ones fail
does either, as the smallest does, too  no row is to blame: tasks are handed back, the worker starts afresh
never comes back                       its tasks give up (`holds_any`), the worker starts afresh
doesn't fit into memory with one row   the lane waits for the device's neighbours, a minute in all: then it
                                       hands back the task of each row that doesn't fit, until one as long
                                       does; a row that can't ever fit fails
=====================================  ===============================================================
"""

import logging
import math
import threading
import time
from array import array
from collections.abc import Callable, Collection, Sequence

import numpy as np

from embedfleet.contracts.errors import EmbeddingError, FleetError
from embedfleet.embeddings import metrics
from embedfleet.embeddings.batching import WINDOW_ROWS, next_batch
from embedfleet.embeddings.hands import Hands
from embedfleet.embeddings.outages import Outages
from embedfleet.embeddings.sizing import Sizing
from embedfleet.embeddings.submissions import Row, RowQueue, Submission, Vectors
from embedfleet.encoders.base import OUT_OF_MEMORY, Encoder, pad

WINDOWS_WAITING = 2
MEMORY_CHECK_SECONDS = 0.1
IDLE_SECONDS = 10.0
CLOSE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Lane:
    """Encodes what waits, batch after batch, on threads of its own: one a stream of the encoder.

    Args:
        encoder: used by this lane alone.
        sizing: how many rows a batch may have.
        pad_id: fills rows up.
        clock: seconds that never go back.

    Attributes:
        outages: what keeps its device from serving.
    """

    def __init__(
        self, encoder: Encoder, sizing: Sizing, pad_id: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.encoder = encoder
        self._sizing = sizing
        self._pad_id = pad_id
        self._clock = clock
        longest = 4 * (encoder.max_tokens + encoder.dim)
        self._queue = RowQueue(WINDOWS_WAITING * WINDOW_ROWS * longest, clock=clock)
        self.outages = Outages(encoder, sizing, clock)
        self._hands = Hands(clock)
        self._encoding: dict[int, float] = {}  # a thread's number → when it went into the encoder
        self._busy, self._padding = metrics.RecentShare(clock), metrics.RecentShare(clock)
        metrics.QUEUE_ROWS.set_function(lambda: len(self._queue))
        metrics.BUSY.set_function(self._busy_ratio)
        metrics.PADDING.set_function(self._padding.value)
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
            for number in range(encoder.streams)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        owner: str,
        rows: Sequence[Sequence[int]],
        numbers: Sequence[int] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Submission:
        """Queue rows of token ids, special tokens included, each ≤ the encoder's `max_tokens` long.

        Args:
            owner: whose rows they are; owners take turns, the rows of one keep their order.
            rows: one list of ids a text.
            numbers: what each row is called in an error; 0, 1, … unless given.
            check: called a few times a second while there is no room; what it raises ends the submit.

        Raises:
            DependencyDown: the lane is closed.
            Exception: whatever `check` raises; then nothing was queued.
        """
        vectors = np.empty((len(rows), self.encoder.dim), dtype=np.float32)
        packed = [array("i", row) for row in rows]
        submission = Submission(owner, packed, numbers or range(len(rows)), vectors)
        if rows:
            self._queue.put(submission, check)
        else:
            submission.future.set_result(vectors)
        return submission

    def cancel(self, submission: Submission) -> None:
        """Take back the rows that still wait; nothing happens when it has ended."""
        if submission.future.cancel():
            self._queue.withdraw(submission)

    @property
    def busy_seconds(self) -> float:
        """For how long a thread of it has had the same in hand; for ever when one of them has died."""
        return self._hands.seconds if self._are_alive else math.inf

    @property
    def has_died(self) -> bool:
        """Whether a thread of it has ended though nobody closed it."""
        return not (self._are_alive or self._queue.is_closed)

    def holds_any(self, submissions: Collection[Submission], seconds: float) -> bool:
        """Say whether a row that one of these waits for has been in a thread's hands for so many seconds."""
        return self._hands.hold_any(submissions, seconds)

    def close(self) -> None:
        """Stop after the batches in hand; what waits is not encoded."""
        self._queue.close()
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    @property
    def _are_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _busy_ratio(self) -> float:
        now = self._clock()
        in_hand = sum(now - began for began in list(self._encoding.values()))
        return self._busy.of_time(in_hand / self.encoder.streams)

    def _run(self) -> None:
        while batch := self._queue.take(self._choose, IDLE_SECONDS, self._rest):
            metrics.WAIT_SECONDS.observe(max(map(self._queue.age, batch)))
            parts = [batch]
            while parts and not self._queue.is_closed:
                if part := [row for row in parts.pop() if row.is_wanted]:
                    parts += self._survive(part)

    def _rest(self) -> None:
        """Give idle memory back: nothing has come for a while."""
        if not self._encoding:  # else whoever is at work does it in the end
            with self._hands.hold():
                self._sizing.rest()

    def _survive(self, part: list[Row]) -> list[list[Row]]:
        """Process rows; whatever goes wrong there ends them, and never the lane."""
        try:
            with self._hands.hold(part):
                return self._process(part)
        except Exception as error:
            _log.exception("the lane failed on %d rows", len(part))
            for row in part:
                self._fail(row, error)
            return []

    def _choose(self, lengths: list[int]) -> list[int]:
        """Choose a batch; the threads that have nothing to do leave each other a share of a few rows."""
        share = math.ceil(len(lengths) / (1 + self._queue.idle))
        try:
            return next_batch(
                lengths, lambda length: min(share, self._sizing.max_rows(length)), self._sizing.overhead
            )
        except Exception:  # the device can't be read: raised again where somebody deals with it
            return [0]

    def _process(self, part: list[Row]) -> list[list[Row]]:
        """Encode rows and deliver their vectors; return those that are to be tried again, last ones first."""
        try:
            longest = max(len(row.tokens) for row in part)
            most = self._sizing.max_rows(longest)
            if not most:
                return self._wait_for_memory(part, longest)
            self.outages.shortages.passes(longest)
            if most < len(part):
                return _pieces(part, most)
            vectors, seconds, is_typical = self._encode(part, longest)
        except Exception as error:
            return self._recover(part, error)
        self._deliver(part, vectors)
        try:
            tokens = sum(len(row.tokens) for row in part)
            self._sizing.passed(len(part), longest, tokens, seconds, is_typical)
        except Exception:  # the vectors are good all the same
            _log.exception("nothing was learnt from a batch of %d rows", len(part))
        return []

    def _encode(self, part: list[Row], longest: int) -> tuple[Vectors, float, bool]:
        """Return the vectors, the seconds, and whether every thread was computing at both ends of them."""
        ids, lengths = pad([row.tokens for row in part], self._pad_id)
        self._encoding[threading.get_ident()] = began = self._clock()
        at_work = len(self._encoding)
        try:
            vectors = self.encoder.encode(ids, lengths)
        finally:
            at_work = min(at_work, len(self._encoding))
            del self._encoding[threading.get_ident()]
            seconds = self._clock() - began
            self._busy.add(seconds / len(self._threads), seconds)
        self._count(part, int(lengths.sum()), len(part) * self._sizing.padded(longest), seconds)
        if vectors.shape != (len(part), self.encoder.dim):
            raise EmbeddingError(f"the encoder returned {vectors.shape} numbers for {len(part)} rows")
        return vectors, seconds, at_work == len(self._threads)

    def _count(self, part: list[Row], tokens: int, padded: int, seconds: float) -> None:
        metrics.BATCH_ROWS.observe(len(part))
        metrics.BATCH_DOCUMENTS.observe(len({row.submission.owner for row in part}))
        metrics.BATCH_TOKENS.observe(padded)
        metrics.TOKENS.inc(tokens)
        metrics.ENCODE_SECONDS.observe(seconds)
        self._padding.add(padded - tokens, padded)

    def _deliver(self, part: list[Row], vectors: Vectors) -> None:
        usable: list[bool] = np.isfinite(vectors.sum(axis=1)).tolist()
        if serves := any(usable):
            self.outages.failure = ""
        for row, vector, is_usable in zip(part, vectors, usable, strict=True):
            if is_usable:
                row.submission.deliver(row.position, vector)
            elif row.is_wanted:
                error = EmbeddingError("the model returned a vector with NaN or infinity in it")
                end = self._fail if serves else self._blame
                end(row, error)

    def _recover(self, part: list[Row], error: Exception) -> list[list[Row]]:
        longest = max(len(row.tokens) for row in part)
        if isinstance(error, EmbeddingError) and error.code == OUT_OF_MEMORY:
            _log.warning("%d rows of up to %d tokens ran out of memory", len(part), longest)
            try:
                most = self._sizing.ran_out(len(part), longest)
            except Exception as its_last:
                error = its_last
            else:
                return _pieces(part, most or len(part))
        else:
            _log.error("a batch of %d rows failed", len(part), exc_info=error)
        if len(part) > 1:
            return _pieces(part, 1)
        self._blame(part[0], error)
        return []

    def _wait_for_memory(self, part: list[Row], longest: int) -> list[list[Row]]:
        """Wait a little for the device's neighbours; in the end give up the row that needs most."""
        if not self.outages.shortages.exhausts_patience(longest):
            self._queue.pause(MEMORY_CHECK_SECONDS)
            return [part]
        largest = max(part, key=lambda row: len(row.tokens))
        if self._sizing.may_fit(longest):
            self._end(largest, self.outages.others_hold(longest))
        else:
            self.outages.shortages.passes()
            self._fail(largest, self._sizing.refusal(longest))
        return [part]

    def _blame(self, row: Row, error: Exception) -> None:
        """Fail a row that failed alone; but not where the device serves no other row either."""
        if self.outages.serves_none():
            failure = self.outages.fails()
            _log.error("%s", failure)
            self._end(row, failure)
        else:
            self._fail(row, error)

    def _fail(self, row: Row, error: Exception) -> None:
        number = row.submission.numbers[row.position]
        code = error.code if isinstance(error, EmbeddingError) else None
        named = EmbeddingError(f"chunk {number}: {error}", code=code)
        named.__cause__ = error
        self._end(row, named)

    def _end(self, row: Row, error: FleetError) -> None:
        """End the submission of a row, and forget its other rows."""
        self._queue.withdraw(row.submission)
        row.submission.fail(error)


def _pieces(part: list[Row], rows: int) -> list[list[Row]]:
    """Return the rows in pieces of so many, the last piece first."""
    return [part[at : at + rows] for at in range(0, len(part), rows)][::-1]
