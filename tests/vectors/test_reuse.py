"""Vectors are found again by the text they were made of, whole and undrifted."""

import uuid
from typing import Any

import numpy as np
import pytest

from embedfleet.vectors import VectorStore
from embedfleet.vectors import store as module

DIM = 384


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def payload(text_hash: str, **other: Any) -> dict[str, Any]:
    base = {"document_id": "d", "generation": 1, "model_key": "m", "precision": "fp32"}
    return base | {"text_hash": text_hash} | other


def put(store: VectorStore, name: str, vectors: np.ndarray, payloads: list[dict[str, Any]]) -> None:
    store.upsert(name, [str(uuid.uuid4()) for _ in payloads], vectors, payloads)


def test_only_vectors_of_the_same_document_generation_model_and_precision(
    store: VectorStore, name: str
) -> None:
    store.ensure_collection(name, 4)
    others = [{"document_id": "e"}, {"generation": 2}, {"model_key": "n"}, {"precision": "bf16"}]
    payloads = [payload("a"), *(payload("b", **other) for other in others)]
    vectors = unit(np.random.default_rng(0).standard_normal((5, 4)))
    put(store, name, vectors, payloads)
    found = store.vectors_by_hash(name, "d", 1, "m", "fp32", ["a", "b", "c", "a"])
    assert found.keys() == {"a"}
    assert found["a"] == pytest.approx(vectors[0], abs=1e-6)
    assert store.vectors_by_hash(name, "d", 2, "m", "fp32", ["a", "b"]).keys() == {"b"}
    assert store.vectors_by_hash(name, "d", 1, "m", "bf16", ["a", "b"]).keys() == {"b"}
    assert store.vectors_by_hash(name, "d", 1, "m", "fp32", []) == {}


def test_copies_of_copies_do_not_drift(store: VectorStore, name: str) -> None:
    store.ensure_collection(name, DIM)
    rng = np.random.default_rng(1)
    # Also ones that are hard to keep: not of unit length, one large number, many tiny ones.
    vectors = np.vstack([unit(rng.standard_normal((50, DIM))), rng.standard_normal((50, DIM)) * 1e-4])
    vectors[60, 0], vectors[70, 0], vectors[70, 1:] = 1e4, 1, 1e-9
    hashes = [str(n) for n in range(100)]
    put(store, name, vectors, [payload(each) for each in hashes])
    for generation in range(1, 31):
        found = store.vectors_by_hash(name, "d", generation, "m", "fp32", hashes)
        copies = np.stack([found[each] for each in hashes])
        cosines = (unit(vectors).astype(np.float64) * unit(copies)).sum(axis=1)
        assert cosines.min() >= 0.999999
        assert np.linalg.norm(copies, axis=1) == pytest.approx(np.ones(100), abs=1e-5)
        put(store, name, copies, [payload(each, generation=generation + 1) for each in hashes])


def test_pages_are_bounded_and_a_repeated_text_does_not_hide_the_others(
    store: VectorStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VECTORS_A_PAGE", 5)
    asked: list[int] = []
    monkeypatch.setattr(store._client, "scroll", counting(store._client.scroll, asked))
    store.ensure_collection(name, 4)
    payloads = [payload("often") for _ in range(60)] + [payload(str(n)) for n in range(12)]
    vectors = unit(np.random.default_rng(2).standard_normal((72, 4)))
    put(store, name, vectors, payloads)
    hashes = [*map(str, range(12)), "often", "absent"]
    found = store.vectors_by_hash(name, "d", 1, "m", "fp32", hashes)
    assert found.keys() == {*map(str, range(12)), "often"}
    for n in range(12):
        assert found[str(n)] == pytest.approx(vectors[60 + n], abs=1e-6)
    assert max(asked) <= 5
    assert len(asked) <= len(hashes) + 3


def test_points_that_never_answer_the_question_end_it(
    store: VectorStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VECTORS_A_PAGE", 5)
    store.ensure_collection(name, 4)
    foreign = [payload("a") | {"text_hash": ["a", "b"]} for _ in range(20)]
    put(store, name, np.ones((20, 4), np.float32), foreign)
    assert "a" not in store.vectors_by_hash(name, "d", 1, "m", "fp32", ["a"])


def counting(scroll: Any, asked: list[int]) -> Any:
    """Return the same call; it notes how many points each answer had."""

    def call(*args: Any, **options: Any) -> Any:
        page = scroll(*args, **options)
        asked.append(len(page[0]))
        return page

    return call
