"""What is under way, as admission and the document workers see it."""

from pathlib import Path
from typing import Any

import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import Job
from embedfleet.contracts.states import TaskState
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import BACKLOG, Ledger
from embedfleet.runtime.ledger.records import Load, Part
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import AdmissionSettings, LedgerSettings
from tests.runtime.uploads import claim, upload

LIMIT = AdmissionSettings().redis_memory_limit
# What Celery puts on the list for a job of ours, measured.
MESSAGE_BYTES = 1000
HIGH_WATER = 100


@pytest.fixture
def narrow(ledger: Ledger) -> Ledger:
    """A ledger that holds documents from 100 tokens on."""
    return Ledger(ledger._redis, LedgerSettings(embeddings_high_water=HIGH_WATER, retry_delays="0"))


def accepted(ledger: Ledger, name: str, uploaded_by: str = "default") -> Job:
    document = upload(name, key=name).model_copy(update={"uploaded_by": uploaded_by})
    (job,) = ledger.accept(document).publish
    return job


def chunked(ledger: Ledger, job: Job, *tokens: int) -> list[Job]:
    parts = [Part(f"{job.task_id}-{n}", n, 1, "f", count) for n, count in enumerate(tokens)]
    jobs = ledger.chunked(claim(ledger, job), parts, {})
    assert jobs is not None
    return jobs


def test_documents_are_counted_by_key_and_tokens_until_their_tasks_end(ledger: Ledger) -> None:
    jobs = [
        accepted(ledger, "a", "office"),
        accepted(ledger, "b", "office"),
        accepted(ledger, "c", "crawler"),
    ]
    assert ledger.load("default", "office") == Load(documents=3, documents_of_key=2, tokens=0)
    assert ledger.load("other", "office").documents_of_key == 0
    first, second = chunked(ledger, jobs[0], 30, 12)
    assert ledger.load("default", "office") == Load(3, 2, 42)
    assert ledger.embedded(claim(ledger, first), {}) is False
    assert ledger.load("default", "office") == Load(3, 2, 12)
    assert ledger.embedded(claim(ledger, second), {}) is True
    assert ledger.revoke("default", jobs[2].task_id)
    assert ledger.load("default", "office") == Load(1, 1, 0)
    document = ledger.document("default", upload(key="b").id)
    assert document
    ledger.delete("default", document.id, 1)
    assert not ledger._redis.exists("load")


def test_what_comes_back_is_counted_once(narrow: Ledger) -> None:
    (job,) = chunked(narrow, accepted(narrow, "a"), 42)
    narrow.hand_back(claim(narrow, job))
    assert narrow.load("default", "default") == Load(1, 1, 42)
    assert narrow.fail(claim(narrow, job), EmbeddingError("no"), retryable=True) is TaskState.RETRY
    assert narrow.load("default", "default") == Load(1, 1, 42)
    assert narrow.fail(claim(narrow, job), EmbeddingError("no"), retryable=False) is TaskState.FAILURE
    assert narrow.load("default", "default") == Load(0, 0, 0)


def test_a_new_generation_is_counted_for_the_key_that_it_came_with(ledger: Ledger) -> None:
    accepted(ledger, "a", "office")
    newer = upload("t2", key="a", content="two").model_copy(update={"uploaded_by": "crawler"})
    ledger.accept(newer)
    assert ledger.load("default", "office") == Load(1, 0, 0)
    assert ledger.load("default", "crawler") == Load(1, 1, 0)


def test_records_from_before_there_were_counts_are_not_taken_off(ledger: Ledger) -> None:
    job = accepted(ledger, "a")
    ledger._redis.delete("load")
    ledger._redis.hdel(f"document:default:{upload(key='a').id}", "uploaded_by")
    (part,) = chunked(ledger, job, 5)
    assert ledger.embedded(claim(ledger, part), {}) is True
    assert ledger.load("default", "default") == Load(0, 0, 0)


def test_documents_wait_from_the_high_water_mark_on_until_half_of_it_is_left(narrow: Ledger) -> None:
    jobs = [accepted(narrow, name) for name in "abc"]
    parts = chunked(narrow, jobs[0], 50, 49)
    in_hand = narrow.claim(jobs[1], "in hand")
    parts += chunked(narrow, accepted(narrow, "d"), 1)
    assert narrow.claim(jobs[2], "next") == BACKLOG
    assert narrow.pool("documents").is_held
    assert not narrow.pool("embeddings").is_held
    # What was taken before goes on; so does an answer that was lost, and every embedding task.
    assert narrow.claim(jobs[1], "in hand") == in_hand
    narrow.embedded(claim(narrow, parts[1]), {})
    assert narrow.load("default", "default").tokens == 51
    assert narrow.claim(jobs[2], "next") == BACKLOG, "below the high-water mark, above the low"
    narrow.embedded(claim(narrow, parts[2]), {})
    assert not narrow.pool("documents").is_held
    assert claim(narrow, jobs[2], "next")


def test_what_needs_no_work_is_refused_as_ever_while_documents_wait(narrow: Ledger) -> None:
    done = accepted(narrow, "a")
    chunked(narrow, done, HIGH_WATER)
    revoked = accepted(narrow, "b")
    assert narrow.claim(revoked, "w") == BACKLOG
    narrow.revoke("default", revoked.task_id)
    assert narrow.claim(revoked, "w") == narrow.claim(done, "w") == "finished"


def test_without_a_high_water_mark_nothing_waits(ledger: Ledger) -> None:
    endless = Ledger(ledger._redis, LedgerSettings(embeddings_high_water=0))
    chunked(endless, accepted(endless, "a"), 10**9)
    assert claim(endless, accepted(endless, "b"))


def test_a_redis_that_refused_at_the_limit_has_room_to_finish(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        client: Any = connect(server.url)
        ledger = Ledger(client, LedgerSettings())
        assert ledger.load("default", "default", with_memory=True).memory == 0
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 3_000_000)
        jobs: list[Job] = []
        while (ledger.load("default", "default", with_memory=True).memory or 0) < LIMIT:
            jobs += [accepted(ledger, f"{len(jobs) + n}") for n in range(20)]
            client.rpush("documents", *[b"m" * MESSAGE_BYTES] * 20)
        assert len(jobs) > 100
        for job in jobs:
            client.lpop("documents")
            for part in chunked(ledger, job, 100):
                assert ledger.embedded(claim(ledger, part), {}) is True
        assert ledger.load("default", "default") == Load(0, 0, 0)
        client.close()
