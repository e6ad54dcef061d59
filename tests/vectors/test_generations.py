"""Which generations of a document a delete takes, said outright: the oracle shares the store's filters."""

import uuid

import numpy as np
import pytest

from embedfleet.contracts.errors import VectorStoreError
from embedfleet.vectors import VectorStore


@pytest.mark.parametrize(
    ("keep", "through", "left"),
    [
        (None, None, []),
        (2, None, [2]),
        (0, None, []),
        (9, None, []),
        (2, 3, [2, 4]),
        (0, 2, [3, 4]),
        (None, 3, [4]),
        (4, 4, [4]),
        (1, 0, [1, 2, 3, 4]),
    ],
)
def test_a_delete_takes_what_it_should(
    store: VectorStore, name: str, keep: int | None, through: int | None, left: list[int]
) -> None:
    store.ensure_collection(name, 4)
    payloads = [
        {"document_id": document, "generation": generation}
        for document in ("mine", "other")
        for generation in (1, 2, 3, 4)
    ]
    store.upsert(name, [str(uuid.uuid4()) for _ in payloads], np.ones((8, 4), np.float32), payloads)
    store.delete_generations(name, "mine", keep=keep, through=through)
    assert [n for n in range(10) if store.count(name, "mine", n)] == left
    assert store.count(name, "mine") == len(left)
    assert store.count(name, "other") == 4


def test_search_keeps_to_documents_and_metadata(store: VectorStore, name: str) -> None:
    store.ensure_collection(name, 2)
    metadata = [{"a.b": True}, {"a.b": 1}, {"a": {"b": True}}, {"a.b": True}]
    payloads = [
        {"document_id": document, "generation": 1, "chunk_index": index, "metadata": each}
        for index, (document, each) in enumerate(zip("xxxy", metadata, strict=True))
    ]
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], np.float32)
    store.upsert(name, [str(uuid.uuid4()) for _ in payloads], vectors, payloads)

    def found(documents: list[str] | None, wanted: dict[str, str | int | bool]) -> list[int]:
        hits = store.search(name, np.array([3, 0], np.float32), 10, documents, wanted)
        return [hit.payload["chunk_index"] for hit in hits]

    assert found(None, {}) == [0, 1, 2, 3]
    assert found([], {}) == []
    assert found(["x"], {}) == [0, 1, 2]
    assert found(None, {"a.b": True}) == [0, 3]
    assert found(["y", "z"], {"a.b": True}) == [3]
    assert found(None, {"a.b": 1}) == [1]
    assert found(["z"], {}) == []


def test_search_keeps_to_a_model_and_leaves_generations_out(store: VectorStore, name: str) -> None:
    store.ensure_collection(name, 2)
    stored = [("x", 1, "m"), ("x", 2, "m"), ("y", 1, "m"), ("y", 2, "other"), ("z", 1, "other")]
    payloads = [
        {"document_id": document, "generation": generation, "chunk_index": index, "model_key": model}
        for index, (document, generation, model) in enumerate(stored)
    ]
    vectors = np.array([[1, index / 10] for index in range(len(stored))], np.float32)
    store.upsert(name, [str(uuid.uuid4()) for _ in payloads], vectors, payloads)

    def found(model: str | None, *without: tuple[str, int]) -> list[int]:
        hits = store.search(name, np.array([1, 0], np.float32), 10, model_key=model, without=without)
        return [hit.payload["chunk_index"] for hit in hits]

    assert found(None) == [0, 1, 2, 3, 4]
    assert found("m") == [0, 1, 2]
    assert found("absent") == []
    assert found(None, ("x", 1)) == [1, 2, 3, 4]
    assert found(None, ("x", 2), ("y", 1)) == [0, 3, 4]
    assert found(None, ("x", 1), ("y", 1), ("y", 2)) == [1, 4]
    assert found("m", ("x", 1), ("z", 9)) == [1, 2]


def test_search_with_another_length_says_which_model_to_use(store: VectorStore, name: str) -> None:
    store.ensure_collection(name, 2)
    with pytest.raises(
        VectorStoreError, match=r"holds vectors of 2 dimensions, the model makes 3: use"
    ) as caught:
        store.search(name, np.ones(3, np.float32), 5)
    assert (caught.value.code, caught.value.status) == ("dimension_mismatch", 409)
