"""The queue before the lane: bounded by bytes, fair between tasks, left at any time."""

import threading
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from lanes import WAIT_SECONDS, Gated, busy, lane_of

from embedfleet.contracts.errors import DependencyDown
from embedfleet.embeddings import submissions
from embedfleet.embeddings.submissions import RowQueue, Submission, result_of

ROW_BYTES = 4 * (10 + 3)


def submission(owner: str, rows: int = 1) -> Submission:
    ids = [array("i", [1] * 10) for _ in range(rows)]
    return Submission(owner, ids, range(rows), np.empty((rows, 3), np.float32))


def never() -> None:
    pass


def all_of(lengths: list[int]) -> list[int]:
    return list(range(len(lengths)))


class Blocked:
    """Puts a submission on a thread of its own, and tells when it waits for room."""

    def __init__(self, threads: ThreadPoolExecutor, queue: RowQueue, what: Submission) -> None:
        self.waits = threading.Event()
        self.leaves = threading.Event()
        self.done = threads.submit(queue.put, what, self._check)
        assert self.waits.wait(WAIT_SECONDS)

    def _check(self) -> None:
        self.waits.set()
        if self.leaves.is_set():
            raise InterruptedError


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    monkeypatch.setattr(submissions, "CHECK_SECONDS", 0.005)
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def queue() -> Iterator[RowQueue]:
    queue = RowQueue(most_bytes=4 * ROW_BYTES)
    yield queue
    queue.close()


def test_a_submit_waits_for_room_and_goes_on_when_the_lane_has_taken_rows(
    threads: ThreadPoolExecutor, queue: RowQueue
) -> None:
    queue.put(submission("big", 4), never)
    blocked = Blocked(threads, queue, submission("big", 2))
    assert len(queue) == 4
    queue.take(lambda lengths: [0])
    queue.take(lambda lengths: [0])
    blocked.done.result(WAIT_SECONDS)
    assert len(queue) == 4


def test_a_submit_that_waits_can_be_cancelled_and_leaves_nothing(
    threads: ThreadPoolExecutor, queue: RowQueue
) -> None:
    queue.put(submission("big", 4), never)
    leaving, staying = (Blocked(threads, queue, submission("big")) for _ in range(2))
    leaving.leaves.set()
    with pytest.raises(InterruptedError):
        leaving.done.result(WAIT_SECONDS)
    queue.take(all_of)
    staying.done.result(WAIT_SECONDS)
    assert len(queue) == 1


def test_a_closed_queue_lets_nobody_wait(threads: ThreadPoolExecutor, queue: RowQueue) -> None:
    queue.put(submission("big", 4), never)
    blocked = Blocked(threads, queue, submission("big"))
    queue.close()
    with pytest.raises(DependencyDown, match="the worker ends"):
        blocked.done.result(WAIT_SECONDS)


def test_an_owner_without_rows_is_let_in_though_it_is_full(queue: RowQueue) -> None:
    queue.put(submission("big", 4), never)
    queue.put(submission("small"), lambda: pytest.fail("it waited"))
    assert len(queue) == 5


def test_room_goes_to_the_owner_with_the_fewest_bytes_whoever_came_first(
    threads: ThreadPoolExecutor, queue: RowQueue
) -> None:
    queue.put(submission("big", 3), never)
    queue.put(submission("small", 1), never)
    big, small = (Blocked(threads, queue, submission(owner)) for owner in ("big", "small"))
    assert [row.submission.owner for row in queue.take(lambda lengths: [0]) or []] == ["big"]
    small.done.result(WAIT_SECONDS)
    assert not big.done.done()
    queue.take(all_of)
    big.done.result(WAIT_SECONDS)


def test_whose_check_takes_long_holds_nobody_up(threads: ThreadPoolExecutor, queue: RowQueue) -> None:
    queue.put(submission("big", 3), never)
    queue.put(submission("small", 1), never)
    checks, goes_on = threading.Event(), threading.Event()

    def check() -> None:
        checks.set()
        assert goes_on.wait(WAIT_SECONDS)

    slow = threads.submit(queue.put, submission("small"), check)
    assert checks.wait(WAIT_SECONDS)
    big = Blocked(threads, queue, submission("big", 2))
    try:
        queue.take(all_of)
        big.done.result(WAIT_SECONDS)
        assert not slow.done()
    finally:
        goes_on.set()
    slow.result(WAIT_SECONDS)


