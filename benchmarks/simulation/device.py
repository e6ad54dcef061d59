"""The simulated device: its memory, an allocator like ONNX Runtime's arena, and the neighbours' part of it.

- The allocator takes regions from the driver as large as what is asked (`kSameAsRequested`), reuses the
  smallest free piece that is large enough, splits it, and never joins pieces of two regions: so it keeps its
  high-water mark, and part of what it holds may be of no use to the next batch.
- A neighbour takes what it wants as far as the driver has it, and the rest when that becomes free. Nobody is
  ever put out, as on a real device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.simulation.neighbours import Wish

GRAIN = 2 * 1024 * 1024  # a driver gives out memory in pages of 2 MiB


class DeviceFull(Exception):
    """The driver has no piece that is large enough.

    Attributes:
        scattered: the bytes were there, but in pieces.
    """

    def __init__(self, scattered: bool) -> None:
        super().__init__("CUDA out of memory (simulated)")
        self.scattered = scattered


@dataclass(slots=True)
class Clock:
    """Seconds since the start."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class SimulatedDevice:
    """A `Device`, plus what only the simulation may do: allocate, and let time pass.

    Args:
        capacity: bytes.
        weights: bytes of the model, held all the time.
        wishes: what the neighbours want, in order of time.
        clock: moved by `advance` alone.
    """

    def __init__(self, capacity: int, weights: int, wishes: Sequence[Wish], clock: Clock) -> None:
        self.clock = clock
        self.neighbours = 0
        self._capacity = capacity - weights
        self._total = capacity
        self._wishes = wishes
        self._next = 0
        self._wanted: dict[int, int] = {}
        self._held: dict[int, int] = {}
        self._regions: list[int] = []
        self._arena = 0
        self._pieces: list[int] | None = None  # free ones while a batch runs

    def total(self) -> int:
        """Return the bytes of the device."""
        return self._total

    def free(self) -> int:
        """Return what nobody holds."""
        return self._capacity - self._arena - self.neighbours

    def reserved(self) -> int:
        """Return what the arena holds; between batches all of it is idle."""
        return self._arena

    def advance(self, seconds: float) -> None:
        """Let time pass; the neighbours' wishes come true as far as they can."""
        self.clock.now += seconds
        changed = False
        while self._next < len(self._wishes) and self._wishes[self._next].at <= self.clock.now:
            wish = self._wishes[self._next]
            self._next += 1
            self._wanted[wish.neighbour] = wish.bytes
            self._serve(wish.neighbour)
            changed = True
        if changed or self._unserved():
            for neighbour in self._wanted:
                self._serve(neighbour)

    def allocate(self, sizes: Sequence[int]) -> None:
        """Take buffers for the batch that runs.

        Raises:
            DeviceFull: one of them can't be had.
        """
        if self._pieces is None:
            self._pieces = list(self._regions)
        for size in sizes:
            self._take(-(-size // GRAIN) * GRAIN, self._pieces)

    def end_batch(self) -> None:
        """Give the batch's buffers back to the arena: each region is whole again."""
        self._pieces = None

    def give_back(self) -> None:
        """Give the whole arena back to the driver; only between batches."""
        self._regions.clear()
        self._arena = 0

    def _take(self, size: int, pieces: list[int]) -> None:
        large = [piece for piece in pieces if piece >= size]
        if large:
            best = min(large)
            pieces.remove(best)
            if best > size:
                pieces.append(best - size)
            return
        if size > self.free():
            raise DeviceFull(scattered=size <= self.free() + sum(pieces))
        self._regions.append(size)
        self._arena += size

    def _serve(self, neighbour: int) -> None:
        held, wanted = self._held.get(neighbour, 0), self._wanted[neighbour]
        more = min(wanted - held, max(0, self.free()))
        self._held[neighbour] = held + more
        self.neighbours += more

    def _unserved(self) -> bool:
        return any(self._held[neighbour] < wanted for neighbour, wanted in self._wanted.items())
