"""What the version before this one left in Redis: it is understood, and ends as everything else."""

from collections.abc import Callable

import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.records import Part
from tests.runtime.uploads import claim, upload

PARTS = 60


def embedding(ledger: Ledger) -> str:
    """Bring a document to EMBEDDING as the version before did; return the key of the set of its tasks."""
    (job,) = ledger.accept(upload()).publish
    ledger.chunked(claim(ledger, job), [Part(f"p{number}", number, 1, "f", 5) for number in range(PARTS)], {})
    name = f"default:{upload().id}:1"
    ids = ledger._redis.zrange(f"members:{name}", 0, -1)
    assert len(ids) == PARTS
    ledger._redis.delete(f"members:{name}")
    ledger._redis.sadd(f"generation:{name}", *ids)
    return f"generation:{name}"


ENDS: dict[str, Callable[[Ledger], object]] = {
    "revoked": lambda ledger: ledger.revoke("default", "t1"),
    "deleted": lambda ledger: ledger.delete("default", upload().id, 1),
    "overtaken": lambda ledger: ledger.accept(upload("t2", content="two")),
    "failed": lambda ledger: ledger.fail(
        claim(ledger, GenerateEmbeddings(task_id="p0")), EmbeddingError("no"), retryable=False
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_tasks_of_a_document_in_work_are_closed(ledger: Ledger, end: str) -> None:
    tasks = embedding(ledger)
    ENDS[end](ledger)
    states = [ledger._redis.hget(f"task:p{number}", "state") for number in range(PARTS)]
    assert set(states) <= {"REVOKED", "FAILURE"}
    assert not ledger._redis.exists(tasks, "steps")


def test_a_document_in_work_ends_ready_and_leaves_no_list(ledger: Ledger) -> None:
    tasks = embedding(ledger)
    audit = LedgerAudit(ledger._redis, ledger._settings)
    record = ledger.document("default", upload().id)
    assert record
    assert audit.has_unfinished_task(record)
    for number in range(PARTS):
        ledger.embedded(claim(ledger, GenerateEmbeddings(task_id=f"p{number}")), {})
    (ended,) = ledger.unsettled(9)
    assert ended.state == "READY"
    assert not audit.has_unfinished_task(ended)
    ledger.settled(ended, ledger.now())
    assert not ledger._redis.exists(tasks)


def test_what_had_ended_is_settled(ledger: Ledger) -> None:
    ledger._redis.set("scanned", 1)
    (job,) = ledger.accept(upload()).publish
    ledger.chunked(claim(ledger, job), [Part("p0", 0, 1, "f", 5)], {})
    assert ledger.embedded(claim(ledger, GenerateEmbeddings(task_id="p0")), {}) is True
    ledger._redis.delete("to_settle")
    member = f"default:{upload().id}"
    ledger._redis.sadd("unsettled", member, *(f"default:gone{number}" for number in range(60)))
    more = True
    while more:
        _, more = ledger.scan()
    assert [document.task_id for page in ledger.due_to_settle(ledger.now()) for document in page] == ["t1"]
    assert not ledger._redis.exists("unsettled")