def test_an_owner_is_served_within_as_many_batches_as_owners_wait_whoever_comes_behind() -> None:
    queue = RowQueue(most_bytes=1000 * ROW_BYTES)
    queue.put(submission("tiny 0"), never)
    queue.put(submission("big", 40), never)
    for number in range(1, 9):
        queue.put(submission(f"tiny {number}"), never)
    served: list[str] = []
    for number in range(9, 39):  # with each batch a new owner comes
        served += [row.submission.owner for row in queue.take(lambda lengths: [0]) or []]
        queue.put(submission(f"tiny {number}"), never)
    tiny = [f"tiny {number}" for number in range(28)]
    assert [owner for owner in served if owner != "big"] == tiny[: 30 - served.count("big")]
    assert [at for at, owner in enumerate(served) if owner == "big"] == [1, 11, 22]  # 10, 11 wait


def test_what_is_withdrawn_makes_room(threads: ThreadPoolExecutor, queue: RowQueue) -> None:
    leaving, staying = submission("big", 2), submission("big", 2)
    queue.put(leaving, never)
    queue.put(staying, never)
    blocked = Blocked(threads, queue, submission("big", 2))
    queue.withdraw(leaving)
    blocked.done.result(WAIT_SECONDS)
    taken = queue.take(all_of) or []
    assert [row.submission for row in taken].count(staying) == 2
    assert all(row.submission is not leaving for row in taken)


def test_a_task_that_leaves_while_the_idle_lane_gathers_does_not_end_it(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathers = threading.Event()

    class Watched(RowQueue):
        def __len__(self) -> int:
            gathers.set()
            return super().__len__()

    monkeypatch.setattr(submissions, "GATHER_SECONDS", 0.2)
    queue = Watched(most_bytes=4 * ROW_BYTES)
    taken = threads.submit(queue.take, all_of)
    leaving, staying = submission("leaves"), submission("stays")
    queue.put(leaving, never)
    assert gathers.wait(WAIT_SECONDS)
    queue.withdraw(leaving)
    with pytest.raises(TimeoutError):
        taken.result(timeout=0.4)
    queue.put(staying, never)
    assert [row.submission for row in taken.result(WAIT_SECONDS) or []] == [staying]


def until(encoder: Gated, is_there: Callable[[], bool]) -> int:
    """Let batch after batch pass; return how many it took."""
    for count in range(1, 100):
        encoder.go.release()
        assert encoder.started.acquire(timeout=WAIT_SECONDS)
        if is_there():
            return count
    raise AssertionError("100 batches")


def test_a_document_of_6000_chunks_delays_one_of_a_single_chunk_by_a_batch(
    threads: ThreadPoolExecutor,
) -> None:
    encoder = Gated()
    lane = lane_of(encoder, cap=1024)
    busy(lane, encoder)
    waits, leaves = threading.Semaphore(0), threading.Event()

    def check() -> None:
        waits.release()
        if leaves.is_set():
            raise InterruptedError

    def part(number: int) -> None:  # 24 tasks of 250 chunks, on as many threads as there are
        for _ in range(0, 250, 25):
            lane.submit("big", [[7] * 200] * 25, check=check)

    parts = [threads.submit(part, number) for number in range(24)]
    for _ in range(50):  # the queue is full: all threads wait for room
        assert waits.acquire(timeout=WAIT_SECONDS)
    small = lane.submit("small", [[8] * 30], check=lambda: pytest.fail("it waited"))
    assert until(encoder, lambda: 8 in encoder.batches[-1]) <= 2
    encoder.open()
    assert small.future.result(WAIT_SECONDS)[:, 0].tolist() == [8]
    leaves.set()
    lane.close()
    for each in parts:
        assert isinstance(each.exception(WAIT_SECONDS), InterruptedError | DependencyDown | None)


def test_an_answer_that_comes_at_the_end_of_a_look_is_taken() -> None:
    class Late(Future[str]):
        def result(self, timeout: float | None = None) -> str:
            if timeout is not None:
                self.set_result("vectors")
                raise TimeoutError
            return super().result()

    assert result_of(Late(), never) == "vectors"


def test_a_timeout_that_is_the_answer_is_raised() -> None:
    failed = Future[str]()
    failed.set_exception(TimeoutError("of the device"))
    with pytest.raises(TimeoutError, match="of the device"):
        result_of(failed, never)
