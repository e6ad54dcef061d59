"""The lane's loop on the simulated device, with any rule that says how many rows a batch may have."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.simulation.device import DeviceFull, SimulatedDevice
from benchmarks.simulation.work import Batch, Work
from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.memory import MemoryModel
from embedfleet.encoders.base import OUT_OF_MEMORY

# An encoder of 0.3 G parameters on a 16 GB card of the slower kind: 0.2 MB a token at 256 tokens, 0.25 s a
# batch whatever its size, 50 us a token and more in long rows. Large batches pay, so that a timid rule shows.
COST = MemoryModel(fixed=120e6, per_token=170_000, per_pair=160)
BATCH_SECONDS = 0.25
TOKEN_SECONDS = 50e-6
FAILURE_SECONDS = 0.05
GIVE_BACK_SECONDS = 0.02
BUFFERS = (0.4, 0.3), (0.2, 0.1)  # parts of what a batch needs: at its start, and when a third is computed
WAIT_SECONDS = 0.1
PATIENCE_SECONDS = 60.0


class Rule(Protocol):
    """What decides the size of batches; `MemoryBudget` is one as it is."""

    def max_rows(self, length: int) -> int:
        """Return the most rows of the next batch."""
        ...

    def gives_back(self, rows: int, length: int) -> bool:
        """Say whether the arena is to be given back after the batch."""
        ...

    def gave_back(self) -> None:
        """Learn that it was given back."""
        ...

    def passed(self, rows: int, length: int) -> None:
        """Learn that a batch passed."""
        ...

    def ran_out(self, rows: int, length: int) -> int:
        """Learn that one failed; return how many rows the next tries may have."""
        ...


@dataclass(slots=True)
class Figures:
    """What a run did.

    Attributes:
        tokens: real tokens encoded.
        batches: batches that passed.
        ooms: batches that ran out of memory, by cause.
        lost_seconds: time spent in batches that failed.
        waited_seconds: time in which not one row fitted.
        neighbour_seconds: bytes that the neighbours held, times seconds.
    """

    tokens: int = 0
    batches: int = 0
    ooms: Counter[str] = field(default_factory=Counter)
    lost_seconds: float = 0.0
    waited_seconds: float = 0.0
    neighbour_seconds: float = 0.0


class SimulatedLane:
    """Runs batches until the time is over.

    Args:
        device: where.
        work: what.
        rule: how many rows at once.
        gives_back: the runtime gives its arena back after a failure and when the rule says so; else never.
        foresees: all buffers are there from the start and the arena is given back for nothing (the oracle).
    """

    def __init__(
        self,
        device: SimulatedDevice,
        work: Work,
        rule: Rule,
        *,
        gives_back: bool = True,
        foresees: bool = False,
    ) -> None:
        self.figures = Figures()
        self._device, self._work, self._rule = device, work, rule
        self._gives_back = gives_back
        self._foresees = foresees
        self._again: list[Batch] = []
        self._began = 0.0
        self._neighbours_before = self._available_before = 0

    def run(self, seconds: float) -> Figures:
        """Run until `seconds` have passed on the device's clock."""
        while self._device.clock.now < seconds:
            batch = self._next()
            if batch is None:
                continue
            try:
                self._encode(batch)
            except DeviceFull as full:
                self._recover(batch, full)
        return self.figures

    def encode_once(self, rows: int, length: int) -> None:
        """Run one batch of this shape and nothing else, for probing.

        Raises:
            EmbeddingError: it ran out of memory.
        """
        try:
            self._compute(rows, length)
        except DeviceFull as full:
            raise EmbeddingError(str(full), code=OUT_OF_MEMORY) from full
        finally:
            self._device.end_batch()

    def _next(self) -> Batch | None:
        length = self._again[-1].length if self._again else self._work.oldest_length()
        rows = self._rule.max_rows(length)
        waited = 0.0
        while not rows and waited < PATIENCE_SECONDS:
            self._pass_time(WAIT_SECONDS)
            waited += WAIT_SECONDS
            rows = self._rule.max_rows(length)
        self.figures.waited_seconds += waited
        if self._again:
            batch, rest = self._again.pop().first(max(1, rows))
            if rest:
                self._again.append(rest)
        else:
            batch = self._work.take(length, max(1, rows))
        if not rows:
            self._work.fail(batch)
            return None
        return batch

    def _encode(self, batch: Batch) -> None:
        give_back = self._gives_back and self._rule.gives_back(batch.rows, batch.length)
        self._compute(batch.rows, batch.length)
        self._device.end_batch()
        self.figures.tokens += batch.tokens
        self.figures.batches += 1
        self._work.done(batch)
        self._rule.passed(batch.rows, batch.length)
        if give_back:
            self._give_back()

    def _compute(self, rows: int, length: int) -> None:
        """Let the batch's time pass, and take its buffers on the way.

        Raises:
            DeviceFull: a buffer could not be had; the time until then has passed.
        """
        self._began, self._neighbours_before = self._device.clock.now, self._device.neighbours
        self._available_before = self._device.free() + self._device.reserved()
        tokens = rows * length
        needed = COST.bytes(rows, length) * _departure(rows, length)
        seconds = BATCH_SECONDS + tokens * TOKEN_SECONDS * (1 + length / 2048)
        first: tuple[float, ...]
        second: tuple[float, ...]
        first, second = BUFFERS
        if self._foresees:
            first, second = first + second, ()
        self._device.allocate([int(needed * part) for part in first])
        self._pass_time(seconds / 3)
        self._device.allocate([int(needed * part) for part in second])
        self._pass_time(seconds * 2 / 3)

    def _recover(self, batch: Batch, full: DeviceFull) -> None:
        self._device.end_batch()
        self.figures.ooms[self._cause(batch, full)] += 1
        self._pass_time(FAILURE_SECONDS)
        try:
            self._rule.ran_out(batch.rows, batch.length)
        except EmbeddingError:
            self._work.fail(batch)
        else:
            self._again.append(batch)
        if self._gives_back:
            self._give_back()
        self.figures.lost_seconds += self._device.clock.now - self._began

    def _cause(self, batch: Batch, full: DeviceFull) -> str:
        if full.scattered:
            return "scattered"
        if self._device.neighbours > self._neighbours_before:
            return "neighbour"
        return "stale" if COST.bytes(batch.rows, batch.length) > self._available_before else "model"

    def _give_back(self) -> None:
        self._device.give_back()
        self._pass_time(0.0 if self._foresees else GIVE_BACK_SECONDS)
        self._rule.gave_back()

    def _pass_time(self, seconds: float) -> None:
        self.figures.neighbour_seconds += self._device.neighbours * seconds
        self._device.advance(seconds)


def _departure(rows: int, length: int) -> float:
    """Return by how much this shape's real cost differs from `COST`: 0.97 to 1.05 times, always the same."""
    return 0.97 + 0.08 * ((rows * 2_654_435_761 + length * 40_503) % 1009) / 1008
