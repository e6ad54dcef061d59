"""Admission: whether there is room for an upload, asked before anything of it is stored.

Asked twice. Before the body is read a reading of up to a second ago will do, so that a refusal under load
costs no round trip and no transfer. Before the file is copied the numbers are fresh, in one round trip; so
what is taken above a limit is at most what is being copied at that moment, one file a thread of this server.

What was accepted needs no admission: deletes, revokes and retries go on, and the janitor takes up what it
finds in ``pending/``. An upload is refused even if it would turn out to be unchanged: to know that, its whole
body would have to be read, and a refusal must stay cheaper than what it refuses.
"""

import math
import random
import time

from prometheus_client import Counter

from embedfleet.contracts.errors import Overloaded
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Load
from embedfleet.runtime.settings import AdmissionSettings

READING_SECONDS = 1.0

# Seconds after which the caller may ask again, at the earliest: places get free every moment, memory
# and disk when results expire or somebody makes room.
RETRY_SECONDS = {
    "too_many_documents": 5,
    "queue_full": 5,
    "backlog_full": 10,
    "redis_full": 30,
    "disk_full": 30,
}
REFUSALS = Counter(
    "fleet_admission_refusals",
    "Uploads refused before anything was stored, by the answer's code.",
    ["reason"],
)
for _code in RETRY_SECONDS:
    REFUSALS.labels(_code)


def refusal(load: Load, free_disk: float, key: str, limits: AdmissionSettings) -> Overloaded | None:
    """Return why there is no room, the caller's own limit first; None when there is.

    Args:
        load: what is under way.
        free_disk: bytes that the upload would leave free.
        key: name of the caller's API key.
        limits: each is reached when the load equals it; 0 is none.
    """
    if 0 < limits.max_documents_per_key <= load.documents_of_key:
        return _overloaded(
            "too_many_documents",
            f"The API key {key!r} has {load.documents_of_key:,} documents that haven't ended, and"
            f" {limits.max_documents_per_key:,} is its limit; send this file again when some are READY.",
            status=429,
        )
    if 0 < limits.max_queued_documents <= load.documents:
        return _ours("queue_full", f"{load.documents:,} documents wait to be processed")
    if 0 < limits.max_queued_tokens <= load.tokens:
        return _ours("backlog_full", f"{load.tokens:,} tokens wait to be embedded")
    if 0 < limits.redis_memory_limit <= (load.memory or 0):
        return _ours("redis_full", "Redis needs the memory that is left for what was accepted before")
    if free_disk < limits.min_free_disk:
        return _ours("disk_full", "the disk for uploaded files is nearly full")
    return None


class Admission:
    """Asks the ledger and the disk. Thread-safe."""

    def __init__(self, ledger: Ledger, blobs: Blobs, limits: AdmissionSettings) -> None:
        self._ledger, self._blobs, self._limits = ledger, blobs, limits
        self._readings: dict[tuple[str, str], tuple[float, Load]] = {}
        self._memory, self._memory_until = 0.0, 0.0

    def expect(self, tenant: str, key: str, size: int) -> None:
        """Refuse an upload that has been announced; `check` has the last word.

        Args:
            tenant: the caller's.
            key: name of the caller's API key.
            size: announced bytes; 0 when unknown.

        Raises:
            Overloaded: there is no room.
            DependencyDown: Redis or the blobs can't be reached.
        """
        read_at, load = self._readings.get((tenant, key), (0.0, None))
        if load is None or time.monotonic() - read_at > READING_SECONDS:
            load = self._read(tenant, key)
        self._judge(load, key, size)

    def check(self, tenant: str, key: str, size: int) -> None:
        """Refuse an upload that has arrived; arguments and errors are those of `expect`."""
        self._judge(self._read(tenant, key), key, size)

    def _read(self, tenant: str, key: str) -> Load:
        now = time.monotonic()
        load = self._ledger.load(tenant, key, with_memory=now >= self._memory_until)
        if load.memory is None:
            load = Load(load.documents, load.documents_of_key, load.tokens, self._memory)
        else:
            self._memory, self._memory_until = load.memory, now + READING_SECONDS
        self._readings[tenant, key] = now, load
        return load

    def _judge(self, load: Load, key: str, size: int) -> None:
        free = self._blobs.free_bytes() if self._limits.min_free_disk else None
        left = math.inf if free is None else free - size
        if error := refusal(load, left, key, self._limits):
            REFUSALS.labels(error.code).inc()
            # Those who were refused together should not come back together.
            error.retry_after += random.randint(0, error.retry_after)  # noqa: S311 — no secret
            raise error


def _ours(code: str, why: str) -> Overloaded:
    return _overloaded(code, f"No upload is taken just now: {why}; send this file again after `Retry-After`.")


def _overloaded(code: str, detail: str, status: int = 503) -> Overloaded:
    return Overloaded(detail, code=code, status=status, retry_after=RETRY_SECONDS[code])
