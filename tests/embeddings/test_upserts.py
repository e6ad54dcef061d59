"""Points of many tasks in one request, with each task's own guarantees."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from tests.counts import Counts

from embedfleet.contracts.errors import DependencyDown, VectorStoreError
from embedfleet.embeddings import upserts as upserts_module
from embedfleet.embeddings.upserts import Points, Upserts
from embedfleet.runtime.worker.runs import Stopped

WAIT_SECONDS = 20


class GatedStore:
    """A store that answers only when it is let.

    Attributes:
        requests: the ids of each request.
    """

    def __init__(self) -> None:
        self.go, self.started = threading.Semaphore(0), threading.Semaphore(0)
        self.requests: list[list[str]] = []
        self.stored: dict[str, tuple[list[float], dict[str, Any]]] = {}
        self.refuses: Callable[[list[str]], Exception | None] = lambda ids: None

    def upsert(
        self, name: str, ids: Sequence[str], vectors: np.ndarray, payloads: Sequence[dict[str, Any]]
    ) -> None:
        self.requests.append(list(ids))
        self.started.release()
        assert self.go.acquire(timeout=WAIT_SECONDS)
        if error := self.refuses(list(ids)):
            raise error
        for point, vector, payload in zip(ids, vectors.tolist(), payloads, strict=True):
            self.stored[point] = (vector, payload)


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
def upserts(store: GatedStore) -> Iterator[Upserts]:
    upserts = Upserts(store)
    yield upserts
    for _ in range(100):
        store.go.release()
    upserts.close()


def points(*ids: str, name: str = "c", check: Callable[[], None] = lambda: None) -> Points:
    vectors = np.array([[float(one[1:])] for one in ids], np.float32)
    return Points(name, ids, [{"of": one} for one in ids], check, vectors)


def put(upserts: Upserts, *several: Points) -> None:
    for one in several:
        upserts.put(one)


def in_hand(upserts: Upserts, store: GatedStore) -> Points:
    """Put a request on its way, so that what is put next waits together."""
    first = points("p0")
    upserts.put(first)
    assert store.started.acquire(timeout=WAIT_SECONDS)
    return first


def test_points_of_several_tasks_are_stored_by_one_request(upserts: Upserts, store: GatedStore) -> None:
    counts, first = Counts(), in_hand(upserts, store)
    several = [points("p1", "p2"), points("p3"), points("p4")]
    put(upserts, *several)
    assert not any(one.future.done() for one in [first, *several])
    store.go.release()
    assert store.started.acquire(timeout=WAIT_SECONDS)
    assert first.future.result(WAIT_SECONDS)
    assert not any(one.future.done() for one in several)  # not before the request is answered
    store.go.release()
    assert [one.future.result(WAIT_SECONDS) for one in several] == [True] * 3
    assert store.requests == [["p0"], ["p1", "p2", "p3", "p4"]]
    assert store.stored == {f"p{n}": ([float(n)], {"of": f"p{n}"}) for n in range(5)}
    assert counts.of("fleet_upsert_seconds_count") == {(): 2}
    assert counts.of("fleet_points_total") == {(): 5}


def test_one_request_at_a_time_a_collection_and_another_one_waits_for_nobody(
    upserts: Upserts, store: GatedStore
) -> None:
    in_hand(upserts, store)
    put(upserts, points("p1"), points("p2", name="d"))
    assert store.started.acquire(timeout=WAIT_SECONDS)
    assert store.requests == [["p0"], ["p2"]]


def test_a_request_is_bounded(upserts: Upserts, store: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upserts_module, "MOST_POINTS", 3)
    in_hand(upserts, store)
    last = points("p6")
    put(upserts, points("p1", "p2"), points("p3", "p4"), points("p5"), last)
    for _ in range(4):
        store.go.release()
    assert last.future.result(WAIT_SECONDS)
    assert store.requests[1:] == [["p1", "p2"], ["p3", "p4", "p5"], ["p6"]]


def test_after_a_refused_request_each_task_is_told_to_try_alone(upserts: Upserts, store: GatedStore) -> None:
    store.refuses = lambda ids: VectorStoreError("p2 is refused") if "p2" in ids else None
    in_hand(upserts, store)
    several = [points("p1"), points("p2"), points("p3")]
    put(upserts, *several)
    store.go.release()
    store.go.release()
    assert [one.future.result(WAIT_SECONDS) for one in several] == [False] * 3
    later = points("p4")
    upserts.put(later)
    store.go.release()
    assert later.future.result(WAIT_SECONDS)


def test_while_the_store_is_down_nobody_waits_for_the_requests_of_others(
    upserts: Upserts, store: GatedStore
) -> None:
    first = in_hand(upserts, store)
    waiting = points("p1")
    upserts.put(waiting)
    store.refuses = lambda ids: DependencyDown("Qdrant", "q", "down")
    store.go.release()
    assert first.future.result(WAIT_SECONDS) is False
    assert waiting.future.result(WAIT_SECONDS) is False
    assert store.requests == [["p0"]]


def test_a_task_that_may_not_write_any_more_writes_nothing(upserts: Upserts, store: GatedStore) -> None:
    def stop() -> None:
        raise Stopped

    in_hand(upserts, store)
    lost, fine = points("p1", check=stop), points("p2")
    put(upserts, lost, fine)
    store.go.release()
    store.go.release()
    assert fine.future.result(WAIT_SECONDS)
    with pytest.raises(Stopped):
        lost.future.result(WAIT_SECONDS)
    assert store.requests == [["p0"], ["p2"]]


def test_what_is_cancelled_is_not_written_unless_it_is_on_its_way_and_then_it_is_waited_for(
    upserts: Upserts, store: GatedStore
) -> None:
    first = in_hand(upserts, store)
    waiting, last = points("p1"), points("p2")
    put(upserts, waiting, last)
    waiting.cancel()
    leaves = threading.Thread(target=first.cancel)
    leaves.start()
    leaves.join(timeout=0.05)
    assert leaves.is_alive()
    store.go.release()
    leaves.join(timeout=WAIT_SECONDS)
    assert not leaves.is_alive()
    assert "p0" in store.stored
    store.go.release()
    assert last.future.result(WAIT_SECONDS)
    assert store.requests == [["p0"], ["p2"]]
