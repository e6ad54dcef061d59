"""How the queues are: what waits, who takes it, and that it costs as little with many tasks as with few."""

from collections.abc import Iterator
from typing import Any

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import EmbeddingError
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import BACKLOG, Ledger
from embedfleet.runtime.ledger.queues import Overview, QueueState
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, upload

LEASE = 30


@pytest.fixture
def ledger(empty_redis: RedisServer) -> Iterator[Ledger]:
    """A ledger with a queue for large files, and leases that no test outlives."""
    client = connect(empty_redis.url)
    yield Ledger(client, LedgerSettings(document_queues="documents-large=1000", lease_seconds=LEASE))
    client.close()


def queue(ledger: Ledger, name: str = "documents") -> QueueState:
    (found,) = [one for one in ledger.overview().queues if one.name == name]
    return found


def make_old(ledger: Ledger, task_id: str, seconds: float) -> None:
    """Let a task have come to wait so long ago."""
    ledger._redis.zadd("index:tasks:default:PENDING", {task_id: ledger.now() - seconds})


def test_nothing_waits_and_nobody_works(ledger: Ledger) -> None:
    assert ledger.overview() == Overview(
        (
            QueueState("documents", 0, 0, 0, 0, 0, None, held=False),
            QueueState("embeddings", 0, 0, 0, 0, 0, 0, held=None),
            QueueState("documents-large", 0, 0, 0, 0, 0, None, held=False),
        ),
        due=0,
        last_round=0,
        searchable=(),
    )


def test_every_queue_is_counted_apart(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload("t1")).publish
    ledger.accept(upload("big", key="b.txt").model_copy(update={"size_bytes": 1000}))
    assert ledger.chunked(claim(ledger, job), [Part("p", 0, 1, "f", 70)], {})
    for name, messages in (("documents-large", 2), ("embeddings", 1)):
        ledger._redis.lpush(name, *["a message"] * messages)
    make_old(ledger, "big", 100)
    make_old(ledger, "p", 200)
    assert (queue(ledger).depth, queue(ledger).oldest_age) == (0, 0)
    large, embeddings = queue(ledger, "documents-large"), queue(ledger, "embeddings")
    assert (large.depth, large.inflight, large.tokens) == (2, 0, None)
    assert (embeddings.depth, embeddings.inflight, embeddings.tokens) == (1, 0, 70)
    assert 100 <= large.oldest_age < 150
    assert 200 <= embeddings.oldest_age < 250


def test_the_oldest_is_the_first_that_is_not_claimed(ledger: Ledger) -> None:
    (first,) = ledger.accept(upload("t1", key="1.txt")).publish
    ledger.accept(upload("t2", key="2.txt"))
    make_old(ledger, "t1", 500)
    make_old(ledger, "t2", 50)
    assert 500 <= queue(ledger).oldest_age < 550
    claim(ledger, first)
    assert 50 <= queue(ledger).oldest_age < 100
    assert queue(ledger).inflight == 1
    ledger._redis.delete("task:t2")  # a row that is gone is no task that waits
    assert queue(ledger).oldest_age == 0


def test_a_message_that_is_written_anew_makes_no_task_younger(ledger: Ledger) -> None:
    ledger.accept(upload())
    make_old(ledger, "t1", 500)
    ledger._redis.hset("task:t1", "published_at", 1)
    ledger._redis.set("scanned", 1)
    jobs, _ = ledger.scan()
    assert [job.task_id for job in jobs] == ["t1"]
    assert 500 <= queue(ledger).oldest_age < 550


