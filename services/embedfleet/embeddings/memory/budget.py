"""How large the next batch may be: the controller. Pure but for the device's readings.

- The limit is 0.85 of what is really free, read again between batches, times a share from 0 to 1.
- A batch that runs out of memory halves the share, and the limit falls to what half of its rows need, if that
  is less: the same rows are tried again in halves. A shape that should have fitted is remembered
  (`UnsafeArea`).
- Each batch that passes and fills at least half of the limit adds 1/32 to the share: the whole limit is back
  after 32 such batches, however deep it fell. Thin batches prove nothing, and add nothing.
- What the allocator keeps idle counts as free, though pieces of it may be too small for the next batch. So
  the runtime is asked to give its idle memory back after a batch (`gives_back`) when it would keep more than
  an eighth: what is left to the driver is then always more than the 0.85 that a batch may need. Main memory
  comes in pages that fit any batch: there it is asked when less is left than the largest batch needs, and a
  few times a minute when 16 MB or more have come together.

Additive increase, multiplicative decrease: the law by which TCP shares a link among strangers.
"""

from collections.abc import Callable

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.memory.device import Device
from embedfleet.embeddings.memory.model import MemoryModel
from embedfleet.embeddings.memory.unsafe import Failure, UnsafeArea
from embedfleet.encoders.base import OUT_OF_MEMORY

MARGIN = 0.85
STEP = 1 / 32
REREAD_SECONDS = 0.05
SINGLE_ROW_TRIES = 3
KEPT_SHARE = 1 / 8
KEPT_BYTES = 16_000_000
KEPT_SECONDS = 15.0


