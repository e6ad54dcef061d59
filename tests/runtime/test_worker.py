import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from celery.exceptions import Reject
from prometheus_client import REGISTRY

from embedfleet.contracts.errors import DependencyDown, DocumentProcessingError, VectorStoreError
from embedfleet.contracts.jobs import Job
from embedfleet.runtime.blobs import revoked_key
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Claim, Part, Task
from embedfleet.runtime.revocations import Mark
from embedfleet.runtime.settings import LedgerSettings
from embedfleet.runtime.worker.runs import Run
from embedfleet.runtime.worker.worker import Worker
from tests.runtime.uploads import claim, given_back, upload

WAIT_SECONDS = 20
DOWN = DependencyDown("Qdrant", "127.0.0.1:6333", "refused")


def task_of(worker: Worker) -> Task:
    task = worker.ledger.task("default", "t1")
    assert task
    return task


def run(worker: Worker, work: Callable[[Run], None]) -> Task:
    (job,) = worker.ledger.accept(upload()).publish
    worker.run(job, work, job.task_id)
    return task_of(worker)


def finish(worker: Worker) -> Callable[[Run], None]:
    def work(run: Run) -> None:
        assert worker.ledger.chunked(run.claim, [Part("p", 0, 1, "f")], {"success": True}) is not None

    return work


def test_work_that_ends_is_a_success(worker: Worker) -> None:
    task = run(worker, finish(worker))
    assert (task.state, task.result) == ("SUCCESS", {"success": True})


def test_a_permanent_error_fails_at_once(worker: Worker) -> None:
    def work(run: Run) -> None:
        raise DocumentProcessingError("page 3 is torn", code="corrupt")

    task = run(worker, work)
    assert task.error
    assert (task.state, task.error["code"], task.error["detail"]) == ("FAILURE", "corrupt", "page 3 is torn")


def test_an_unexpected_error_is_retried(worker: Worker) -> None:
    def work(run: Run) -> None:
        raise ZeroDivisionError("division by zero")

    task = run(worker, work)
    assert task.error
    assert (task.state, task.attempt) == ("RETRY", 1)
    assert "ZeroDivisionError" in task.error["detail"]


def test_a_dependency_that_is_down_spends_no_attempt_and_closes_the_gate(worker: Worker) -> None:
    def work(run: Run) -> None:
        raise DOWN

    worker._dependencies = (lambda: _raise(DOWN),)
    task = run(worker, work)
    assert (task.state, task.attempt) == ("PENDING", 0)
    assert "Qdrant" in worker.gate.reason


REFUSAL = VectorStoreError("Qdrant refused the request (501)")


@pytest.mark.parametrize("error", [REFUSAL, ZeroDivisionError("a defect")])
def test_a_dependency_that_answers_and_refuses_parks_the_pool_and_spends_nothing(
    worker: Worker, error: Exception
) -> None:
    def work(run: Run) -> None:
        raise DOWN

    answers = [error, error, None]
    worker._dependencies = (lambda: _raise(answers.pop(0)),)
    task = run(worker, work)
    assert (task.state, task.attempt, worker.gate.reason) == ("PENDING", 0, str(error))
    (job,) = worker.published  # type: ignore[attr-defined]
    worker.run(job, finish(worker), job.task_id)
    assert (task_of(worker).state, answers, worker.gate.reason) == ("SUCCESS", [], "")


def test_a_task_that_a_dependency_cannot_serve_though_it_answers_spends_an_attempt(worker: Worker) -> None:
    def work(run: Run) -> None:
        raise DOWN

    (job,) = worker.ledger.accept(upload()).publish
    states = []
    for _ in range(4):
        worker.run(job, work, job.task_id)
        states.append((task_of(worker).state, task_of(worker).attempt))
    assert states == [("PENDING", 0)] * 3 + [("RETRY", 1)]
    assert worker.gate.reason == ""


def test_a_closed_gate_opens_when_all_dependencies_answer(worker: Worker) -> None:
    answers = [DOWN, DOWN, None]
    worker._dependencies = (lambda: _raise(answers.pop(0)),)
    worker.gate.close(DOWN)
    assert run(worker, finish(worker)).state == "SUCCESS"
    assert answers == []


def _raise(error: Exception | None) -> None:
    if error:
        raise error


def test_the_gate_of_an_idle_worker_opens_by_itself(worker: Worker) -> None:
    worker.gate.close(DOWN)
    worker.leases.start()
    deadline = time.monotonic() + WAIT_SECONDS
    while worker.gate.reason:
        assert time.monotonic() < deadline
    worker.leases.stop()


def test_work_in_hand_is_held_until_the_dependency_is_back(worker: Worker) -> None:
    failures = [DOWN, DOWN]

    def work(run: Run) -> None:
        worker.hold(run, lambda: _raise(failures.pop() if failures else None))
        finish(worker)(run)

    assert run(worker, work).state == "SUCCESS"
    assert worker.gate.reason == ""


