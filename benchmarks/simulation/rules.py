"""What the budget is compared with: one that can't be beaten, and what others do."""

from benchmarks.simulation.device import SimulatedDevice
from benchmarks.simulation.lane import COST
from embedfleet.embeddings.memory import MARGIN


class Oracle:
    """Knows the true cost of a batch and what is free at its start; keeps the same safety margin."""

    def __init__(self, device: SimulatedDevice, cap_tokens: int) -> None:
        self._device = device
        self._cap_tokens = cap_tokens

    def max_rows(self, length: int) -> int:
        """Return the most rows that the margin leaves room for."""
        available = self._device.free() + self._device.reserved()
        rows = min(COST.rows_within(MARGIN * available, length), self._cap_tokens // length)
        return max(rows, int(COST.bytes(1, length) <= available))

    def gives_back(self, rows: int, length: int) -> bool:
        """Return True: it costs the oracle nothing."""
        return True

    def gave_back(self) -> None:
        """Learn nothing."""

    def passed(self, rows: int, length: int) -> None:
        """Learn nothing."""

    def ran_out(self, rows: int, length: int) -> int:
        """Fail: it foresees everything.

        Raises:
            AssertionError: always.
        """
        raise AssertionError(f"the oracle ran out of memory with {rows} rows of {length} tokens")


class Halving:
    """Takes what is free at the start, and halves for good after each failure; it reads nothing again."""

    def __init__(self, device: SimulatedDevice, cap_tokens: int) -> None:
        available = device.free() + device.reserved()
        self._tokens = min(COST.rows_within(MARGIN * available, 256) * 256, cap_tokens)

    def max_rows(self, length: int) -> int:
        """Return the rows of a fixed number of tokens."""
        return max(1, self._tokens // length)

    def gives_back(self, rows: int, length: int) -> bool:
        """Return False: only a failure empties the cache."""
        return False

    def gave_back(self) -> None:
        """Learn nothing."""

    def passed(self, rows: int, length: int) -> None:
        """Learn nothing."""

    def ran_out(self, rows: int, length: int) -> int:
        """Halve."""
        self._tokens = max(length, self._tokens // 2)
        return self.max_rows(length)
