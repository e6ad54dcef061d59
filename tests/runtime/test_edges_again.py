"""Edges that come late or again: nothing that has ended moves, nothing is counted twice."""

from embedfleet.contracts.jobs import GenerateEmbeddings, ProcessDocument
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part
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