def test_an_end_that_redis_refuses_for_a_while_is_held(worker: Worker, ledger: Ledger) -> None:
    def work(run: Run) -> None:
        ledger._redis.config_set("maxmemory", 1)
        threading.Timer(0.3, ledger._redis.config_set, ("maxmemory", 0)).start()
        worker.end(run, lambda: ledger.chunked(run.claim, [Part("p", 0, 1, "f")], {"success": True}))

    try:
        task = run(worker, work)
    finally:
        ledger._redis.config_set("maxmemory", 0)
    assert (task.state, task.attempt, task.fence) == ("SUCCESS", 0, 1)
    assert worker.gate.reason == ""


def with_high_water(ledger: Ledger, tokens: int) -> Ledger:
    return Ledger(ledger._redis, LedgerSettings(lease_seconds=0.5, embeddings_high_water=tokens))


@pytest.fixture
def backlog(worker: Worker) -> Iterator[Job]:
    """An embedding task that keeps the worker from taking another document."""
    worker.ledger = with_high_water(worker.ledger, 10)
    (job,) = worker.ledger.accept(upload("t0", key="large.txt")).publish
    jobs = worker.ledger.chunked(claim(worker.ledger, job), [Part("p0", 0, 1, "f", 10)], {})
    assert jobs
    worker.leases.start()
    yield jobs[0]
    worker.leases.stop()


def is_held(worker: Worker) -> bool:
    return worker.gate._is_held


def test_a_document_waits_in_hand_for_the_backlog_and_then_runs(worker: Worker, backlog: Job) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    thread = threading.Thread(target=worker.run, args=(job, finish(worker), job.task_id))
    thread.start()
    wait_until(lambda: is_held(worker))
    assert task_of(worker).state == "PENDING"
    assert worker.gate.reason == "", "no dependency is down"
    assert worker.inside, "Celery's slot is seen in use"
    assert worker.ledger.embedded(claim(worker.ledger, backlog), {}) is True
    thread.join(WAIT_SECONDS)
    assert (task_of(worker).state, task_of(worker).attempt) == ("SUCCESS", 0)
    assert not is_held(worker)
    assert worker.leases.heartbeat.was_seen


def test_a_draining_worker_waits_for_no_backlog(worker: Worker, backlog: Job) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    ends: list[BaseException] = []

    def run_rejected() -> None:
        with pytest.raises(Reject) as caught:
            worker.run(job, finish(worker), job.task_id)
        ends.append(caught.value)

    thread = threading.Thread(target=run_rejected)
    thread.start()
    wait_until(lambda: is_held(worker))
    worker.draining.set()
    thread.join(WAIT_SECONDS)
    assert ends
    assert task_of(worker).state == "PENDING"


def test_work_in_hand_waits_for_no_backlog(worker: Worker, backlog: Job) -> None:
    def work(run: Run) -> None:
        worker.gate.hold_back(True)
        worker.hold(run, lambda: None)
        finish(worker)(run)

    worker.ledger = with_high_water(worker.ledger, 0)
    assert run(worker, work).state == "SUCCESS"
    assert is_held(worker)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline


@contextmanager
def refusing(worker: Worker) -> Iterator[Callable[[], None]]:
    """Make Redis read-only until the block ends, or until what is yielded is called and a run met it."""
    client = worker.ledger._redis

    def heal() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not worker.gate.reason and time.monotonic() < deadline:
            time.sleep(0.01)
        client.execute_command("REPLICAOF", "NO", "ONE")

    healer = threading.Thread(target=heal)
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield healer.start
    finally:
        if healer.ident:
            healer.join(timeout=WAIT_SECONDS)
        client.execute_command("REPLICAOF", "NO", "ONE")


def deaths(worker: Worker) -> int:
    return int(worker.ledger._redis.hget("task:t1", "deaths"))


def test_an_end_that_redis_refuses_for_a_while_is_handed_back_without_a_death(worker: Worker) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    with ExitStack() as outage:

        def work(run: Run) -> None:
            outage.enter_context(refusing(worker))()
            finish(worker)(run)

        worker.run(job, work, job.task_id)
    assert (task_of(worker).state, deaths(worker)) == ("PENDING", 0)


def test_a_task_over_its_time_limit_fails_so_though_redis_refuses_that_for_a_while(worker: Worker) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    with ExitStack() as outage:

        def work(run: Run) -> None:
            outage.enter_context(refusing(worker))()
            run._ends_at = 0
            run.check()

        worker.run(job, work, job.task_id)
    task = task_of(worker)
    assert task.error
    assert (task.state, task.error["code"]) == ("FAILURE", "time_limit")


def test_a_stage_without_progress_is_one_of_its_tasks_tries(worker: Worker) -> None:
    def work(run: Run) -> None:
        run.enter("parse", patience=-1)
        worker.leases._beat()
        run.enter("store", patience=60)  # too late
        run.check()

    task = run(worker, work)
    assert task.error
    assert (task.state, task.attempt, task.error["code"]) == ("RETRY", 1, "stalled")
    assert "the stage parse made no progress" in task.error["detail"]


