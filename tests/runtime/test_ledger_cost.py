import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pytest
import redis
from benchmarks.ledger import memory, trips

from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.contracts.jobs import Job
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger, calls
from embedfleet.runtime.ledger.edges import SCAN_LIMIT
from embedfleet.runtime.ledger.records import Claim, Part
from embedfleet.runtime.ledger.redis_client import connect
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
    for number in range(110):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
        ledger._redis.hset(f"task:t{number}", "published_at", 1)
    ledger._redis.delete("grace")
    published: list[list[Job]] = []
    more = True
    while more:
        jobs, more = ledger.scan()
        published.append(jobs)
    assert [len(jobs) for jobs in published] == [SCAN_LIMIT] * 5 + [10]


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
    assert left == [251 - 2 * SCAN_LIMIT * call for call in range(1, 7)] + [1]
    assert ledger._redis.zscore("trims", index) > time.time()
    ledger._redis.zadd(index, {"t1": over})
    ledger._redis.zadd("trims", {index: over})
    ledger.scan()
    assert (ledger._redis.exists(index), ledger._redis.zscore("trims", index)) == (0, None)


PARTS = 10 * calls.SLICE


def chunked(ledger: Ledger) -> list[Claim]:
    """Return the claims of some parts of a document that has many."""
    (job,) = ledger.accept(upload()).publish
    parts = [Part(f"p{number}", number, 1, "f", 5) for number in range(PARTS)]
    jobs = ledger.chunked(claim(ledger, job), parts, {})
    assert jobs is not None
    assert [job.task_id for job in jobs] == [part.task_id for part in parts]
    return [claim(ledger, job) for job in jobs[:3]]


def dead(ledger: Ledger) -> None:
    (held, *_) = chunked(ledger)
    ledger._redis.hset(f"task:{held.task.id}", mapping={"lease_until": 1, "deaths": 9})
    ledger._redis.zadd("leases:embeddings", {held.task.id: 1})
    ledger.scan()
    ledger._redis.delete("grace")
    while ledger.scan()[1]:
        pass


ENDS: dict[str, Callable[[Ledger], object]] = {
    "chunked": chunked,
    "revoked": lambda ledger: (chunked(ledger), ledger.revoke("default", "t1")),
    "failed": lambda ledger: ledger.fail(chunked(ledger)[0], EmbeddingError("no"), retryable=False),
    "overtaken": lambda ledger: (chunked(ledger), ledger.accept(upload("t2", content="two"))),
    "deleted": lambda ledger: (chunked(ledger), ledger.delete("default", upload().id, 1)),
    "dead": dead,
}


@pytest.mark.parametrize("end", ENDS)
def test_no_call_moves_more_tasks_than_a_slice_however_many_a_document_has(
    ledger: Ledger, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    call = Ledger._call

    def counted(self: Ledger, edge: str, arguments: dict[str, object]) -> object:
        self._redis.config_resetstat()
        answer = call(self, edge, arguments)
        written.append(self._redis.info("commandstats").get("cmdstat_hset", {"calls": 0})["calls"])
        return answer

    monkeypatch.setattr(Ledger, "_call", counted)
    ENDS[end](ledger)
    # A new task is written twice: its row, and the number of its wake-up.
    assert max(written) <= 2 * calls.SLICE + 5
    assert sum(written) >= 2 * PARTS
    states = {key: ledger._redis.hget(key, "state") for key in ledger._redis.keys("task:p*")}
    assert len(states) == PARTS
    if end != "chunked":
        assert set(states.values()) <= {"REVOKED", "FAILURE"}
        assert ledger.load("default", "default").tokens == 0
    assert not ledger._redis.exists("steps")


def test_tasks_that_a_dead_parser_has_not_made_come_as_fast_as_one_scan_follows_another(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Ledger(ledger._redis, LedgerSettings(lease_seconds=600))
    patient._redis.set("scanned", 1)
    (job,) = patient.accept(upload()).publish
    monkeypatch.setattr(patient, "_go_on", lambda answer: None)
    patient.chunked(claim(patient, job), [Part(f"p{number}", number, 1, "f") for number in range(PARTS)], {})
    assert patient.scan() == ([], False), "who took the edge goes on with it"
    patient._redis.zadd("steps", {"spread:t1": 1})
    made: list[int] = []
    more = True
    while more:
        jobs, more = patient.scan()
        made.append(len(jobs))
    assert made == [calls.SLICE] * 9
    assert not patient._redis.exists("steps", "plan:t1")


class Dying:
    """Sends so many commands of each pipeline after the first `whole`, and breaks off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, whole: int, commands: int) -> None:
        pack = redis.connection.Connection.pack_commands
        sent: list[int] = []

        def packed(connection: Any, all_commands: Sequence[Any]) -> Any:
            sent.append(len(all_commands))
            if len(sent) <= whole:
                return pack(connection, all_commands)
            connection.send_packed_command(pack(connection, list(all_commands)[:commands]))
            connection.disconnect()
            raise redis.ConnectionError("it died")

        monkeypatch.setattr(redis.connection.Connection, "pack_commands", packed)


@pytest.mark.parametrize("whole", range(2))
@pytest.mark.parametrize("commands", range(1, 5))
def test_a_plan_expires_wherever_its_writer_dies(
    empty_redis: RedisServer, whole: int, commands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, client = (connect(empty_redis.url, retries=0) for _ in range(2))
    ledger = Ledger(client, LedgerSettings())
    (job,) = ledger.accept(upload()).publish
    held = claim(ledger, job)
    rows = [asdict(Part(f"p{number}", number, 1, "f")) for number in range(4 * calls.SLICE)]
    with monkeypatch.context() as patch:
        Dying(patch, whole, commands)
        with pytest.raises(DependencyDown):
            ledger._plan(held, rows)
    client.close()
    plans = watcher.keys("plan:*")
    assert all(watcher.ttl(key) > 0 for key in plans)
    assert len(plans) == whole
    watcher.close()


def test_a_plan_is_whole_though_the_client_repeats_what_it_sent(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = ledger.accept(upload()).publish
    held = claim(ledger, job)
    rows = [asdict(Part(f"p{number}", number, 1, "f")) for number in range(4 * calls.SLICE)]
    read, broken = redis.connection.Connection.read_response, ["it will be, once"]

    def answer(connection: Any, *arguments: Any, **options: Any) -> Any:
        found = read(connection, *arguments, **options)
        if found == calls.SLICE * 4 and broken:  # of the last RPUSHX
            broken.clear()
            connection.disconnect()
            raise redis.ConnectionError("it broke")
        return found

    monkeypatch.setattr(redis.connection.Connection, "read_response", answer)
    ledger._plan(held, rows)
    assert not broken
    assert ledger._redis.llen(f"plan:t1:{held.owner}") == len(rows)


def test_a_claim_carries_no_result_of_another_task(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = ledger.accept(upload()).publish
    jobs = ledger.chunked(claim(ledger, job), [Part("p", 0, 1, "f")], {"pages": ["x" * 1000]})
    assert jobs
    answers: list[dict[str, Any]] = []
    edge = Ledger._edge
    monkeypatch.setattr(Ledger, "_edge", lambda *a, **b: (answers.append(edge(*a, **b)), answers[-1])[1])
    claim(ledger, jobs[0])
    assert "result" not in answers[0]["document"]
    assert "pages" in ledger._redis.hget(f"document:default:{upload().id}", "result")
