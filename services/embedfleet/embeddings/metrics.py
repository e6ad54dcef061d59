"""What the embedding worker shows on `/metrics`; the names are API."""

import math
import threading
import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from embedfleet.contracts.errors import EmbeddingError

# Bounds one below the powers of two: "at least 16 rows" is what lies above 15.
_ROWS = (1, 3, 7, 15, 31, 63, 127, 255, 511, 1023)
_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

BATCH_ROWS = Histogram("fleet_batch_rows", "Rows in a batch of the lane.", buckets=_ROWS)
BATCH_DOCUMENTS = Histogram("fleet_batch_documents", "Documents that share a batch.", buckets=_ROWS)
BATCH_TOKENS = Histogram("fleet_batch_tokens", "Tokens of a batch, padding included.", buckets=_TOKENS)
TOKENS = Counter("fleet_tokens", "Tokens that the lane encoded, without padding.")
PADDING = Gauge("fleet_padding_ratio", "Share of padding in the encoded tokens of about the last minute.")
ENCODE_SECONDS = Histogram(
    "fleet_encode_seconds", "Seconds that a batch was in the encoder.", buckets=_SECONDS
)
BUSY = Gauge(
    "fleet_lane_busy_ratio", "Share of about the last minute that the lane's threads were in the encoder."
)
WAIT_SECONDS = Histogram(
    "fleet_lane_wait_seconds", "Seconds that a batch's oldest row had waited.", buckets=_SECONDS
)
QUEUE_ROWS = Gauge("fleet_submit_queue_rows", "Rows that wait for the lane.")
TOKEN_BUDGET = Gauge("fleet_token_budget", "Tokens that a batch of the model's longest rows may have now.")
DEVICE_MEMORY = Gauge(
    "fleet_device_memory_bytes", "Memory of the device, or what this process may use of it.", ["kind"]
)
OOMS = Counter("fleet_oom", "Batches that ran out of memory.")
SPLITS = Counter("fleet_batch_splits", "Times that the rows of a batch were tried again in smaller ones.")
MODEL_INFO = Gauge(
    "fleet_model_info", "The model that this worker runs.", ["model_key", "device", "provider", "precision"]
)
TRUNCATED = Counter("fleet_truncated_chunks", "Chunks over the model's limit, whose end was not embedded.")
UPSERT_SECONDS = Histogram(
    "fleet_upsert_seconds", "Seconds of a request to store points, failed ones among them.", buckets=_SECONDS
)
POINTS = Counter("fleet_points", "Points that were stored, those with a copied vector among them.")


class RecentShare:
    """A share that forgets: what is older than a minute hardly counts.

    Written and read by any thread.

    Args:
        clock: seconds that never go back.
        half_life: seconds after which an event counts half.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, half_life: float = 30.0) -> None:
        self._clock = clock
        self._rate = math.log(2) / half_life
        self._born = clock()
        self._state = (0.0, 0.0, self._born)
        self._lock = threading.Lock()

    def add(self, part: float, whole: float) -> None:
        """Count an event that has just happened."""
        with self._lock:
            self._state = self._sums(part, whole)

    def value(self) -> float:
        """Return parts / wholes; 0 before the first event."""
        part, whole, _ = self._state
        return part / whole if whole else 0.0

    def of_time(self, last: float = 0.0) -> float:
        """Return parts, and a last one that still goes on, as a share of the time; parts are seconds."""
        part, _, now = self._sums(last, 0.0)
        whole = (1 - math.exp(-self._rate * (now - self._born))) / self._rate
        return min(1.0, part / whole) if whole else 0.0

    def _sums(self, part: float, whole: float) -> tuple[float, float, float]:
        old_part, old_whole, at = self._state
        now = self._clock()
        kept = math.exp(-self._rate * (now - at))
        return old_part * kept + part, old_whole * kept + whole, now


def reading(ask: Callable[[], int]) -> Callable[[], float]:
    """Return a gauge's function for a device's reading; NaN when the device doesn't answer."""

    def read() -> float:
        try:
            return float(ask())
        except EmbeddingError:
            return math.nan

    return read