class MemoryBudget:
    """Says how many rows fit, and learns from the batches that pass or fail.

    There is no lock: every method but `look` is called by one thread at a time, which `Sizing` sees to. Other
    threads may read the plain attributes, which may be one batch old.

    Args:
        model: what a batch costs.
        device: the readings.
        clock: seconds that never go back, like `time.monotonic`.
        cap_tokens: most tokens of a batch, padding included, whatever is free; may be set anew at any time.
        paged: whether the device is main memory, whose free pages fit any batch.
        grown: tells the bytes that this process has come to hold for good: they keep no single row waiting.
        streams: batches that compute side by side. Each may use an equal share of all bytes, since what the
            others use is counted among those that this process holds idle; but for what was in use when idle
            memory was last given back, which is counted as free again only the next time.

    Attributes:
        free: a stream's share of the bytes that nobody holds, as last read.
        reserved: its share of those that this process's allocator holds idle, as last read.
        ooms: batches that ran out of memory.
        splits: times that rows were tried again in smaller batches.
        kept: bytes that the model gives the largest batch since the runtime last gave memory back: about what
            its allocator holds, for devices that can't tell.
    """

    def __init__(
        self,
        model: MemoryModel,
        device: Device,
        clock: Callable[[], float],
        cap_tokens: int,
        paged: bool = False,
        grown: Callable[[], int] = lambda: 0,
        streams: int = 1,
    ) -> None:
        self.model = model
        self.cap_tokens = cap_tokens
        self.ooms = self.splits = self.kept = 0
        self._device = device
        self._clock = clock
        self._paged = paged
        self._grown = grown
        self._streams = streams
        self._unsafe = UnsafeArea()
        self._share = 1.0
        self._single_tries: dict[int, int] = {}
        self._gave_back_at = clock()
        self._read()

    @property
    def available(self) -> int:
        """Return the bytes that could be used without any margin, as last read."""
        return self.free + self.reserved

    def look(self) -> int:
        """Return the bytes that one row may need, read now; from any thread, nothing is remembered."""
        free, reserved = max(0, self._device.free()), max(0, self._device.reserved())
        return (free + reserved + self._grown()) // self._streams

    @property
    def limit(self) -> float:
        """Return the bytes that the next batch may need; reads the device again when the reading is old."""
        now = self._clock()
        if now - self._read_at >= REREAD_SECONDS:
            self._read()
        return min(MARGIN * self._share * self.available, self._unsafe.most(self.free, now))

    def max_rows(self, length: int) -> int:
        """Return the most rows of this padded length that the next batch may have.

        One row may pass both the margin and the cap, since it can't be split: it is tried as long as it fits
        into what is free, or would if this process had not grown: to wait for itself would be to wait for
        ever. 0 says that not even one row fits now: others hold the memory, or it never will.
        Then wait and ask again, and fail the row with `refusal` in the end.

        Args:
            length: padded length of the batch, ≥ 1.
        """
        rows = min(self.model.rows_within(self.limit, length), self.cap_tokens // length)
        return max(rows, int(self.model.bytes(1, length) <= self._for_one))

    def budget_tokens(self, longest: int) -> int:
        """Return the tokens, padding included, of the largest batch whose longest row is `longest`."""
        return self.max_rows(longest) * longest

    def fits(self, rows: int, length: int) -> bool:
        """Say whether a batch of this shape may run now."""
        return rows <= self.max_rows(length)

    def gives_back(self, rows: int, length: int) -> bool:
        """Say whether the runtime should give its idle memory back after a batch of this shape.

        ONNX Runtime takes it as the run option `memory.enable_memory_arena_shrinkage`, torch as
        `torch.cuda.empty_cache()`; it costs milliseconds, and only batches large enough to hide them ask for
        it. It also leaves the device to its neighbours while the lane is idle.
        """
        if self._paged:
            is_due = self._clock() - self._gave_back_at >= KEPT_SECONDS
            if self.reserved * self._streams > KEPT_BYTES and is_due:
                return True
            largest = max(rows, self.cap_tokens // length)
            # At the limit nothing is reserved, whatever is idle: only giving it back shows what it was.
            return (self.reserved > 0 or is_due) and self.free < self.model.bytes(largest, length)
        return self.reserved + self.model.bytes(rows, length) > KEPT_SHARE * self.available

    def gave_back(self) -> None:
        """Learn that the runtime gave its idle memory back; said last, after `passed` or `ran_out`."""
        self.kept = 0
        self._gave_back_at = self._clock()
        self._read()

    def passed(self, rows: int, length: int, stream: int = 0) -> None:
        """Learn that a batch of this shape has passed on a stream."""
        needed = self.model.bytes(rows, length)
        self.kept = max(self.kept, needed)
        self._single_tries.pop(stream, None)
        if 2 * needed >= self.limit or 2 * rows >= self.max_rows(length):
            self._share = min(1.0, self._share + STEP)

    def ran_out(self, rows: int, length: int, stream: int = 0) -> int:
        """Learn that a batch of this shape ran out of memory; return of how many rows the next tries may be.

        The same rows are tried again at once, before others, in batches of that many; 0 says what it says in
        `max_rows`: others hold the memory, so wait first.

        Args:
            rows: rows of the batch that failed, ≥ 1.
            length: its padded length.
            stream: where it ran; a row that is tried again is tried there, whatever passes on the others.

        Raises:
            EmbeddingError: it was one row that should have fitted, for the third time: it fails, and it
                alone; the code is `out_of_memory`.
        """
        self.ooms += 1
        free = self.free
        self._read()
        self._correct(rows, length)
        needed = self.model.bytes(rows, length)
        if needed <= self.available:  # else a neighbour explains it, and the readings show the neighbour
            self._unsafe.add(Failure(rows, length, needed, free, self._read_at))
        self._shrink(self.model.bytes(rows // 2, length) if rows > 1 else needed // 2)
        if rows > 1:
            self.splits += 1
            return min(rows // 2, self.max_rows(length))
        if needed > self._for_one:
            return 0
        self._single_tries[stream] = tries = self._single_tries.get(stream, 0) + 1
        if tries >= SINGLE_ROW_TRIES:
            del self._single_tries[stream]
            raise self.refusal(length)
        return 1

    def refusal(self, length: int) -> EmbeddingError:
        """Return the error of one row that doesn't fit even alone."""
        return EmbeddingError(
            f"a chunk of {length} tokens does not fit into memory even alone: it needs about "
            f"{_megabytes(self.model.bytes(1, length))} and {_megabytes(self.available)} of "
            f"{_megabytes(self._device.total())} can be used; free memory on the device, take a larger one "
            "or use smaller chunks, then upload the document again",
            code=OUT_OF_MEMORY,
        )

    @property
    def _for_one(self) -> int:
        return self.available + self._grown() // self._streams

    def _read(self) -> None:
        self.free = max(0, self._device.free()) // self._streams
        self.reserved = max(0, self._device.reserved()) // self._streams
        self._read_at = self._clock()

    def _correct(self, rows: int, length: int) -> None:
        """Replace a model by which a row needs almost nothing: halving the bytes would not halve the rows."""
        # Up to two bytes a row, the one that `_shrink` adds and what is rounded may be one row more.
        if self.model.bytes(rows, length) - self.model.bytes(0, length) <= 2 * rows:
            self.model = MemoryModel(0.0, max(1.0, self.available / (rows * length)), 0.0)

    def _shrink(self, most: int) -> None:
        """Halve the share, and bring the limit down to `most` bytes."""
        whole = MARGIN * self.available
        # A byte more: rounding must not make the limit too low for what was said to fit.
        self._share = self._share / 2 if whole <= 0 else min(self._share / 2, (most + 1) / whole)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
