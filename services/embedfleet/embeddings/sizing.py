"""How large the lane's batches are: memory budget, tuner, and the device behind them.

The one place that knows how an encoder is measured and asked to give memory back.
"""

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.embeddings import metrics
from embedfleet.embeddings.memory import BUDGETS, Device, MemoryBudget, ThroughputTuner
from embedfleet.embeddings.memory.cpu import CpuDevice
from embedfleet.embeddings.memory.nvml import NvmlDevice
from embedfleet.embeddings.memory.probing import measure, shapes
from embedfleet.embeddings.memory.torch import TorchDevice
from embedfleet.encoders.backends.machine import threads
from embedfleet.encoders.base import OUT_OF_MEMORY, Encoder, padded_width
from embedfleet.runtime.settings import EngineSettings

# What a batch costs besides its tokens, as so many tokens. CPU: a row of 8 tokens takes 1.5 ms in OpenVINO
# bf16 with AMX, where 38 tokens a ms are encoded, and our own part about as much. GPU: not measured; some
# 4 ms of launches at 250 tokens a ms.
OVERHEAD_TOKENS = {"cpu": 128, "cuda": 1024}
# What tasks hold besides the lane (texts, token ids, the requests to Qdrant, and what their allocator keeps),
# and what OpenVINO comes to keep: 53 MB in 6,600 rows.
TASKS_BYTES = {"cpu": 100_000_000, "cuda": 0}
MEGABYTE = 1_000_000
# What the tuner may try on a CPU unless FLEET_MAX_BATCH_TOKENS is set, and the most that it ever chooses.
# OpenVINO never gives back what its largest batch took; elsewhere larger ones were no faster.
TRIED_TOKENS_PER_THREAD = 1024
MOST_TOKENS = {"cpu": max(BUDGETS), "cuda": 131_072}


_log = logging.getLogger(__name__)


class Sizing:
    """Says how many rows a batch may have, and learns from each; safe for all threads of the lane.

    Args:
        budget: the memory budget.
        encoder: pads its batches, and gives its idle memory back between them.
        tuner: chooses the cap on tokens; None: the budget's cap stays as it is.
        overhead: see `next_batch`.
        give_back: gives idle memory back; the encoder's own unless given.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        encoder: Encoder,
        tuner: ThroughputTuner | None = None,
        overhead: int = OVERHEAD_TOKENS["cpu"],
        give_back: Callable[[], None] | None = None,
    ) -> None:
        self.overhead = overhead
        self._budget = budget
        self._encoder = encoder
        self._give_back = give_back or encoder.give_back
        self._tuner = tuner
        self._at_start = budget.available
        self._lock = threading.Lock()
        self._settle()

    def padded(self, length: int) -> int:
        """Return the padded length of a batch whose longest row is this long."""
        return padded_width(length, self._encoder.multiple, self._encoder.max_tokens)

    def max_rows(self, length: int) -> int:
        """Return as `MemoryBudget.max_rows` does."""
        with self._lock:
            return self._budget.max_rows(self.padded(length))

    def refusal(self, length: int) -> EmbeddingError:
        """Return the error of one row that doesn't fit even alone."""
        return self._budget.refusal(self.padded(length))

    def may_fit(self, length: int) -> bool:
        """Say whether one row of this length fits into what was free at the start: if so, others hold it."""
        return self._budget.model.bytes(1, self.padded(length)) <= self._at_start

    def has_room(self, length: int) -> bool:
        """Say whether one row of this length fits now; reads the device, and may be asked from any thread."""
        return self._budget.model.bytes(1, self.padded(length)) <= self._budget.look()

    def rest(self) -> None:
        """Give idle memory back: the lane has had nothing to do for a while."""
        self._release()

    def passed(self, rows: int, longest: int, tokens: int, seconds: float, is_typical: bool = True) -> None:
        """Learn that a batch has passed.

        Args:
            rows: its rows.
            longest: tokens of its longest row.
            tokens: its tokens without padding.
            seconds: its time in the encoder.
            is_typical: whether all streams computed meanwhile: only then its time says something of a budget.
        """
        width = self.padded(longest)
        with self._lock:
            self._budget.passed(rows, width, threading.get_ident())
            if self._tuner and is_typical:
                self._tuner.record(rows * width, tokens, seconds)
            is_due = self._budget.gives_back(rows, width)
            self._settle()
        if is_due:
            self._release()

    def ran_out(self, rows: int, longest: int) -> int:
        """Learn that a batch ran out of memory; return as `MemoryBudget.ran_out` does.

        Raises:
            EmbeddingError: a single row that should fit failed for the third time.
        """
        metrics.OOMS.inc()
        try:
            with self._lock:
                splits = self._budget.splits
                try:
                    return self._budget.ran_out(rows, self.padded(longest), threading.get_ident())
                finally:
                    metrics.SPLITS.inc(self._budget.splits - splits)
        finally:
            self._release()

    def _release(self) -> None:
        """Give idle memory back; where that fails, the next batch shows whether the device still serves."""
        try:
            self._give_back()  # without the lock: it takes long, and nobody who chooses a batch waits for it
            with self._lock:
                self._budget.gave_back()
                self._settle()
        except Exception:
            _log.exception("idle memory could not be given back")

    def _settle(self) -> None:
        """Set what holds for the next batch, and show it."""
        if self._tuner:
            self._budget.cap_tokens = self._tuner.choice
        metrics.TOKEN_BUDGET.set(self._budget.budget_tokens(self._encoder.max_tokens))


