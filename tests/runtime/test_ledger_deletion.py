import time

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.jobs import Job
from embedfleet.contracts.states import DocumentState, TaskState
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part, Pulse
from tests.runtime.uploads import claim, upload


def ready(ledger: Ledger, document: Document) -> None:
    """Bring a document's newest generation to its end."""
    (job,) = ledger.accept(document).publish
    jobs = ledger.chunked(claim(ledger, job), [Part(f"{document.task_id}-0", 0, 1, "f")], {})
    assert jobs
    assert ledger.embedded(claim(ledger, jobs[0]), {}) is True


def keys(ledger: Ledger, document: Document) -> set[str]:
    return set(ledger._redis.scan_iter(f"*{document.id}*"))


def test_a_deleted_document_leaves_only_the_number_of_its_generation(ledger: Ledger) -> None:
    document = upload()
    ready(ledger, document)
    ledger.delete("default", document.id, 1)
    assert ledger.document("default", document.id) is None
    assert ledger.live_generations("default", [document.id]) == {}
    assert ledger.documents("default", None, 9) == ledger.documents("default", "notes", 9) == ([], 0, None)
    assert ledger.document_ids("default", "notes") == []
    assert ledger.unsettled(9) == []
    assert keys(ledger, document) == {f"deleted:default:{document.id}"}
    assert 86_400 < ledger._redis.ttl(f"deleted:default:{document.id}") <= 86_400 + 3600
    assert ledger._redis.memory_usage(f"deleted:default:{document.id}") < 1024


def test_all_unfinished_tasks_stop_and_say_why(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    jobs = ledger.chunked(claim(ledger, job), [Part("p0", 0, 1, "f"), Part("p1", 1, 1, "f")], {})
    assert jobs
    running = claim(ledger, jobs[0])
    ledger.delete("default", running.document.id, 1)
    for name in ("p0", "p1"):
        task = ledger.task("default", name)
        assert task
        assert task.error
        assert (task.state, task.error["code"]) == ("REVOKED", "deleted")
    assert ledger.beat("embeddings", "w", [Pulse("p0", running.fence, running.owner, "encode", 1, 1)]) == {
        running.owner
    }
    assert ledger.embedded(running, {}) is None
    assert ledger.claim(jobs[1], "late") == "finished"
    assert keys(ledger, running.document) == {f"deleted:default:{running.document.id}"}
    assert ledger.scan() == ([], False)
    assert 0 < ledger._redis.ttl("task:t1") <= 3600


def test_the_same_key_goes_on_with_the_next_generation(ledger: Ledger) -> None:
    document = upload("t1")
    ready(ledger, document)
    ledger.delete("default", document.id, 1)
    again = ledger.accept(upload("t2"))
    assert (again.unchanged, again.generation, len(again.publish)) == (False, 2, 1)
    record = ledger.document("default", document.id)
    assert record
    assert (record.generation, record.live_generation, record.state) == (2, 0, "QUEUED")


def test_a_newer_upload_survives_and_shows_nothing_of_what_was_deleted(ledger: Ledger) -> None:
    document = upload("t1")
    ready(ledger, document)
    (job,) = ledger.accept(upload("t2", content="two")).publish
    ledger.delete("default", document.id, 1)
    assert ledger.live_generations("default", [document.id]) == {document.id: 0}
    jobs = ledger.chunked(claim(ledger, job), [Part("p", 0, 1, "f")], {})
    assert jobs
    assert ledger.embedded(claim(ledger, jobs[0]), {}) is True
    ledger.delete("default", document.id, 1)
    assert ledger.live_generations("default", [document.id]) == {document.id: 2}
    assert ledger.documents("default", "notes", 9)[1] == 1


def test_an_older_deletion_never_lowers_the_number(ledger: Ledger) -> None:
    document = upload()
    ledger.delete("default", document.id, 3)
    ledger.delete("default", document.id, 1)
    assert ledger.deleted_through("default", document.id) == 3
    assert ledger.accept(document).generation == 4


def test_an_accept_that_is_repeated_after_the_deletion_brings_nothing_back(ledger: Ledger) -> None:
    document = upload()
    ledger.accept(document)
    ledger.delete("default", document.id, 1)
    assert ledger.accept(document).publish == []
    assert ledger.document("default", document.id) is None
    task = ledger.task("default", "t1")
    assert task
    assert task.state is TaskState.REVOKED


def test_a_deleted_record_is_not_put_back_and_a_newer_one_is(ledger: Ledger) -> None:
    document = upload().model_copy(update={"state": DocumentState.READY, "live_generation": 1})
    ledger.delete("default", document.id, 1)
    assert not ledger.restore(document)
    assert ledger.restore(document.model_copy(update={"generation": 2, "live_generation": 2}))


def test_settling_tells_that_the_document_was_deleted(ledger: Ledger) -> None:
    document = upload()
    ready(ledger, document)
    (ended,) = ledger.unsettled(9)
    assert ledger.settled(ended, ledger.now())
    ledger.delete("default", document.id, 1)
    assert not ledger.settled(ended, ledger.now())


@pytest.mark.parametrize(("state", "seconds"), [("READY", 0.5), ("READY long ago", 0.05), ("EMBEDDING", 0.5)])
def test_it_is_quiet_when_redis_has_it_on_disk_and_no_writer_is_left(
    ledger: Ledger, state: str, seconds: float
) -> None:
    short = {"lease_seconds": 0.3, "hold_seconds": 0.1, "qdrant_timeout": 0.05}
    brief = Ledger(ledger._redis, ledger._settings.model_copy(update=short))
    brief._durable_after = 0.05
    document, began = upload(), time.monotonic()
    if state == "EMBEDDING":
        jobs: list[Job] = brief.accept(document).publish
        claim(brief, jobs[0])
    else:
        ready(brief, document)
    if state == "READY long ago":
        brief._redis.hset(f"document:default:{document.id}", "updated_at", 1)
    assert not brief.delete("default", document.id, 1)
    quiet_at = float(brief._redis.hget(f"deleted:default:{document.id}", "quiet_at"))
    assert quiet_at <= brief.now() + seconds
    while not brief.delete("default", document.id, 1):
        assert time.monotonic() < began + 10
    assert time.monotonic() - began >= seconds


def test_a_foreign_document_is_not_touched(ledger: Ledger) -> None:
    document = upload(tenant="acme")
    ledger.accept(document)
    ledger.delete("default", document.id, 9)
    assert ledger.document("acme", document.id)
    assert ledger.deleted_through("acme", document.id) == 0
