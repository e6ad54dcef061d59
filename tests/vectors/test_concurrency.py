"""One store serves many threads; workers that create a collection at once don't hurt each other."""

import threading
import uuid
from collections.abc import Callable

import numpy as np
import pytest

from embedfleet.contracts.errors import VectorStoreError
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors import VectorStore
from embedfleet.vectors.store import INDEXES

DIM, THREADS = 8, 64
DEADLINE = 60


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` to `work(count - 1)` in threads that start together; raise what the first raised."""
    barrier, errors = threading.Barrier(count), list[BaseException]()

    def run(number: int) -> None:
        try:
            barrier.wait(DEADLINE)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_64_threads_write_and_read_through_one_store(store: VectorStore, name: str) -> None:
    def work(number: int) -> None:
        document = str(uuid.UUID(int=number))
        ids = [str(uuid.UUID(int=number * 1000 + n)) for n in range(20)]
        vectors = np.random.default_rng(number).standard_normal((20, DIM)).astype(np.float32)
        payloads = [{"document_id": document, "generation": 1, "chunk_index": n} for n in range(20)]
        store.ensure_collection(name, DIM)
        for _ in range(3):
            store.upsert(name, ids, vectors, payloads)
        hits = store.search(name, vectors[7], 3, [document])
        assert hits[0].payload["chunk_index"] == 7
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert store.count(name, document, 1) == 20

    at_once(THREADS, work)
    assert store.count(name) == THREADS * 20


def test_workers_create_a_collection_at_once(store: VectorStore, name: str) -> None:
    stores = [VectorStore(VectorSettings(url=store.address)) for _ in range(8)]
    at_once(8, lambda number: stores[number].ensure_collection(name, DIM))
    info = store._client.get_collection(name)
    assert set(info.payload_schema) == set(INDEXES)
    for each in stores:
        with pytest.raises(VectorStoreError) as caught:
            each.ensure_collection(name, DIM + 1)
        assert caught.value.code == "dimension_mismatch"
        each.close()


def test_an_index_that_a_dead_worker_left_out_is_added(store: VectorStore, name: str) -> None:
    store._create(name, DIM)
    store.ensure_collection(name, DIM)
    assert set(store._client.get_collection(name).payload_schema) == set(INDEXES)


def test_deleting_a_collection_under_load_harms_nobody(store: VectorStore, name: str) -> None:
    ids = [str(uuid.UUID(int=n)) for n in range(50)]
    vectors = np.ones((50, DIM), np.float32)
    payloads = [{"document_id": "d", "generation": 1}] * 50

    def work(number: int) -> None:
        for _ in range(10):
            if number == 0:
                store._client.delete_collection(name)
                continue
            try:
                store.upsert(name, ids, vectors, payloads)
            except VectorStoreError as error:
                if error.code != "collection_absent":  # it was dropped again between two calls
                    raise
            assert len(store.search(name, vectors[0], 5)) in {0, 5}

    store.ensure_collection(name, DIM)
    at_once(6, work)
    store.ensure_collection(name, DIM)
    store.upsert(name, ids, vectors, payloads)
    assert store.count(name) == 50


def test_an_absent_collection_has_nothing(store: VectorStore) -> None:
    name = f"absent__{uuid.uuid4().hex}"
    assert store.search(name, np.ones(DIM, np.float32), 5) == []
    assert store.count(name, "d", 1) == 0
    assert store.stored(name, [str(uuid.uuid4())]) == set()
    assert store.vectors_by_hash(name, "d", 1, "m", "fp32", ["h"]) == {}
    store.delete_generations(name, "d")
    store.upsert(name, [], np.ones((0, DIM), np.float32), [])
    assert not store._client.collection_exists(name)
