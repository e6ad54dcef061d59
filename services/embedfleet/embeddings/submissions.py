"""Rows on their way into the lane: what a task submits, and the queue that holds what waits.

The queue is bounded by bytes. A submit that finds it full waits its turn: the owner with the fewest bytes in
it comes first, and an owner with none is let in at once, so that a small document never waits for the room
that a big one has taken. What is over the bound then is at most one submission a thread.
"""

import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, count, islice, zip_longest
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedfleet.contracts.errors import DependencyDown, FleetError
from embedfleet.embeddings.batching import WINDOW_ROWS

Answer = TypeVar("Answer")
Vectors = NDArray[np.float32]

CHECK_SECONDS = 0.2
THIN_ROWS = 16
GATHER_SECONDS = 0.005


@dataclass(slots=True, eq=False)
class Submission:
    """Rows of one task; its vectors come as a future, in the rows' order.

    Attributes:
        owner: whose rows they are; owners take turns, the rows of one keep their order.
        rows: token ids, special tokens included, int32.
        numbers: what a row is called in an error: its chunk's index.
        vectors: float32[rows, dim], complete when the future is.
        future: gives `vectors`, or the error of the first row that failed.
        missing: rows that have no vector yet.
        since: when it was submitted, by the queue's clock.
    """

    owner: str
    rows: Sequence["array[int]"]
    numbers: Sequence[int]
    vectors: Vectors
    future: "Future[Vectors]" = field(default_factory=Future)
    missing: int = field(init=False)
    since: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.missing = len(self.rows)

    @property
    def bytes(self) -> int:
        """Return what it holds while it waits."""
        return sum(map(len, self.rows)) * 4 + self.vectors.nbytes

    def deliver(self, position: int, vector: Vectors) -> None:
        """Take a row's vector, from any of the lane's threads."""
        self.vectors[position] = vector
        with self._lock:
            self.missing -= 1
            is_last = self.missing == 0
        if is_last:
            with suppress(InvalidStateError):  # its task has left
                self.future.set_result(self.vectors)

    def fail(self, error: FleetError) -> None:
        """End it with an error, unless it has ended."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a submission."""

    submission: Submission
    position: int

    @property
    def tokens(self) -> "array[int]":
        """Return its ids."""
        return self.submission.rows[self.position]

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.submission.future.done()


