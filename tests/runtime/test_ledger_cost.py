import time

import pytest
from benchmarks.ledger import memory, trips

from embedfleet.contracts.jobs import Job
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, upload


@pytest.mark.slow
def test_a_task_makes_at_most_six_round_trips(empty_redis: RedisServer) -> None:
    assert 5 <= trips.per_task(empty_redis.url, 100) <= 6


def test_a_queued_document_takes_at_most_four_kilobytes(ledger: Ledger, empty_redis: RedisServer) -> None:
    assert memory.queued_bytes(ledger._redis, empty_redis.url, 2000) <= 4096


def test_a_tombstone_takes_at_most_one_kilobyte(ledger: Ledger) -> None:
    assert memory.tombstone_bytes(ledger._redis, 500) <= 1024


def test_a_deep_queue_is_neither_doubled_nor_looked_through(ledger: Ledger) -> None:
    ledger.scan()
    for number in range(300):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
        ledger._redis.hset(f"task:t{number}", "published_at", 1)
    ledger._redis.lpush("documents", "a message")
    ledger._redis.delete("grace")
    ledger._redis.config_resetstat()
    assert ledger.scan() == ([], False)
    assert ledger._redis.info("commandstats")["cmdstat_hgetall"]["calls"] == 2  # one a queue, none a task


def test_a_scan_is_short_whatever_is_due(ledger: Ledger) -> None:
    ledger.scan()
    for number in range(120):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
        ledger._redis.hset(f"task:t{number}", "published_at", 1)
    ledger._redis.delete("grace")
    published: list[list[Job]] = []
    more = True
    while more:
        jobs, more = ledger.scan()
        published.append(jobs)
    assert [len(jobs) for jobs in published] == [50, 50, 20]


def test_lists_of_finished_tasks_are_trimmed_bit_by_bit_though_their_tenant_is_idle(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload(tenant="idle")).publish
    held = claim(ledger, job)
    assert ledger.revoke("idle", held.task.id)
    index, over = "index:tasks:idle:REVOKED", time.time() - 2 * LedgerSettings().result_expires
    ledger._redis.zadd(index, {f"gone{number}": over for number in range(250)})
    ledger._redis.zadd("trims", {index: over})
    ledger.scan()
    ledger._redis.delete("grace")
    left = []
    more = True
    while more:
        _, more = ledger.scan()
        left.append(ledger._redis.zcard(index))
    assert left == [151, 51, 1]
    assert ledger._redis.zscore("trims", index) > time.time()
    ledger._redis.zadd(index, {"t1": over})
    ledger._redis.zadd("trims", {index: over})
    ledger.scan()
    assert (ledger._redis.exists(index), ledger._redis.zscore("trims", index)) == (0, None)
