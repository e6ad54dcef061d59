from embedfleet.runtime.worker.slots import SlotWatch


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
