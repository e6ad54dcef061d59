"""The shapes that ran out of memory though the readings said that they fit. Pure."""

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
        available: bytes that could be used by the reading taken right after.
        at: when, seconds of the budget's clock.
    """

    rows: int
    length: int
    bytes: int
    available: int
    at: float


class UnsafeArea:
    """Remembers the last failures; bytes that are as large a part of what is available are not tried again.

    Where a neighbour took the memory, the reading after the failure shows it, and the memory of it binds
    nothing. It binds where readings mislead: the allocator's memory is in pieces, or the model is too low.
    Pieces are joined and neighbours leave, so a failure is forgotten little by little, and after
    `FORGET_SECONDS` wholly.
    """

    def __init__(self) -> None:
        self._failures: deque[Failure] = deque(maxlen=REMEMBERED)

    def add(self, failure: Failure) -> None:
        """Remember one failure; the oldest of more than `REMEMBERED` goes."""
        self._failures.append(failure)

    def share(self, now: float) -> float:
        """Return which part of what is available may be used; infinite when nothing is remembered."""
        while self._failures and now - self._failures[0].at >= FORGET_SECONDS:
            self._failures.popleft()
        return min((_share(one, now) for one in self._failures if one.available > 0), default=math.inf)


def _share(failure: Failure, now: float) -> float:
    """Return a part below the one that failed, which rises to the whole as the failure is forgotten."""
    part = CLEARANCE * failure.bytes / failure.available
    return part + max(0.0, 1 - part) * (now - failure.at) / FORGET_SECONDS