class RowQueue:
    """Rows that wait, by owner, each owner's in order.

    Args:
        most_bytes: bound on what waits, see `Submission.bytes`.
        clock: seconds that never go back.
    """

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._waiting: dict[str, dict[Row, None]] = {}  # owners in turn
        self._bytes: dict[str, int] = {}
        self._tickets = count()
        self._entering: dict[int, str] = {}  # who waits for room, by order of arrival
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)  # the lane's threads wait for rows
        self._left = threading.Condition(self._lock)  # tasks wait for room
        self._idle = 0
        self._closed = False

    def __len__(self) -> int:
        """Return how many rows wait."""
        return sum(map(len, list(self._waiting.values())))

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    @property
    def idle(self) -> int:
        """Return how many threads wait in `take`."""
        return self._idle

    def put(self, submission: Submission, check: Callable[[], None]) -> None:
        """Let a submission's rows wait; while there is no room, wait and call `check` several times a second.

        Raises:
            DependencyDown: the queue is closed: its task is another worker's.
            Exception: whatever `check` raises; then nothing was put.
        """
        with self._lock:
            if not self._has_room(submission):
                self._enter(submission, check)
            if self._closed:
                raise DependencyDown("lane", "this worker", "the worker ends")
            submission.since = self._clock()
            mine = self._waiting.setdefault(submission.owner, {})
            mine.update((Row(submission, position), None) for position in range(len(submission.rows)))
            self._bytes[submission.owner] = self._bytes.get(submission.owner, 0) + submission.bytes
            self._arrived.notify_all()

    def take(
        self,
        choose: Callable[[list[int]], list[int]],
        idle_seconds: float | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> list[Row] | None:
        """Return the rows of the next batch, or None when the queue is closed; waits until rows are there.

        Several threads may take.

        Args:
            choose: given the lengths of the rows in the window, returns which are taken.
            idle_seconds: after so many without a row `rest` is called, once; None: never.
            rest: called without the lock; what it raises ends the take.
        """
        with self._lock:
            while not (self._waiting or self._closed):
                if not self._await_rows(idle_seconds):
                    idle_seconds = None
                    with self._unlocked():
                        rest()
            if self._closed:
                return None
            window = self._window()
            anchor = window[0].submission.owner
            batch = [window[at] for at in choose([len(row.tokens) for row in window])]
            for row in batch:
                self._remove(row)
            if anchor in self._waiting:  # it has had its turn; who is next keeps theirs
                self._waiting[anchor] = self._waiting.pop(anchor)
            self._left.notify_all()
            return batch

    def withdraw(self, submission: Submission) -> None:
        """Forget the rows of a submission that has ended."""
        with self._lock:
            for row in [
                row for row in self._waiting.get(submission.owner, ()) if row.submission is submission
            ]:
                self._remove(row)
            self._left.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait, but not for longer than until the queue is closed."""
        with self._lock:
            self._arrived.wait_for(lambda: self._closed, seconds)

    def age(self, row: Row) -> float:
        """Return for how many seconds a row has waited."""
        return self._clock() - row.submission.since

    def close(self) -> None:
        """Give nothing out and take nothing any more."""
        with self._lock:
            self._closed = True
            self._arrived.notify_all()
            self._left.notify_all()

    def _await_rows(self, seconds: float | None) -> bool:
        """Wait, with the lock, for so long; return whether rows came, or the end."""
        self._idle += 1
        try:
            if not self._arrived.wait_for(lambda: self._closed or bool(self._waiting), seconds):
                return False
            # Idle until now: give the tasks that are just being claimed a moment to join.
            self._arrived.wait_for(lambda: self._closed or len(self) >= THIN_ROWS, GATHER_SECONDS)
            return True
        finally:
            self._idle -= 1

    def _enter(self, submission: Submission, check: Callable[[], None]) -> None:
        """Wait, with the lock, until it is this submission's turn and there is room."""
        ticket = next(self._tickets)
        self._entering[ticket] = submission.owner

        def may_enter() -> bool:
            return self._closed or (self._is_next(ticket) and self._has_room(submission))

        try:
            while not self._left.wait_for(may_enter, CHECK_SECONDS):
                # Without the lock and out of the line: a check may take long, and neither the lane nor
                # those behind must wait for it.
                if self._is_next(ticket):
                    self._left.notify_all()
                del self._entering[ticket]
                try:
                    with self._unlocked():
                        check()
                finally:
                    self._entering[ticket] = submission.owner
        finally:
            del self._entering[ticket]
            self._left.notify_all()  # whose turn it is now

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Leave the lock for a while, to call what may take long."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def _has_room(self, submission: Submission) -> bool:
        mine = self._bytes.get(submission.owner, 0)
        return not mine or sum(self._bytes.values()) + submission.bytes <= self._most_bytes

    def _is_next(self, ticket: int) -> bool:
        return ticket == min(self._entering, key=lambda one: (self._bytes.get(self._entering[one], 0), one))

    def _window(self) -> list[Row]:
        """Return the rows that may be chosen: the owners' next rows in turn, so that none starves."""
        turns = chain.from_iterable(zip_longest(*self._waiting.values()))
        return list(islice((row for row in turns if row is not None), WINDOW_ROWS))

    def _remove(self, row: Row) -> None:
        owner, submission = row.submission.owner, row.submission
        rows = self._waiting[owner]
        del rows[row]
        self._bytes[owner] -= 4 * len(row.tokens) + submission.vectors.nbytes // len(submission.rows)
        if not rows:
            del self._waiting[owner], self._bytes[owner]


def result_of(future: "Future[Answer]", check: Callable[[], None]) -> Answer:
    """Return a future's result; calls `check` a few times a second while it is not there.

    Raises:
        Exception: whatever `check` raises, or the future holds.
    """
    while True:
        try:
            return future.result(timeout=CHECK_SECONDS)
        except FutureTimeout:
            if future.done():  # it holds that error itself, or it came just now
                return future.result()
        check()
