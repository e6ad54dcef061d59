"""What a queued document and a tombstone take of Redis's memory, in bytes."""

from typing import Any

from benchmarks.ledger import noop
from benchmarks.ledger.documents import accepted, chunked, used_memory
from embedfleet.contracts.jobs import GenerateEmbeddings
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim
from embedfleet.runtime.settings import LedgerSettings


def queued_bytes(client: Any, url: str, count: int) -> float:
    """Return the bytes a queued document: its rows, its place in every index, and its message."""
    client.flushall()
    ledger = Ledger(client, LedgerSettings())
    (job,) = accepted(ledger, [count])
    noop.publish(url, "documents", [(job.task_name, job.task_id, job.model_dump())])
    (message,) = client.lrange("documents", 0, -1)
    before = used_memory(client)
    for _ in accepted(ledger, range(count)):
        client.lpush("documents", message)  # all messages are of one length, and making them is slow
    return (used_memory(client) - before) / count


def tombstone_bytes(client: Any, count: int) -> float:
    """Return the bytes a tombstone: what is left of a finished task once its details have expired."""
    client.flushall()
    ledger = Ledger(client, LedgerSettings())
    for job in list(chunked(ledger, range(count))):
        claim = ledger.claim(GenerateEmbeddings(task_id=job.task_id, sequence=job.sequence), "bench")
        if isinstance(claim, Claim):
            ledger.embedded(claim, {"success": True})
    tombstones = list(client.scan_iter("tombstone:*", count=1000))
    before = used_memory(client)
    for start in range(0, len(tombstones), 1000):
        client.delete(*tombstones[start : start + 1000])
    return (before - used_memory(client)) / len(tombstones)
