import pytest

from embedfleet.runtime.worker.slots import IdleWatch, SlotWatch


def test_a_request_that_nobody_runs_is_found_after_the_patience() -> None:
    watch = SlotWatch(threads=2, patience=30)
    assert watch.leaked({"a", "b"}, ["a"], now=0) == []
    assert watch.leaked({"a", "b"}, ["a"], now=29) == []
    assert watch.leaked({"a", "b"}, ["a"], now=30) == ["b"]


def test_a_request_that_waits_for_a_thread_is_not_leaked() -> None:
    watch = SlotWatch(threads=1, patience=30)
    assert watch.leaked({"a", "b"}, ["a"], now=0) == []
    assert watch.leaked({"a", "b"}, ["a"], now=60) == []


def test_a_request_that_is_run_after_all_is_forgotten() -> None:
    watch = SlotWatch(threads=2, patience=30)
    watch.leaked({"a"}, [], now=0)
    assert watch.leaked({"a"}, ["a"], now=20) == []
    assert watch.leaked({"a"}, [], now=40) == []


def test_messages_that_a_free_thread_overlooks_are_found_after_the_patience() -> None:
    watch = IdleWatch(threads=2, queued=lambda: 7, patience=60)
    assert [watch.overlooked(busy=1, taken_at=0, now=now) for now in (0, 30, 59, 65)] == [0, 0, 0, 7]


@pytest.mark.parametrize(
    ("busy", "taken_at", "waiting"),
    [(2, 0, 7), (1, 50, 7), (0, 0, 0)],
    ids=["all threads run", "one was taken meanwhile", "nothing waits"],
)
def test_a_worker_that_takes_what_it_can_is_well(busy: int, taken_at: float, waiting: int) -> None:
    queued = [7]
    watch = IdleWatch(threads=2, queued=lambda: queued[0], patience=60)
    watch.overlooked(busy=0, taken_at=0, now=0)
    queued[0] = waiting
    assert [watch.overlooked(busy, taken_at, now) for now in (55, 65)] == [0, 0]


def test_redis_is_asked_every_few_seconds_only() -> None:
    asked: list[int] = []
    watch = IdleWatch(threads=2, queued=lambda: asked.append(1) or 0, patience=60)
    for now in range(20):
        watch.overlooked(busy=0, taken_at=0, now=now)
    assert len(asked) == 4