def test_a_retry_waits_from_when_it_may_run(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    ledger.fail(claim(ledger, job), EmbeddingError("no"), retryable=True)
    assert (queue(ledger).oldest_age, ledger.overview().due) == (0, 0)
    at = ledger.now() - 40
    ledger._redis.hset("task:t1", "next_at", at)
    ledger._redis.zadd("due", {"t1": at})
    assert (queue(ledger).oldest_age, ledger.overview().due) == (0, 1), "its message isn't written yet"
    ledger._redis.set("scanned", 1)
    ledger.scan()
    assert ledger.overview().due == 0
    assert 40 <= queue(ledger).oldest_age < 90


def test_document_queues_are_held_until_the_embedding_workers_have_caught_up(ledger: Ledger) -> None:
    def held(of: Ledger) -> dict[str, bool | None]:
        return {one.name: one.held for one in of.overview().queues}

    settings = {"document_queues": "documents-large=1000"}
    narrow = Ledger(ledger._redis, LedgerSettings(**settings, embeddings_high_water=70))
    (first,) = narrow.accept(upload("t1", key="1.txt")).publish
    (second,) = narrow.accept(upload("t2", key="2.txt")).publish
    (part,) = narrow.chunked(claim(narrow, first), [Part("p", 0, 1, "f", 70)], {}) or []
    assert held(narrow) == {"documents": False, "documents-large": False, "embeddings": None}, "nobody asked"
    assert narrow.claim(second, "worker") == BACKLOG
    assert held(narrow) == {"documents": True, "documents-large": True, "embeddings": None}
    endless = Ledger(ledger._redis, LedgerSettings(**settings, embeddings_high_water=0))
    assert held(endless)["documents"] is False, "the mark was taken away meanwhile"
    narrow.embedded(claim(narrow, part), {})
    assert held(narrow)["documents"] is False


def ready(ledger: Ledger, task_id: str, *, seconds: float, key: str = "a.txt") -> Document:
    """Bring a document that was uploaded so long ago through both pools."""
    document = upload(task_id, key=key, content=task_id)
    document = document.model_copy(update={"uploaded_at": seconds and ledger.now() - seconds})
    (job,) = ledger.accept(document).publish
    (part,) = ledger.chunked(claim(ledger, job), [Part(f"{task_id}-p", 0, 1, "f")], {}) or []
    held = claim(ledger, part)
    assert ledger.embedded(held, {}) is True
    assert ledger.embedded(held, {}) is False, "its answer was lost"
    return document


def test_each_document_that_became_ready_is_told_once(ledger: Ledger) -> None:
    ready(ledger, "t1", seconds=300)
    ready(ledger, "t2", seconds=7)  # uploaded again before the first was settled
    gone = ready(ledger, "t3", seconds=40, key="b.txt")
    ledger.delete("default", gone.id, 1)
    record = ledger.document("default", upload().id)
    assert record
    ledger._redis.delete(f"document:default:{record.id}")
    assert ledger.restore(record), "which was counted before"
    assert ledger.overview().searchable == (), "people who look take nothing"
    taken = ledger.overview(take=True).searchable
    assert [round(seconds, -1) for seconds in taken] == [300, 10, 40]
    assert ledger.overview(take=True).searchable == ()
    assert not ledger._redis.exists("searchable")


def test_what_tells_no_time_of_upload_is_not_counted_and_no_age_is_negative(ledger: Ledger) -> None:
    ready(ledger, "t1", seconds=0)  # as a version before accepted it
    assert ledger.overview(take=True).searchable == ()
    ready(ledger, "t2", seconds=-1000)  # another Redis with an earlier clock took over
    assert ledger.overview(take=True).searchable == (0,)


def test_without_anybody_who_counts_the_list_stays_short(ledger: Ledger) -> None:
    ledger._redis.rpush("searchable", *range(6000))
    ready(ledger, "t1", seconds=300)
    kept = ledger.overview(take=True).searchable
    assert (len(kept), kept[0], round(kept[-1])) == (5000, 1001, 300)


def test_a_redis_that_takes_no_writes_still_tells_and_loses_nothing(ledger: Ledger) -> None:
    ready(ledger, "t1", seconds=300)
    ledger._redis.replicaof("127.0.0.1", 1)
    try:
        assert ledger.overview(take=True) == ledger.overview()
    finally:
        ledger._redis.replicaof("no", "one")
    assert len(ledger.overview(take=True).searchable) == 1


def test_it_costs_no_more_with_many_tasks(ledger: Ledger) -> None:
    def commands() -> dict[str, int]:
        ledger._redis.config_resetstat()
        ledger.overview()
        return {name: one["calls"] for name, one in ledger._redis.info("commandstats").items()}

    ledger.accept(upload("t0", key="0.txt"))
    ledger.overview()  # loads the script
    few = commands()
    for number in range(1, 200):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
    assert commands() == few


def test_a_full_redis_still_tells(ledger: Ledger) -> None:
    ledger.accept(upload())
    ledger._redis.config_set("maxmemory", 1)
    try:
        assert queue(ledger).oldest_age > 0
        assert ledger.memory_share() > 1
    finally:
        ledger._redis.config_set("maxmemory", 0)
    assert ledger.memory_share() == 0


def presence(ledger: Ledger, name: str = "documents") -> tuple[int, int]:
    found = queue(ledger, name)
    return found.consumers, found.parked


def test_workers_are_counted_with_those_that_are_parked(ledger: Ledger) -> None:
    ledger.beat("documents", "one", [])
    ledger.beat("documents", "two", [], parked="Qdrant")
    ledger.beat("documents-large", "three", [])
    assert presence(ledger) == (2, 1)
    assert presence(ledger, "documents-large") == (1, 0)
    assert presence(ledger, "embeddings") == (0, 0)
    ledger.beat("documents", "two", [])
    assert presence(ledger) == (2, 0)


def test_a_pool_waits_for_a_dependency_when_all_of_it_does(ledger: Ledger) -> None:
    def waits() -> bool:
        pool = ledger.pool("documents")
        return pool.parked >= pool.workers > 0

    for name in ("one", "two"):
        ledger.beat("documents", name, [])
    assert not waits()
    ledger.beat("documents", "one", [], parked="Qdrant")
    assert not waits()
    ledger.beat("documents", "two", [], parked="Qdrant")
    assert waits()
    ledger.beat("documents", "one", [])
    assert not waits()


def test_one_that_takes_nothing_more_is_gone_at_once(ledger: Ledger) -> None:
    for name in ("one", "two"):
        ledger.beat("documents", name, [], parked="Qdrant")
    ledger.beat("documents", "one", [], parked="Qdrant", takes=False)
    assert presence(ledger) == (1, 1)
    ledger.beat("documents", "two", [], takes=False)
    assert presence(ledger) == (0, 0)
    assert ledger._redis.keys("*workers:*") == []


def test_one_that_died_counts_for_a_lease_and_is_pruned_by_the_next(ledger: Ledger) -> None:
    keys = ("workers:documents", "parked_workers:documents")

    def die(ago: float) -> None:
        for key in keys:
            ledger._redis.zadd(key, {"dead": ledger.now() - ago})

    die(LEASE - 5)
    assert presence(ledger) == (1, 1)
    die(LEASE + 1)
    assert presence(ledger) == (0, 0)
    die(4 * LEASE + 1)
    ledger.beat("documents", "alive", [], parked="Qdrant")
    members: list[Any] = [ledger._redis.zrange(key, 0, -1) for key in keys]
    assert members == [["alive"], ["alive"]]
    assert all(0 < ledger._redis.ttl(key) <= 4 * LEASE for key in keys), "no key outlives the last worker"