def measured(encoder: Encoder, settings: EngineSettings) -> Sizing:
    """Probe an encoder that is loaded, and return how its batches are sized.

    It encodes four small batches, or as many as fit. On a CPU they have about 2,500 tokens in all, with two
    streams half of that unless FLEET_MAX_BATCH_TOKENS allows each as much.

    Raises:
        ConfigurationError: the device's memory can't be read, or no longest row a stream fits into it.
        EmbeddingError: the encoder failed on a probe.
    """
    # Before the devices are made: what they find held counts as never idle.
    encoder.give_back()
    cap = _each(settings.max_batch_tokens or MOST_TOKENS[encoder.device], encoder)
    made: list[MemoryBudget] = []
    device = _device(encoder, settings, lambda: made[0].kept if made else 0)

    def run(rows: int, length: int) -> None:
        encoder.encode(np.zeros((rows, length), np.int64), np.full(rows, length, np.int32))

    def give_back() -> None:
        encoder.give_back()
        if isinstance(device, CpuDevice):
            device.settle()

    def begin() -> None:
        give_back()
        if isinstance(device, CpuDevice):
            device.restart_peak()

    longest = encoder.max_tokens
    if encoder.device == "cpu":
        if settings.max_batch_tokens > MOST_TOKENS["cpu"] * encoder.streams:
            _log.warning(
                "FLEET_MAX_BATCH_TOKENS=%d is more than a CPU's batches ever have: %d in all",
                settings.max_batch_tokens,
                MOST_TOKENS["cpu"] * encoder.streams,
            )
        cap = min(cap, MOST_TOKENS["cpu"])  # the tuner chooses no more, whatever the setting allows
        longest = max(1, longest - encoder.multiple)  # OpenVINO may compute full rows in another, cheaper way
    model = measure(run, begin, device, shapes(longest, cap), holds(device))
    give_back()
    budget = (
        MemoryBudget(
            model, device, time.monotonic, cap, paged=True, grown=device.grown, streams=encoder.streams
        )
        if isinstance(device, CpuDevice)
        else MemoryBudget(model, device, time.monotonic, cap, streams=encoder.streams)
    )
    made.append(budget)
    _refuse_too_little(budget, device, encoder)
    _show(encoder, device)
    tuner = _tuner(encoder, settings) if encoder.device == "cpu" else None
    return Sizing(budget, encoder, tuner, OVERHEAD_TOKENS[encoder.device], give_back)


def _tuner(encoder: Encoder, settings: EngineSettings) -> ThroughputTuner:
    tried = min(TRIED_TOKENS_PER_THREAD * threads(settings.threads), MOST_TOKENS["cpu"])
    return ThroughputTuner(most=_each(settings.max_batch_tokens or tried, encoder))


def _each(tokens: int, encoder: Encoder) -> int:
    """Return what each of the batches that compute at once may have of so many tokens."""
    return max(1, tokens // encoder.streams)


def _device(encoder: Encoder, settings: EngineSettings, kept: Callable[[], int]) -> Device:
    if encoder.device == "cpu":
        return CpuDevice(settings.memory_limit or None)
    if settings.backend == "torch":
        return TorchDevice()
    return NvmlDevice(kept)


def holds(device: Device) -> Callable[[], int] | None:
    """Return what tells the bytes that a probe took, or None where nothing does; see `measure`."""
    if isinstance(device, CpuDevice):
        return device.peak
    if isinstance(device, NvmlDevice) and not device.tells:
        return None
    return device.reserved


def _refuse_too_little(budget: MemoryBudget, device: Device, encoder: Encoder) -> None:
    longest, tasks = encoder.max_tokens, TASKS_BYTES[encoder.device]
    needed = encoder.streams * budget.model.bytes(1, longest) + tasks
    left, total = encoder.streams * budget.available, device.total()
    if not left or left < needed:
        own = device.resident() if isinstance(device, CpuDevice) else 0
        held = max(total - left, own)
        may_pass = own + needed <= total  # then others hold it, who may end
        least = -(-(held + needed) // MEGABYTE)
        or_fp32 = ", set FLEET_PRECISION=fp32" if encoder.precision == "bf16" else ""
        raise ConfigurationError(
            f"with the model loaded {left / 1e6:,.0f} MB of {total / 1e6:,.0f} MB are left, and the tasks "
            f"and one chunk of {longest} tokens for each of {encoder.streams} streams need "
            f"{needed / 1e6:,.0f} MB: about {least:,} MB is the least that works; raise FLEET_MEMORY_LIMIT "
            f"or the container's limit, end what else uses the device{or_fp32}, or choose a smaller model "
            "(FLEET_MODEL_ID)",
            code=OUT_OF_MEMORY if may_pass else "too_little_memory",
        )


def _show(encoder: Encoder, device: Device) -> None:
    labels = (encoder.model_key, encoder.device, encoder.provider, encoder.precision)
    metrics.MODEL_INFO.labels(*labels).set(1)
    readings = {
        "total": device.total,
        "free": device.free,
        "used": lambda: device.total() - device.free(),
    }
    for kind, ask in readings.items():
        metrics.DEVICE_MEMORY.labels(kind).set_function(metrics.reading(ask))
