import time
from collections.abc import Callable

import pytest

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown, DocumentProcessingError, EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings, Job, ProcessDocument
from embedfleet.contracts.states import DocumentState, TaskState
from embedfleet.local.ports import free_ports
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part, Pulse
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import claim, upload

DEADLINE_SECONDS = 10


def embedding_jobs(ledger: Ledger, document: Document, parts: int) -> list[Job]:
    (job,) = ledger.accept(document).publish
    pieces = [Part(f"{document.task_id}-{n}", n, 4, f"chunks/{n}") for n in range(parts)]
    jobs = ledger.chunked(claim(ledger, job), pieces, {"success": True})
    assert jobs is not None
    return jobs


def until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not found():
        assert time.monotonic() < deadline, "it never came"


def state_of(ledger: Ledger, document: Document) -> DocumentState:
    record = ledger.document(document.tenant, document.id)
    assert record
    return record.state


def test_a_document_goes_from_upload_to_ready(ledger: Ledger) -> None:
    document = upload()
    jobs = embedding_jobs(ledger, document, parts=2)
    assert [type(job) for job in jobs] == [GenerateEmbeddings, GenerateEmbeddings]
    first, second = (claim(ledger, job, f"w{n}") for n, job in enumerate(jobs))
    assert ledger.embedded(first, {}) is False
    assert state_of(ledger, document) is DocumentState.EMBEDDING
    assert ledger.embedded(second, {}) is True
    record = ledger.document("default", document.id)
    assert record
    assert (record.state, record.live_generation, record.chunk_count, record.chunks_done) == (
        "READY",
        1,
        8,
        8,
    )
    assert [found.id for found in ledger.unsettled(10)] == [document.id]


