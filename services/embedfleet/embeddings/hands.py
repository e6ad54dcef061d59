"""What the lane's threads have in hand and since when: so what never comes back is found, and whose it is."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from embedfleet.embeddings.submissions import Row, Submission


class Hands:
    """One entry a thread of the lane, which alone writes it; any thread reads.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[int, tuple[float, Sequence[Row]]] = {}

    @contextmanager
    def hold(self, rows: Sequence[Row] = ()) -> Iterator[None]:
        """Have these rows in hand while the block runs; none: the device is asked for something else."""
        me = threading.get_ident()
        self._held[me] = self._clock(), rows
        try:
            yield
        finally:
            del self._held[me]

    @property
    def seconds(self) -> float:
        """For how long the thread that has been at it longest has had the same in hand; 0 when none has."""
        now = self._clock()
        return max((now - since for since, _ in list(self._held.values())), default=0.0)

    def hold_any(self, submissions: Collection[Submission], seconds: float) -> bool:
        """Say whether a row that one of these still waits for has been in hand for so many seconds."""
        now = self._clock()
        old = [rows for since, rows in list(self._held.values()) if now - since >= seconds]
        return any(row.is_wanted and row.submission in submissions for rows in old for row in rows)