@pytest.mark.parametrize(
    "error", [None, DOWN, ZeroDivisionError("division by zero")], ids=["drain", "parking", "failure"]
)
def test_what_redis_refuses_from_a_draining_worker_is_given_back_by_the_janitor_without_a_death(
    worker: Worker, error: Exception | None
) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    with ExitStack() as outage:

        def work(run: Run) -> None:
            outage.enter_context(refusing(worker))
            worker.draining.set()
            _raise(error)
            run.check()

        worker.run(job, work, job.task_id)
        assert task_of(worker).state == "STARTED"
    (again,) = given_back(worker._hand_backs)
    assert (task_of(worker).state, task_of(worker).attempt, deaths(worker)) == ("PENDING", 0, 0)
    assert isinstance(worker.ledger.claim(again, "the next worker"), Claim)
    assert given_back(worker._hand_backs) == []


def test_a_draining_worker_hands_back_what_it_holds(worker: Worker) -> None:
    def work(run: Run) -> None:
        worker.draining.set()
        run.check()

    task = run(worker, work)
    assert (task.state, task.attempt) == ("PENDING", 0)
    assert [job.task_id for job in worker.published] == ["t1"]  # type: ignore[attr-defined]


def test_a_draining_worker_claims_nothing(worker: Worker) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    worker.draining.set()
    with pytest.raises(Reject):
        worker.run(job, finish(worker), job.task_id)
    assert task_of(worker).state == "PENDING"


def test_a_revoked_run_is_told_within_a_beat(worker: Worker) -> None:
    worker.leases.start()
    told = threading.Event()

    def work(run: Run) -> None:
        assert worker.ledger.revoke("default", "t1")
        deadline = threading.Timer(WAIT_SECONDS, lambda: None)
        deadline.start()
        while deadline.is_alive() and not run.is_lost:
            pass
        deadline.cancel()
        told.set() if run.is_lost else None
        run.check()

    assert run(worker, work).state == "REVOKED"
    assert told.is_set()
    worker.leases.stop()


def test_a_run_without_progress_loses_its_lease(ledger: Ledger, worker: Worker) -> None:
    worker.leases.start()
    taken_over: list[Job] = []

    def hang(run: Run) -> None:
        run.enter("parse", patience=0.1)
        while not taken_over:
            taken_over.extend(ledger.scan()[0])
        assert run.is_lost
        run.check()

    run(worker, hang)
    assert [job.task_id for job in taken_over] == ["t1"]
    worker.leases.stop()


def test_progress_keeps_a_long_run_alive(worker: Worker) -> None:
    worker.leases.start()
    lease = 0.5

    def work(run: Run) -> None:
        run.enter("parse", patience=lease)
        waited = threading.Event()
        for page in range(10):
            waited.wait(lease / 4)
            run.progress(page, 10)
            assert worker.ledger.scan()[0] == []
        finish(worker)(run)

    assert run(worker, work).state == "SUCCESS"
    worker.leases.stop()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cost": 7}, "newer"),
        ({"sequence": "many"}, "malformed"),
        ({"sequence": "many", "cost": 7}, "malformed"),
    ],
)
def test_a_message_that_this_version_cannot_read_is_dropped_and_its_task_waits_for_one_that_can(
    worker: Worker, change: dict[str, object], reason: str
) -> None:
    (job,) = worker.ledger.accept(upload()).publish
    before = REGISTRY.get_sample_value("fleet_messages_dropped_total", {"reason": reason}) or 0
    worker.receive(type(job), job.model_dump() | change, finish(worker), job.task_id)
    assert REGISTRY.get_sample_value("fleet_messages_dropped_total", {"reason": reason}) == before + 1
    assert (task_of(worker).state, task_of(worker).fence) == ("PENDING", 0)
    worker.receive(type(job), job.model_dump(), finish(worker), job.task_id)
    assert task_of(worker).state == "SUCCESS"


def test_a_revocation_that_redis_lost_is_taken_again_before_the_task_runs(
    worker: Worker, ledger: Ledger
) -> None:
    (job,) = ledger.accept(upload()).publish
    document = ledger.document("default", upload().id)
    assert document
    dump = ledger._redis.dump(f"task:{job.task_id}"), ledger._redis.dump(f"document:default:{document.id}")
    assert worker._revocations.revoke(document)
    for key, value in zip((f"task:{job.task_id}", f"document:default:{document.id}"), dump, strict=True):
        ledger._redis.restore(key, 0, value, replace=True)
    assert task_of(worker).state == "PENDING"
    ran: list[Run] = []
    worker.run(job, ran.append, job.task_id)
    assert (ran, task_of(worker).state) == ([], "REVOKED")


def test_a_revocation_that_redis_lost_is_taken_again_before_the_task_ends(
    worker: Worker, ledger: Ledger
) -> None:
    def work(run: Run) -> None:
        worker._revocations._blobs.put(
            revoked_key("t1"), Mark(tenant="default", task_id="t1").model_dump_json().encode()
        )
        worker.end(run, lambda: ledger.chunked(run.claim, [Part("p", 0, 1, "f")], {"success": True}))

    assert run(worker, work).state == "REVOKED"
