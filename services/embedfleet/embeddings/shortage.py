"""Others hold the device's memory: since when, for which rows, and whether the lane has waited enough."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

MEMORY_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Shortage:
    """Others hold the device's memory.

    Attributes:
        since: when the first row had no room, by the lane's clock.
        last: when the last one had none.
        length: tokens of the shortest row that had none.
        is_refusing: whether the lane has waited for long enough, and hands back what doesn't fit.
    """

    since: float
    last: float
    length: int
    is_refusing: bool


class Shortages:
    """What the lane knows of the one that lasts; its threads tell it, the worker's pool asks.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # among the lane's threads, which alone write `_short`
        self._short: Shortage | None = None
        self._ended: Shortage | None = None  # the one that the pool saw the end of: the lane forgets it

    @property
    def refusing(self) -> Shortage | None:
        """Return the shortage for which rows are handed back, if there is one."""
        short = self._short
        return None if short is None or not short.is_refusing or short is self._ended else short

    def end(self, short: Shortage) -> None:
        """Learn that there is room again for the rows that were handed back."""
        self._ended = short

    def exhausts_patience(self, length: int) -> bool:
        """Learn that a row so long has no room; say whether the lane has waited for long enough."""
        with self._lock:
            now, short = self._clock(), self._short
            if short is self._ended or (short and now - short.last > MEMORY_PATIENCE_SECONDS):
                short = None
            # Once for all rows: a document of 1,000 parts waited 1,000 minutes, and all others behind it.
            since = short.since if short else now
            is_refusing = now - since >= MEMORY_PATIENCE_SECONDS
            self._short = Shortage(since, now, min(length, short.length) if short else length, is_refusing)
            return is_refusing

    def passes(self, length: float = math.inf) -> None:
        """Learn that rows so long have room, or that none has to wait for any other."""
        with self._lock:
            if (short := self._short) and length >= short.length:
                self._short = None
