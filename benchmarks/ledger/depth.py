"""What a long queue costs: the time of a claim, and what the janitor publishes a second time."""

import statistics
import time
from typing import Any

from benchmarks.ledger.documents import accepted
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.settings import LedgerSettings

CLAIMS = 300
SHORT = 400


def long_queue(short: Any, long: Any, depth: int) -> dict[str, float]:
    """Compare two queues, of 100 documents at the end and of `depth`; claims alternate between them.

    Args:
        short: client of an empty Redis database.
        long: client of another one, of the same server.
        depth: documents in the long queue.
    """
    settings = LedgerSettings(lease_seconds=1, result_expires=3600)
    ledgers, jobs = [], []
    for client, count in ((short, SHORT), (long, depth)):
        client.flushdb()
        client.rpush("documents", *["a message"] * 100)
        ledgers.append(Ledger(client, settings))
        jobs.append(list(accepted(ledgers[-1], range(count))))
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(CLAIMS):
        for ledger, queued, took in zip(ledgers, jobs, seconds, strict=True):
            began = time.perf_counter()
            ledger.claim(queued[number], "bench")
            took.append(time.perf_counter() - began)
    long.delete("leases:documents", "due")  # their leases are over by now: that is not what is asked
    ledgers[1].scan()
    long.delete("grace")
    began = time.perf_counter()
    doubled, _ = ledgers[1].scan()
    return {
        "claim_x": statistics.median(seconds[1]) / statistics.median(seconds[0]),
        "claim_us": statistics.median(seconds[1]) * 1e6,
        "published_twice": len(doubled),
        "scan_ms": (time.perf_counter() - began) * 1000,
    }