def test_a_task_is_run_by_one_owner_only(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    held = claim(ledger, job, "a")
    assert ledger.claim(job, "b") == "held"
    again = claim(ledger, job, "a")  # its answer was lost and it asks again
    assert again.fence == held.fence == 1


def test_an_unknown_task_is_refused(ledger: Ledger) -> None:
    assert ledger.claim(ProcessDocument(task_id="nobody"), "a") == "unknown"
    ledger.accept(upload())
    assert ledger.claim(GenerateEmbeddings(task_id="t1"), "a") == "foreign"


def test_a_finished_task_is_refused(ledger: Ledger) -> None:
    jobs = embedding_jobs(ledger, upload(), parts=1)
    assert ledger.embedded(claim(ledger, jobs[0]), {}) is True
    assert ledger.claim(jobs[0], "late") == "finished"


def test_an_expired_lease_is_published_again_and_its_owner_is_fenced_off(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    stale = claim(ledger, job, "dead")
    published: list[Job] = []
    until(lambda: published.extend(ledger.scan()[0]) or published)
    fresh = claim(ledger, published[0], "alive")
    assert fresh.fence == 2
    assert ledger.beat("documents", "dead", [Pulse("t1", stale.fence, stale.owner, "parse", 1, 2)]) == {
        stale.owner
    }
    assert ledger.chunked(stale, [Part("p", 0, 1, "f")], {}) is None
    assert ledger.fail(stale, EmbeddingError("late"), retryable=False) is None
    assert ledger.hand_back(stale) == []
    assert ledger.chunked(fresh, [Part("p", 0, 1, "f")], {}) is not None


def test_a_beat_keeps_the_lease_and_shows_progress(ledger: Ledger) -> None:
    (job, _) = embedding_jobs(ledger, upload(), parts=2)
    held = claim(ledger, job)
    assert (
        ledger.beat("embeddings", "w", [Pulse(job.task_id, held.fence, held.owner, "encode", 3, 4)]) == set()
    )
    task = ledger.task("default", job.task_id)
    record = ledger.document("default", held.document.id)
    assert task
    assert record
    assert (task.stage, task.done, task.total, record.chunks_done) == ("encode", 3, 4, 3)


def test_a_task_whose_workers_all_die_is_poison(ledger: Ledger) -> None:
    document = upload()
    jobs: list[Job] = list(ledger.accept(document).publish)
    deaths = 0
    deadline = time.monotonic() + DEADLINE_SECONDS
    while state_of(ledger, document) is not DocumentState.FAILED:
        assert time.monotonic() < deadline
        if jobs:
            claim(ledger, jobs.pop(), f"victim-{deaths}")
            deaths += 1
        jobs += ledger.scan()[0]
    record = ledger.document("default", document.id)
    assert record
    assert record.error
    assert (deaths, record.error["code"]) == (3, "poison")


def test_an_unexpected_error_is_retried_as_often_as_there_are_delays(ledger: Ledger) -> None:
    document = upload()
    jobs: list[Job] = list(ledger.accept(document).publish)
    states: list[TaskState | None] = []
    for _ in range(3):
        until(lambda: jobs or jobs.extend(ledger.scan()[0]) or jobs)
        states.append(ledger.fail(claim(ledger, jobs.pop()), EmbeddingError("again"), retryable=True))
    assert states == ["RETRY", "RETRY", "FAILURE"]
    assert state_of(ledger, document) is DocumentState.FAILED


def test_a_retry_is_not_claimed_before_its_time(ledger: Ledger) -> None:
    slow = Ledger(ledger._redis, LedgerSettings(retry_delays="60"))
    (job,) = slow.accept(upload()).publish
    assert slow.fail(claim(slow, job), EmbeddingError("later"), retryable=True) is TaskState.RETRY
    assert slow.claim(job, "eager") == "early"
    assert slow.scan()[0] == []


def test_a_permanent_error_fails_the_document_once_and_its_siblings_with_it(ledger: Ledger) -> None:
    document = upload()
    first, second = embedding_jobs(ledger, document, parts=2)
    running = claim(ledger, second, "sibling")
    error = DocumentProcessingError("broken", code="corrupt")
    assert ledger.fail(claim(ledger, first), error, retryable=False) is TaskState.FAILURE
    assert state_of(ledger, document) is DocumentState.FAILED
    assert ledger.embedded(running, {}) is None
    sibling = ledger.task("default", second.task_id)
    assert sibling
    assert sibling.error
    assert (sibling.state, sibling.error["code"]) == ("REVOKED", "document_failed")


def test_revoking_any_task_revokes_the_document_and_all_its_tasks(ledger: Ledger) -> None:
    document = upload()
    first, second = embedding_jobs(ledger, document, parts=2)
    running = claim(ledger, first)
    assert ledger.revoke("default", second.task_id)
    assert not ledger.revoke("default", second.task_id)
    assert state_of(ledger, document) is DocumentState.REVOKED
    assert ledger.claim(second, "w") == "finished"
    assert ledger.beat(
        "embeddings", "w", [Pulse(first.task_id, running.fence, running.owner, "encode", 1, 4)]
    ) == {running.owner}
    assert ledger.embedded(running, {}) is None
    assert ledger.hand_back(running) is None


def test_the_same_upload_again_changes_nothing(ledger: Ledger) -> None:
    document = upload("t1")
    ledger.accept(document)
    again = ledger.accept(upload("t2"))
    assert (again.unchanged, again.task_id, again.generation, again.publish) == (True, "t1", 1, [])


def test_another_upload_under_the_key_is_a_new_generation_and_the_old_stays_live(ledger: Ledger) -> None:
    document = upload("t1")
    (job,) = embedding_jobs(ledger, document, parts=1)
    ledger.embedded(claim(ledger, job), {})
    changed = ledger.accept(upload("t2", content="two"))
    assert (changed.unchanged, changed.generation) == (False, 2)
    assert ledger.live_generations("default", [document.id]) == {document.id: 1}
    assert ledger.revoke("default", "t2")
    assert ledger.live_generations("default", [document.id]) == {document.id: 1}


def test_a_newer_upload_takes_the_place_of_an_unfinished_one(ledger: Ledger) -> None:
    (old,) = ledger.accept(upload("t1")).publish
    running = claim(ledger, old)
    ledger.accept(upload("t2", content="two"))
    assert ledger.chunked(running, [Part("p", 0, 1, "f")], {}) is None
    superseded = ledger.task("default", "t1")
    assert superseded
    assert superseded.error
    assert (superseded.state, superseded.error["code"]) == ("REVOKED", "superseded")


def test_a_drained_task_is_handed_back_unspent(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    (again,) = ledger.hand_back(claim(ledger, job))
    task = ledger.task("default", "t1")
    assert task
    assert (task.state, task.attempt, again.sequence) == ("PENDING", 0, 2)
    assert claim(ledger, again, "next").fence == 2


def test_a_lost_wake_up_is_published_again_and_a_waiting_one_is_not_doubled(ledger: Ledger) -> None:
    ledger.accept(upload())
    ledger._redis.lpush("documents", "a message that nobody took")
    seen: list[Job] = []
    ledger._redis.hset("task:t1", "published_at", 1)
    until(lambda: seen.extend(ledger.scan()[0]) or not ledger._redis.exists("grace"))
    seen.extend(ledger.scan()[0])
    assert seen == []
    ledger._redis.delete("documents")
    until(lambda: seen.extend(ledger.scan()[0]) or seen)
    assert [job.task_id for job in seen] == ["t1"]


def test_leases_that_ran_out_while_redis_was_away_are_not_deaths_at_once(ledger: Ledger) -> None:
    (job,) = ledger.accept(upload()).publish
    ledger.scan()
    held = claim(ledger, job)
    ledger._redis.delete("scanned", "grace")  # as after an outage: nobody scanned, nobody could beat
    ledger._redis.hset("task:t1", "lease_until", 1)
    ledger._redis.zadd("leases:documents", {"t1": 1})
    assert ledger.scan() == ([], False)
    assert ledger.beat("documents", "w", [Pulse("t1", held.fence, held.owner, "parse", 0, 0)]) == set()


def test_a_backlog_does_not_delay_what_died(ledger: Ledger) -> None:
    ledger.scan()
    (job,) = ledger.accept(upload(key="first.txt")).publish
    claim(ledger, job)
    for number in range(600):
        ledger.accept(upload(f"t-{number}", key=f"{number}.txt"))
    ledger._redis.lpush("documents", "a message")
    published: list[Job] = []
    until(lambda: published.extend(ledger.scan()[0]) or published)
    assert [found.task_id for found in published] == ["t1"]


def test_the_document_task_is_shown_until_its_document_has_ended(ledger: Ledger) -> None:
    document = upload()
    (job,) = embedding_jobs(ledger, document, parts=1)
    assert ledger._redis.ttl("task:t1") == -1
    ledger.embedded(claim(ledger, job), {})
    assert 0 < ledger._redis.ttl("task:t1") <= LedgerSettings().result_expires


def test_a_full_redis_is_a_dependency_down_in_a_script_too(ledger: Ledger) -> None:
    ledger._redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(DependencyDown):
            ledger.accept(upload())
    finally:
        ledger._redis.config_set("maxmemory", 0)


def test_nothing_is_seen_across_tenants(ledger: Ledger) -> None:
    document = upload(tenant="acme")
    ledger.accept(document)
    assert ledger.task("default", "t1") is None
    assert ledger.document("default", document.id) is None
    assert not ledger.revoke("default", "t1")
    assert ledger.tasks("default", list(TaskState), 10) == ([], 0, None)
    assert ledger.documents("default", None, 10) == ([], 0, None)
    assert ledger.documents("acme", "notes", 10)[1] == 1


def test_tasks_are_listed_by_state_newest_first(ledger: Ledger) -> None:
    for number in range(3):
        ledger.accept(upload(f"t{number}", key=f"{number}.txt"))
    claim(ledger, ProcessDocument(task_id="t0"))
    tasks, total, _ = ledger.tasks("default", [TaskState.PENDING], 1)
    assert ([task.id for task in tasks], total) == (["t2"], 2)
    assert [task.id for task in ledger.tasks("default", [TaskState.STARTED], 9)[0]] == ["t0"]


def test_an_expired_task_is_known_to_have_existed(ledger: Ledger) -> None:
    brief = Ledger(ledger._redis, LedgerSettings(result_expires=1))
    brief.accept(upload())
    brief.revoke("default", "t1")
    until(lambda: brief.task("default", "t1") is None)
    assert brief.has_expired("default", "t1")
    assert not brief.has_expired("other", "t1")
    assert not brief.has_expired("default", "never")


def test_redis_down_is_a_dependency_down_that_names_the_address_without_its_password() -> None:
    port = free_ports(1)[0]
    client = connect(f"redis://:secret@127.0.0.1:{port}/0", timeout=0.2, retries=0)
    down = Ledger(client, LedgerSettings(), address=f"127.0.0.1:{port}/0")
    with pytest.raises(DependencyDown, match=f"127.0.0.1:{port}") as caught:
        down.accept(upload())
    assert "secret" not in str(caught.value)


def test_the_same_upload_again_leaves_the_task_of_a_document_in_work_where_it_is(ledger: Ledger) -> None:
    document = upload()
    embedding_jobs(ledger, document, parts=1)
    assert ledger.accept(upload()).publish == []
    assert ledger._redis.ttl(f"task:{document.task_id}") == -1
    assert ledger.revoke("default", document.task_id)


def test_a_task_that_ends_well_shows_no_error_of_an_earlier_try(ledger: Ledger) -> None:
    (job,) = embedding_jobs(ledger, upload(), parts=1)
    assert ledger.fail(claim(ledger, job), EmbeddingError("again"), retryable=True) is TaskState.RETRY
    again = list[Job]()
    until(lambda: again.extend(ledger.scan()[0]) or again)
    assert ledger.embedded(claim(ledger, again[0]), {}) is True
    task = ledger.task("default", job.task_id)
    assert task
    assert (task.state, task.error) == ("SUCCESS", None)


def test_a_redis_without_the_replicas_that_it_must_have_is_down_and_no_defect(ledger: Ledger) -> None:
    ledger._redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(DependencyDown, match="NOREPLICAS"):
            ledger.accept(upload())
        with pytest.raises(DependencyDown, match="NOREPLICAS"):
            ledger.ping()
    finally:
        ledger._redis.config_set("min-replicas-to-write", 0)


def test_a_task_whose_details_have_expired_is_shown_and_listed_when_its_upload_comes_again(
    ledger: Ledger,
) -> None:
    document = upload()
    (job,) = embedding_jobs(ledger, document, parts=1)
    assert ledger.embedded(claim(ledger, job), {}) is True
    ledger._redis.delete(f"task:{document.task_id}")
    ledger._redis.zrem("index:tasks:default:SUCCESS", document.task_id)
    assert ledger.accept(upload()).publish == []
    assert ledger.task("default", document.task_id)
    listed = ledger.tasks("default", [TaskState.SUCCESS], 9).items
    assert {task.id for task in listed} == {document.task_id, job.task_id}
