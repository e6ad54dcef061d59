"""Edges that come late or again: nothing that has ended moves, nothing is counted twice."""

from collections.abc import Callable

import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings, ProcessDocument
from embedfleet.runtime.ledger import Ledger, calls
from embedfleet.runtime.ledger.records import Claim, Part, Pulse
from tests.runtime.uploads import claim, upload


def test_an_upload_that_was_overtaken_is_not_taken_again(ledger: Ledger) -> None:
    first, second = upload("t1"), upload("t2", content="two")
    ledger.accept(first)
    ledger.accept(second)
    again = ledger.accept(first)
    assert (again.unchanged, again.publish) == (True, [])
    old, new = ledger.task("default", "t1"), ledger.task("default", "t2")
    assert old
    assert new
    assert (old.state, new.state) == ("REVOKED", "PENDING")


def test_the_task_of_an_overtaken_document_expires(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload("t1")).publish
    ledger.chunked(claim(ledger, job), [Part("p", 0, 1, "f")], {})
    assert ledger._redis.ttl("task:t1") == -1
    ledger.accept(upload("t2", content="two"))
    assert ledger._redis.ttl("task:t1") > 0


def test_a_generation_is_above_all_whose_points_may_be_there(ledger: Ledger) -> None:
    assert ledger.accept(upload("t1"), above=6).generation == 7
    assert ledger.accept(upload("t2", content="two"), above=3).generation == 8


def test_a_message_with_another_number_says_nothing_of_the_queue(ledger: Ledger) -> None:
    for number in range(3):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
    ledger.claim(ProcessDocument(task_id="t0", sequence=99), "w")
    assert ledger._redis.hget("queue:documents", "claimed") is None


def test_a_live_run_is_not_buried_while_redis_was_away(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    held = claim(ledger, job)
    ledger._redis.hset("task:t1", "lease_until", 1)
    ledger._redis.set("grace", 1, px=10_000)
    assert ledger.claim(job, "another") == "held"
    ledger._redis.delete("grace")
    assert claim(ledger, job, "another").fence == held.fence + 1


def test_what_was_settled_late_for_an_older_end_is_settled_once_more(ledger: Ledger) -> None:
    ended = []
    for task_id, content in (("t1", "one"), ("t2", "two")):
        (job,) = ledger.accept(upload(task_id, content=content)).publish
        jobs = ledger.chunked(claim(ledger, job), [Part(f"{task_id}-p", 0, 1, "f")], {})
        assert jobs
        assert ledger.embedded(claim(ledger, GenerateEmbeddings(task_id=f"{task_id}-p")), {}) is True
        record = ledger.document("default", upload().id)
        assert record
        ended.append(record)
    older, newer = ended
    ledger.settled(newer, ledger.now())
    assert ledger.unsettled(9) == []
    ledger.settled(older, ledger.now())
    assert [document.generation for document in ledger.unsettled(9)] == [2]


WRITES: dict[str, Callable[[Ledger, Claim], object]] = {
    "beat": lambda ledger, held: (
        ledger.beat("embeddings", "w", [Pulse(held.task.id, held.fence, held.owner, "x", 1, 1)]) or None
    ),
    "embedded": lambda ledger, held: ledger.embedded(held, {}),
    "fail": lambda ledger, held: ledger.fail(held, EmbeddingError("no"), retryable=False),
    "hand_back": lambda ledger, held: ledger.hand_back(held) or None,
}


@pytest.mark.parametrize("write", WRITES)
def test_a_task_that_is_not_closed_yet_is_refused_like_one_that_is(
    ledger: Ledger, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SLICE", 1)
    narrow = Ledger(ledger._redis, ledger._settings)
    (job,) = narrow.accept(upload()).publish
    jobs = narrow.chunked(claim(narrow, job), [Part(f"p{number}", number, 1, "f") for number in range(4)], {})
    assert jobs
    running = claim(narrow, jobs[3])
    monkeypatch.setattr(narrow, "_go_on", lambda answer: None)  # who revokes it dies at once
    assert narrow.revoke("default", "t1")
    states = [task.state for number in range(4) if (task := narrow.task("default", f"p{number}"))]
    assert states == ["REVOKED", "PENDING", "PENDING", "STARTED"]
    answer = WRITES[write](narrow, running)
    assert answer == ({running.owner} if write == "beat" else None)
    assert narrow.claim(jobs[2], "w") == "revoked"
    record = narrow.document("default", running.document.id)
    assert record
    assert (record.state, record.chunks_done) == ("REVOKED", 0)
    while narrow._redis.exists("steps"):
        narrow.scan()
        narrow._redis.delete("grace")
    for number in range(4):
        task = narrow.task("default", f"p{number}")
        assert task
        assert task.error
        assert (task.state, task.error["code"]) == ("REVOKED", "revoked")
