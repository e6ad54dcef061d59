import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from lanes import BAD, INFINITE, NOT_A_NUMBER, WAIT_SECONDS, Gated, Room, busy, lane_of, sizing_of
from prometheus_client import REGISTRY

from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.embeddings import lane as lane_module
from embedfleet.embeddings import shortage, submissions
from embedfleet.embeddings.lane import Lane
from embedfleet.embeddings.memory import MemoryModel
from embedfleet.embeddings.shortage import Shortage, Shortages
from embedfleet.embeddings.submissions import Row, RowQueue, Submission


@pytest.fixture
def encoder() -> Gated:
    return Gated()


@pytest.fixture
def lane(encoder: Gated) -> Iterator[Lane]:
    lane = lane_of(encoder)
    yield lane
    encoder.open()
    lane.close()


def firsts(submission: Submission) -> list[float]:
    return submission.future.result(timeout=WAIT_SECONDS)[:, 0].tolist()


def metric(name: str) -> float:
    value = REGISTRY.get_sample_value(name)
    assert value is not None, name
    return value


def test_tasks_that_wait_share_a_batch_and_each_gets_its_own_vectors(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    first, second = lane.submit("t1", [[1], [2]]), lane.submit("t2", [[3]])
    encoder.open()
    assert firsts(first) == [1, 2]
    assert firsts(second) == [3]
    assert list(map(sorted, encoder.batches)) == [[0], [1, 2, 3]]


def test_no_rows_are_no_vectors(lane: Lane) -> None:
    assert lane.submit("t3", []).future.result(timeout=0).shape == (0, 3)


def test_a_cancelled_task_takes_only_its_rows_along(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    leaving, staying = lane.submit("t4", [[1]]), lane.submit("t5", [[2]])
    lane.cancel(leaving)
    encoder.open()
    assert firsts(staying) == [2]
    assert encoder.batches == [[0], [2]]


def test_a_failing_batch_fails_its_task_and_the_lane_goes_on(lane: Lane, encoder: Gated) -> None:
    encoder.open()
    with pytest.raises(EmbeddingError, match="chunk 9: this row breaks the encoder"):
        lane.submit("t6", [[BAD]], numbers=[9]).future.result(timeout=WAIT_SECONDS)
    assert firsts(lane.submit("t7", [[5]])) == [5]


def test_a_bad_row_fails_its_own_task_and_not_its_neighbours(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    good, bad = lane.submit("good", [[1], [2]]), lane.submit("bad", [[3], [BAD]])
    encoder.open()
    with pytest.raises(EmbeddingError, match="chunk 1: this row breaks the encoder"):
        bad.future.result(timeout=WAIT_SECONDS)
    assert firsts(good) == [1, 2]


@pytest.mark.parametrize("bad", [NOT_A_NUMBER, INFINITE])
def test_a_vector_that_is_none_fails_its_own_task_alone_and_nothing_is_encoded_twice(
    lane: Lane, encoder: Gated, bad: int
) -> None:
    busy(lane, encoder)
    good, ill = lane.submit("good", [[1], [2]]), lane.submit("ill", [[3], [bad]], numbers=[40, 41])
    encoder.open()
    with pytest.raises(EmbeddingError, match=r"chunk 41: .* NaN or infinity"):
        ill.future.result(timeout=WAIT_SECONDS)
    assert firsts(good) == [1, 2]
    assert list(map(sorted, encoder.batches)) == [[0], [1, 2, 3, bad]]


def test_a_failed_task_is_not_computed_any_further(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    ill = lane.submit("ill", [[NOT_A_NUMBER] * 64, *[[1] * 64] * 5])
    last = lane.submit("last", [[2] * 64])
    for _ in range(3):
        encoder.go.release()
    with pytest.raises(EmbeddingError):
        ill.future.result(timeout=WAIT_SECONDS)
    for _ in range(3):
        assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert metric("fleet_submit_queue_rows") == 0
    encoder.open()
    assert firsts(last) == [2]
    assert firsts(lane.submit("later", [[3]])) == [3]
    # The third is the lane's own: whether the device serves any row.
    assert [batch[0] for batch in encoder.batches] == [0, NOT_A_NUMBER, 0, 2, 3]


def test_a_small_task_is_not_starved_by_a_big_one(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    lane.submit("t8", [[7] * 16] * 400)
    small = lane.submit("t9", [[8] * 2])
    while 8 not in encoder.batches[-1]:
        encoder.go.release()
        assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert len(encoder.batches) <= 3
    encoder.go.release()
    assert firsts(small) == [8]


def test_a_closed_lane_takes_nothing(encoder: Gated) -> None:
    lane = lane_of(encoder)
    lane.close()
    with pytest.raises(DependencyDown, match="the worker ends"):
        lane.submit("t10", [[1]])


def test_rows_that_ran_out_of_memory_are_tried_again_at_once_in_halves() -> None:
    room = Room(40)
    encoder = Gated(room)
    lane = lane_of(encoder, cap=64, room=room, model=MemoryModel(0, 0.5, 0))  # half of what it takes
    ooms, splits = metric("fleet_oom_total"), metric("fleet_batch_splits_total")
    busy(lane, encoder)
    first = lane.submit("first", [[n] * 8 for n in range(1, 9)])
    second = lane.submit("second", [[9] * 8])
    encoder.open()
    assert firsts(first) == list(range(1, 9))
    assert firsts(second) == [9]
    assert encoder.shapes[1] == (8, 8)
    again = [row for batch in encoder.batches[2:-1] for row in batch]
    assert sorted(again) == sorted(encoder.batches[1])  # before the row that it had left
    assert max(rows for rows, _ in encoder.shapes[2:]) <= 4
    assert metric("fleet_oom_total") == ooms + 1
    assert metric("fleet_batch_splits_total") == splits + 1
    assert encoder.given_back >= 1
    lane.close()


def test_a_batch_has_no_more_rows_than_memory_allows() -> None:
    room = Room(100)
    encoder = Gated(room)
    lane = lane_of(encoder, cap=4096, room=room)
    busy(lane, encoder)
    ten = lane.submit("ten", [[n] * 20 for n in range(1, 11)])
    encoder.open()
    assert firsts(ten) == list(range(1, 11))
    assert encoder.shapes[1:] == [(4, 20), (4, 20), (2, 20)]  # 85 of 100 bytes are for a batch
    lane.close()


def test_a_row_that_never_fits_fails_alone_with_the_sizes_in_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortage, "MEMORY_PATIENCE_SECONDS", 0.0)
    room = Room(100)
    encoder = Gated(room)
    lane = lane_of(encoder, cap=4096, room=room)
    busy(lane, encoder)
    large, small = lane.submit("large", [[1] * 200], numbers=[3]), lane.submit("small", [[2] * 50])
    encoder.open()
    with pytest.raises(EmbeddingError, match="chunk 3: a chunk of 200 tokens does not fit") as caught:
        large.future.result(timeout=WAIT_SECONDS)
    assert caught.value.code == "out_of_memory"
    assert firsts(small) == [2]
    assert (1, 200) not in encoder.shapes
    lane.close()


def test_while_nothing_fits_the_lane_waits_for_its_neighbours() -> None:
    room = Room(10)
    encoder = Gated(room)
    lane = lane_of(encoder, cap=4096, room=room)
    busy(lane, encoder)
    row = lane.submit("row", [[4] * 50])
    encoder.open()
    with pytest.raises(TimeoutError):
        row.future.result(timeout=3 * lane_module.MEMORY_CHECK_SECONDS)
    assert lane.busy_seconds < WAIT_SECONDS  # it looks again and again
    room.size = 100
    assert firsts(row) == [4]
    assert encoder.shapes == [(1, 1), (1, 50)]
    lane.close()


def short_lane(monkeypatch: pytest.MonkeyPatch) -> tuple[Lane, Gated, Room, list[float]]:
    """Return a lane that is busy while others take its device, and its clock: waiting passes its time."""
    room, now = Room(100), [0.0]
    encoder = Gated(room)

    def clock() -> float:
        return now[0]

    lane = Lane(encoder, sizing_of(encoder, 4096, room, clock=clock), 0, clock)

    def rest(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(lane._queue, "pause", rest)
    busy(lane, encoder)
    room.size = 10
    now[0] = 1.0
    return lane, encoder, room, now


def test_what_neighbours_leave_no_room_for_is_handed_back_after_one_minute_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane, encoder, _, now = short_lane(monkeypatch)
    parts = [lane.submit(f"part {n}", [[4] * (50 + n % 7), [5] * 20]) for n in range(200)]
    encoder.open()
    for part in parts:
        error = part.future.exception(WAIT_SECONDS)
        assert isinstance(error, DependencyDown)
        assert "not even for one chunk of 5" in error.detail
    assert now[0] == pytest.approx(1 + shortage.MEMORY_PATIENCE_SECONDS, abs=1)
    lane.close()


def test_short_rows_are_encoded_while_long_ones_are_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, encoder, _, now = short_lane(monkeypatch)
    parts = [(lane.submit(f"long {n}", [[4] * 50]), lane.submit(f"short {n}", [[5] * 8])) for n in range(50)]
    encoder.open()
    for long, short in parts:
        assert isinstance(long.future.exception(WAIT_SECONDS), DependencyDown)
        assert firsts(short) == [5]
    assert now[0] == pytest.approx(1 + shortage.MEMORY_PATIENCE_SECONDS, abs=1)
    lane.close()


def test_the_lane_says_for_how_long_others_hold_the_memory_and_waits_anew_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane, encoder, room, now = short_lane(monkeypatch)
    lane.outages.check()
    row = lane.submit("row", [[4] * 50])
    encoder.open()
    assert isinstance(row.future.exception(WAIT_SECONDS), DependencyDown)
    with pytest.raises(DependencyDown, match="one chunk of 50 tokens"):
        lane.outages.check()
    room.size = 49
    with pytest.raises(DependencyDown):
        lane.outages.check()
    room.size = 50
    lane.outages.check()
    room.size, began = 10, now[0]
    lane.outages.check()  # nobody was refused since
    again = lane.submit("again", [[4] * 50])
    assert isinstance(again.future.exception(WAIT_SECONDS), DependencyDown)
    assert now[0] == pytest.approx(began + shortage.MEMORY_PATIENCE_SECONDS, abs=1)
    lane.close()


def test_a_lane_that_waits_for_memory_is_not_down_before_its_minute_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane, encoder, room, now = short_lane(monkeypatch)
    asked: list[float] = []

    def rest(seconds: float) -> None:
        now[0] += 20.0
        lane.outages.check()
        asked.append(now[0])
        if len(asked) == 2:
            room.size = 100

    monkeypatch.setattr(lane._queue, "pause", rest)
    row = lane.submit("row", [[4] * 50])
    encoder.open()
    assert firsts(row) == [4]
    assert asked == [21.0, 41.0]
    lane.close()


class AskedBetween(Shortages):
    """What a lane knows whose pool asks at the moment at which a thread has read that there is no room."""

    ask: Callable[[], None] | None = None

    @property
    def _short(self) -> Shortage | None:
        short: Shortage | None = self.__dict__.get("_short")
        ask, self.ask = self.ask, None
        if ask:
            ask()
        return short

    @_short.setter
    def _short(self, short: Shortage | None) -> None:
        self.__dict__["_short"] = short


def test_a_pool_that_sees_room_while_the_lane_refuses_a_row_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane, encoder, room, _ = short_lane(monkeypatch)
    lane.outages.shortages = asked = AskedBetween(lane._clock)
    refused = lane.submit("refused", [[4] * 50])
    encoder.open()
    assert isinstance(refused.future.exception(WAIT_SECONDS), DependencyDown)

    def ask() -> None:
        room.size = 100
        lane.outages.check()

    asked.ask = ask
    assert firsts(lane.submit("next", [[5] * 50])) == [5]
    assert asked.ask is None
    lane.close()


def test_a_minute_that_nobody_waited_to_the_end_is_forgotten_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane, encoder, _, now = short_lane(monkeypatch)
    waits = threading.Event()

    def leave(seconds: float) -> None:
        now[0] += seconds
        lane.cancel(revoked)
        waits.set()

    with monkeypatch.context() as patched:
        patched.setattr(lane._queue, "pause", leave)
        revoked = lane.submit("revoked", [[4] * 50])
        encoder.open()
        assert waits.wait(WAIT_SECONDS)
        assert firsts(lane.submit("shorter", [[5] * 8])) == [5]
    now[0] = began = 3600.0
    again = lane.submit("again", [[4] * 50])
    assert isinstance(again.future.exception(WAIT_SECONDS), DependencyDown)
    assert now[0] == pytest.approx(began + shortage.MEMORY_PATIENCE_SECONDS, abs=1)
    lane.close()


def test_an_idle_lane_gathers_its_first_batch(
    lane: Lane, encoder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(lane, encoder)
    monkeypatch.setattr(submissions, "GATHER_SECONDS", float(WAIT_SECONDS))
    is_idle, wait_for = threading.Event(), lane._queue._arrived.wait_for

    def watched(*arguments: Any) -> bool:
        is_idle.set()
        return wait_for(*arguments)

    monkeypatch.setattr(lane._queue._arrived, "wait_for", watched)
    encoder.open()
    assert is_idle.wait(WAIT_SECONDS)
    for n in range(1, submissions.THIN_ROWS):
        lane.submit(f"t{n}", [[n]])
    assert not encoder.started.acquire(timeout=0.2)
    lane.submit("the last", [[submissions.THIN_ROWS]])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert encoder.shapes == [(1, 1), (submissions.THIN_ROWS, 1)]


def test_an_idle_lane_gives_memory_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "IDLE_SECONDS", 0.0)
    encoder = Gated()
    given_back = threading.Semaphore(0)
    monkeypatch.setattr(encoder, "give_back", given_back.release)
    lane = lane_of(encoder)
    encoder.open()
    assert given_back.acquire(timeout=WAIT_SECONDS)
    assert firsts(lane.submit("t", [[1]])) == [1]
    assert given_back.acquire(timeout=WAIT_SECONDS)
    lane.close()
    assert not given_back.acquire(timeout=0)


def test_a_busy_lane_gives_no_memory_back(lane: Lane, encoder: Gated) -> None:
    busy(lane, encoder)
    rows = lane.submit("t", [[1] * 64] * 20)
    encoder.open()
    assert len(firsts(rows)) == 20
    assert encoder.given_back == 0


def test_a_lane_that_cannot_give_memory_back_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "IDLE_SECONDS", 0.0)
    encoder = Gated()
    failed = threading.Semaphore(0)

    def fail() -> None:
        failed.release()
        raise EmbeddingError("the GPU no longer answers")

    monkeypatch.setattr(encoder, "give_back", fail)
    lane = lane_of(encoder)
    encoder.open()
    assert failed.acquire(timeout=WAIT_SECONDS)
    assert firsts(lane.submit("t", [[1]])) == [1]
    lane.close()


def test_a_single_row_that_should_fit_fails_after_three_tries_and_alone() -> None:
    room = Room(30)
    encoder = Gated(room)
    lane = lane_of(encoder, cap=64, room=room, model=MemoryModel(0, 0.5, 0))
    busy(lane, encoder)
    doomed, fine = lane.submit("doomed", [[5] * 40]), lane.submit("fine", [[6] * 4])
    encoder.open()
    with pytest.raises(EmbeddingError) as caught:
        doomed.future.result(timeout=WAIT_SECONDS)
    assert caught.value.code == "out_of_memory"
    assert firsts(fine) == [6]
    assert encoder.shapes.count((1, 40)) == 3
    lane.close()


def test_good_vectors_are_delivered_though_memory_cannot_be_given_back(
    lane: Lane, encoder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*batch: object) -> None:
        raise EmbeddingError("the GPU no longer answers")

    monkeypatch.setattr(lane._sizing, "passed", fail)
    busy(lane, encoder)
    several = lane.submit("t", [[1], [2]])
    encoder.open()
    assert firsts(several) == [1, 2]
    assert list(map(sorted, encoder.batches)) == [[0], [1, 2]]


def test_an_encoder_that_returns_a_row_too_few_is_asked_again_row_by_row(
    lane: Lane, encoder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(lane, encoder)
    whole = encoder.encode
    monkeypatch.setattr(
        encoder, "encode", lambda ids, lengths: whole(ids, lengths)[: len(ids) - (len(ids) > 1)]
    )
    several = lane.submit("t", [[1], [2]])
    encoder.open()
    assert firsts(several) == [1, 2]
    assert firsts(lane.submit("u", [[3]])) == [3]


def test_what_goes_wrong_in_the_lane_ends_its_rows_and_never_the_lane(
    lane: Lane, encoder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(lane, encoder)

    def fail(*part: object) -> None:
        raise RuntimeError("a defect")

    encoder.open()
    with monkeypatch.context() as patched:
        patched.setattr(lane, "_deliver", fail)
        with pytest.raises(EmbeddingError, match="a defect"):
            lane.submit("t", [[1]]).future.result(timeout=WAIT_SECONDS)
    assert firsts(lane.submit("u", [[3]])) == [3]
    assert not lane.has_died


class Streams(Gated):
    """An encoder of two streams, in which a batch computes until its first row is let."""

    streams = 2

    def __init__(self, room: Room | None = None) -> None:
        super().__init__(room)
        self.open()
        self._let = {row: threading.Event() for row in range(16)}

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        vectors = super().encode(token_ids, lengths)
        assert self._let[int(token_ids[0, 0])].wait(WAIT_SECONDS)
        return vectors

    def let(self, *rows: int) -> None:
        for row in rows:
            self._let[row].set()


def test_batches_compute_side_by_side_and_none_waits_for_the_other() -> None:
    encoder, now = Streams(), [0.0]
    lane = Lane(encoder, sizing_of(encoder, clock=lambda: now[0]), 0, lambda: now[0])
    rows = lane.submit("t", [[row] * 64 for row in (1, 2, 3)])
    for _ in range(2):
        assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert sorted(encoder.batches) == [[1], [2]]
    now[0] = 5.0
    encoder.let(2)
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    now[0] = 7.0
    assert encoder.batches[2] == [3]
    assert lane.busy_seconds == 7.0  # of the first, which is in hand yet
    encoder.let(1, 3)
    assert firsts(rows) == [1, 2, 3]
    lane.close()
    assert lane.busy_seconds == math.inf


def test_idle_threads_share_a_few_rows_and_a_busy_one_has_none_kept_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle, await_rows = threading.Semaphore(0), RowQueue._await_rows

    def watched(queue: RowQueue, seconds: float | None) -> bool:
        idle.release()  # with the lock, which a submit gets only when this thread waits
        return await_rows(queue, seconds)

    monkeypatch.setattr(RowQueue, "_await_rows", watched)
    encoder = Streams()
    lane = lane_of(encoder)
    for _ in range(2):
        assert idle.acquire(timeout=WAIT_SECONDS)
    rows = lane.submit("t", [[row] for row in range(1, 11)])
    for _ in range(2):
        assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert encoder.shapes == [(5, 1), (5, 1)]
    held, leaving = sorted(min(batch) for batch in encoder.batches)
    encoder.let(leaving)
    assert idle.acquire(timeout=WAIT_SECONDS)
    more = lane.submit("u", [[row] for row in range(11, 15)])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    assert encoder.shapes[2] == (4, 1)
    encoder.let(held, 11)
    assert firsts(rows) == list(range(1, 11))
    assert firsts(more) == [11, 12, 13, 14]
    lane.close()


def test_a_row_that_runs_out_of_memory_is_given_up_though_batches_pass_beside_it() -> None:
    room = Room(30)
    encoder = Streams(room)
    encoder.let(*range(16))
    lane = lane_of(encoder, room=room, model=MemoryModel(0, 0.5, 0))
    doomed, fine = lane.submit("doomed", [[5] * 40]), lane.submit("fine", [[6] * 4] * 2000)
    with pytest.raises(EmbeddingError) as caught:
        doomed.future.result(timeout=WAIT_SECONDS)
    assert caught.value.code == "out_of_memory"
    assert encoder.shapes.count((1, 40)) == 3
    assert len(firsts(fine)) == 2000
    lane.close()


def test_memory_that_takes_long_to_be_given_back_holds_no_task_up(
    lane: Lane, encoder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    giving, may_end = threading.Event(), threading.Event()

    def give_back() -> None:
        giving.set()
        assert may_end.wait(WAIT_SECONDS)

    monkeypatch.setattr(lane._sizing, "_give_back", give_back)
    with ThreadPoolExecutor(1) as pool:
        resting = pool.submit(lane._sizing.rest)
        assert giving.wait(WAIT_SECONDS)
        encoder.open()
        assert firsts(lane.submit("t", [[1]])) == [1]
        may_end.set()
        resting.result(WAIT_SECONDS)


def test_a_batch_beside_which_a_thread_was_idle_tells_the_tuner_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Streams()
    lane = lane_of(encoder)
    typical: list[tuple[int, bool]] = []
    monkeypatch.setattr(lane._sizing, "passed", lambda *batch: typical.append((batch[1], batch[-1])))
    first = lane.submit("t", [[1] * 60])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    second = lane.submit("u", [[2] * 61, [3] * 62])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    encoder.let(2)
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    encoder.let(1, 3)
    assert (firsts(first), firsts(second)) == ([1], [2, 3])
    lane.close()
    assert dict(typical)[60] is False
    assert dict(typical)[61] is True


def test_each_row_is_delivered_once_by_several_threads() -> None:
    encoder = Streams()
    encoder.let(*range(16))
    lane = lane_of(encoder, cap=4)
    owners = {f"t{n}": [[row] for row in np.random.default_rng(n).integers(0, 16, 60)] for n in range(8)}
    submissions = {owner: lane.submit(owner, rows) for owner, rows in owners.items()}
    for owner, rows in owners.items():
        assert firsts(submissions[owner]) == [row for (row,) in rows]
    assert sum(len(batch) for batch in encoder.batches) == 480
    lane.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_whose_thread_has_ended_says_so_unless_it_was_closed() -> None:
    encoder = Gated()
    encoder.streams = 2
    lane, closed = lane_of(encoder), lane_of(encoder)
    one_ends, is_ending, ended = threading.Semaphore(1), threading.Event(), list[threading.Thread]()

    def end(*arguments: Any) -> list[Row] | None:
        if one_ends.acquire(blocking=False):
            ended.append(threading.current_thread())
            is_ending.set()
            raise SystemExit
        return take(*arguments)

    closed.close()
    assert not closed.has_died
    take, lane._queue.take = lane._queue.take, end  # type: ignore[method-assign, assignment]
    encoder.open()
    lane.submit("t", [[1]])
    assert is_ending.wait(WAIT_SECONDS)
    ended[0].join(WAIT_SECONDS)
    assert lane.has_died
    lane.close()


def test_what_the_lane_does_is_counted(lane: Lane, encoder: Gated) -> None:
    before = {name: metric(name) for name in ("fleet_tokens_total", "fleet_batch_tokens_sum")}
    waits = metric("fleet_lane_wait_seconds_count")
    busy(lane, encoder)
    rows = lane.submit("t", [[1] * 10, [2] * 8])
    assert metric("fleet_submit_queue_rows") == 2
    encoder.open()
    assert firsts(rows) == [1, 2]
    assert firsts(lane.submit("u", [[3]])) == [3]  # the batch before is counted by now
    assert metric("fleet_tokens_total") == before["fleet_tokens_total"] + 1 + 18 + 1
    assert metric("fleet_batch_tokens_sum") == before["fleet_batch_tokens_sum"] + 1 + 20 + 1
    assert metric("fleet_lane_wait_seconds_count") == waits + 3
    assert metric("fleet_padding_ratio") == pytest.approx(2 / 22, rel=0.1)
    assert 0 < metric("fleet_lane_busy_ratio") <= 1
    assert metric("fleet_token_budget") == 256  # one row over the cap of 64 is always allowed
    assert metric("fleet_submit_queue_rows") == 0
