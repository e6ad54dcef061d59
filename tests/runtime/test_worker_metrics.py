"""What a worker counts of its runs: each once, under labels from closed sets."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from prometheus_client import REGISTRY

from embedfleet.contracts.errors import DOCUMENT_CODES, RUN_CODES, DocumentProcessingError, FleetError
from embedfleet.contracts.jobs import Queue
from embedfleet.runtime.blobs import revoked_key
from embedfleet.runtime.revocations import Mark
from embedfleet.runtime.worker import metrics
from embedfleet.runtime.worker.runs import Run
from embedfleet.runtime.worker.worker import Worker
from tests.counts import Counts, values
from tests.runtime.test_worker import DOWN, finish, refusing, run, task_of
from tests.runtime.uploads import claim, upload

Ending = Callable[[Worker, Run], None]


def succeeds(worker: Worker, run: Run) -> None:
    finish(worker)(run)


def drains(worker: Worker, run: Run) -> None:
    worker.draining.set()
    run.check()


def loses_its_document(worker: Worker, run: Run) -> None:
    assert worker.ledger.revoke("default", "t1")
    run.lose()
    run.check()


def is_overtaken(worker: Worker, run: Run) -> None:
    worker.ledger._redis.hset("task:t1", "owner", "another")
    run.lose()
    run.check()


def is_revoked_at_its_end(worker: Worker, run: Run) -> None:
    mark = Mark(tenant="default", task_id="t1").model_dump_json().encode()
    worker._revocations._blobs.put(revoked_key("t1"), mark)
    worker.end(run, lambda: worker.ledger.chunked(run.claim, [], {}))


def raises(error: Exception) -> Ending:
    def work(worker: Worker, run: Run) -> None:
        raise error

    return work


def fails_while_overtaken(worker: Worker, run: Run) -> None:
    worker.ledger._redis.hset("task:t1", "owner", "another")
    raise FleetError("no sense")


def is_refused(worker: Worker, run: Run) -> None:
    raise DOWN  # though all that the worker depends on answers


@pytest.mark.parametrize(
    ("work", "state", "code"),
    [
        (succeeds, "SUCCESS", ""),
        (raises(DocumentProcessingError("page 3 is torn", code="corrupt")), "FAILURE", "corrupt"),
        (raises(ZeroDivisionError("a defect")), "RETRY", "internal"),
        (raises(FleetError("no sense", code="of_a_users_making")), "RETRY", "internal"),
        (drains, "HANDED_BACK", ""),
        (is_overtaken, "HANDED_BACK", ""),
        (fails_while_overtaken, "HANDED_BACK", ""),
        (is_refused, "HANDED_BACK", "dependency_down"),
        (loses_its_document, "REVOKED", ""),
        (is_revoked_at_its_end, "REVOKED", ""),
    ],
)
def test_a_run_ends_once(worker: Worker, work: Ending, state: str, code: str) -> None:
    counts = Counts()
    run(worker, lambda one: work(worker, one))
    assert counts.of("fleet_tasks_total") == {(code, state, "process_document"): 1}


def test_a_run_whose_dependency_is_down_is_handed_back_and_then_succeeds(worker: Worker) -> None:
    counts, answers = Counts(), [DOWN, None]

    def ask() -> None:
        if error := answers.pop(0):
            raise error

    worker._dependencies = (ask,)
    run(worker, lambda one: is_refused(worker, one))
    (job,) = worker.published  # type: ignore[attr-defined]
    worker.run(job, finish(worker), job.task_id)
    assert counts.of("fleet_tasks_total") == {
        ("dependency_down", "HANDED_BACK", "process_document"): 1,
        ("", "SUCCESS", "process_document"): 1,
    }


def test_an_end_that_redis_refuses_from_a_draining_worker_is_handed_back(worker: Worker) -> None:
    counts = Counts()
    (job,) = worker.ledger.accept(upload()).publish
    with ExitStack() as outage:

        def work(one: Run) -> None:
            outage.enter_context(refusing(worker))
            drains(worker, one)

        worker.run(job, work, job.task_id)
    assert task_of(worker).state == "STARTED"
    assert counts.of("fleet_tasks_total") == {("dependency_down", "HANDED_BACK", "process_document"): 1}


def test_a_run_that_was_revoked_before_it_began_ends_so(worker: Worker) -> None:
    counts, ran = Counts(), []
    mark = Mark(tenant="default", task_id="t1").model_dump_json().encode()
    worker._revocations._blobs.put(revoked_key("t1"), mark)
    run(worker, ran.append)
    assert (ran, counts.of("fleet_tasks_total")) == ([], {("", "REVOKED", "process_document"): 1})


def ends_shown() -> set[tuple[str, ...]]:
    shown = values(list(REGISTRY.collect()))
    return {labels for name, labels in shown if name == "fleet_tasks_total" and "process_document" in labels}


def test_all_ends_are_shown_from_the_start_and_no_others_ever(worker: Worker) -> None:
    codes = (RUN_CODES.keys() | DOCUMENT_CODES.keys()) - {"poison"}
    expected = {(code, "FAILURE") for code in codes}
    expected |= {(code, "RETRY") for code, is_retried in RUN_CODES.items() if is_retried}
    expected |= {("", "SUCCESS"), ("", "REVOKED"), ("", "HANDED_BACK"), ("dependency_down", "HANDED_BACK")}
    assert ends_shown() == {(*end, "process_document") for end in expected}
    for number in range(20):
        metrics.run_ended("embedfleet.documents.process_document_task", metrics.End("FAILURE", f"c{number}"))
    assert ends_shown() == {(*end, "process_document") for end in expected}


def test_each_stage_is_timed_once_and_the_one_that_fails_too(worker: Worker) -> None:
    counts = Counts()

    def work(one: Run) -> None:
        one.enter("parse", 60)
        one.enter("store", 60)
        finish(worker)(one)

    run(worker, work)
    assert counts.of("fleet_task_seconds_count") == {
        ("parse", "process_document"): 1,
        ("store", "process_document"): 1,
    }

    def fail(one: Run) -> None:
        one.enter("parse", 60)
        raise DocumentProcessingError("page 3 is torn", code="corrupt")

    (job,) = worker.ledger.accept(upload("t2", key="b.txt")).publish
    worker.run(job, fail, job.task_id)
    assert counts.of("fleet_task_seconds_count") == {
        ("parse", "process_document"): 2,
        ("store", "process_document"): 1,
    }


def test_the_stages_of_both_pools_are_shown_from_the_start() -> None:
    for queue in Queue:
        metrics.show(queue)
    shown = values(list(REGISTRY.collect()))
    stages = {labels for name, labels in shown if name == "fleet_task_seconds_count"}
    assert stages == {
        ("parse", "process_document"),
        ("store", "process_document"),
        ("read", "generate_embeddings"),
        ("encode", "generate_embeddings"),
    }


def test_a_wait_is_counted_at_the_first_claim_and_a_redelivery_at_each_after_it(worker: Worker) -> None:
    counts = Counts()
    worker.take(["documents"], ["documents"])
    (job,) = worker.ledger.accept(upload()).publish
    worker.ledger._redis.hset("task:t1", "created_at", worker.ledger.now() - 50)
    worker.run(job, lambda one: is_refused(worker, one), job.task_id)
    assert counts.of("fleet_task_redeliveries_total") == {}
    for job in list(worker.published):  # type: ignore[attr-defined]
        worker.run(job, finish(worker), job.task_id)
    assert counts.of("fleet_task_wait_seconds_count") == {("documents",): 1}
    assert counts.of("fleet_task_wait_seconds_sum")[("documents",)] == pytest.approx(50, abs=40)
    assert counts.of("fleet_task_redeliveries_total") == {("process_document",): 1}


def test_no_time_is_negative_though_another_redis_with_an_earlier_clock_took_over(worker: Worker) -> None:
    counts = Counts()
    (job,) = worker.ledger.accept(upload()).publish
    worker.ledger._redis.hset("task:t1", "created_at", worker.ledger.now() + 1000)
    claimed = claim(worker.ledger, job)
    metrics.claimed("documents", claimed)
    assert counts.of("fleet_task_wait_seconds_count") == {("documents",): 1}
    assert counts.of("fleet_task_wait_seconds_sum") == {}
