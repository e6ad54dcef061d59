"""The shapes that ran out of memory though the readings say that they fit. Pure."""

import math
from collections import deque
from dataclasses import dataclass

REMEMBERED = 8
FORGET_SECONDS = 600.0
CLEARANCE = 7 / 8


@dataclass(frozen=True, slots=True)
class Failure:
    """One batch that ran out of memory.

    Attributes:
        rows: rows of the batch.
        length: padded length, tokens.
        bytes: what the model says that it needs.
        free: bytes that nobody held before it ran, our own allocator's not counted.
        at: when it failed, seconds of the budget's clock.
    """

    rows: int
    length: int
    bytes: int
    free: int
    at: float


class UnsafeArea:
    """Remembers the last failures: as many bytes, with no more free than then, are not tried again.

    It is for failures that the readings don't explain: the allocator holds enough, but in pieces that are too
    small, or the model is too low. What is free apart from the allocator tells them: with more of that, or
    after the allocator gave its pieces back, the failure says nothing. It is forgotten little by little, and
    wholly after `FORGET_SECONDS`.
    """

    def __init__(self) -> None:
        self._failures: deque[Failure] = deque(maxlen=REMEMBERED)

    def add(self, failure: Failure) -> None:
        """Remember one failure; the oldest of more than `REMEMBERED` goes."""
        self._failures.append(failure)

    def most(self, free: int, now: float) -> float:
        """Return the bytes that a batch may need with so much free; infinite when no failure speaks."""
        while self._failures and now - self._failures[0].at >= FORGET_SECONDS:
            self._failures.popleft()
        return min((_most(one, now) for one in self._failures if free <= one.free), default=math.inf)


def _most(failure: Failure, now: float) -> float:
    """Return bytes below those that failed at first, and up to twice as many as it is forgotten."""
    return failure.bytes * (CLEARANCE + (now - failure.at) / FORGET_SECONDS)
