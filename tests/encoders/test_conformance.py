"""What every backend must do; each runs the tiny model, ONNX the real one too."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.base import Encoder, build, pad
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.golden import Golden, cosines, read_golden
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime.settings import EngineSettings

TEXTS = [
    "Cà phê Việt Nam được trồng nhiều ở Tây Nguyên.",
    "a",
    "the pump was not primed " * 9,
    "水泵 👩‍🚀",
]


class Case(NamedTuple):
    """One backend with one model."""

    encoder: Encoder
    tokenizer: TextTokenizer
    golden: Golden


@pytest.fixture(
    scope="module",
    params=["onnx-tiny", "torch-tiny", pytest.param("onnx-real", marks=pytest.mark.slow)],
)
def case(request: pytest.FixtureRequest, tiny_golden: Golden) -> Case:
    backend, model = request.param.split("-")
    if backend == "torch" and importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("the extra `torch` is not installed")
    files: ModelFiles = request.getfixturevalue(f"{model}_files")
    golden = tiny_golden if model == "tiny" else read_golden(files.model_id)
    assert golden is not None
    encoder = build(files, EngineSettings(backend=backend, device="cpu", threads=2))
    return Case(encoder, TextTokenizer(files), golden)


def one(case: Case, row: list[int]) -> np.ndarray:
    return case.encoder.encode(*pad([row], case.tokenizer.pad_id))[0]


def test_says_what_it_is(case: Case, request: pytest.FixtureRequest) -> None:
    assert case.encoder.precision == "fp32"
    assert case.encoder.device == "cpu"
    assert case.encoder.max_tokens == case.tokenizer.max_tokens
    assert case.encoder.model_key.count(":") == 2
    assert case.encoder.memory() > 10_000_000


def test_vectors_are_float32_of_length_one(case: Case) -> None:
    vectors = case.encoder.encode(*pad(case.tokenizer.encode(TEXTS), case.tokenizer.pad_id))
    assert vectors.shape == (len(TEXTS), case.encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_no_rows_give_no_vectors(case: Case) -> None:
    vectors = case.encoder.encode(*pad([], case.tokenizer.pad_id))
    assert vectors.shape == (0, case.encoder.dim)
    assert vectors.dtype == np.float32


def test_one_token_and_the_longest_row(case: Case) -> None:
    row = case.tokenizer.encode(["the pump " * 500])[0]
    assert len(row) == case.encoder.max_tokens
    assert np.isfinite(one(case, row)).all()
    assert np.isfinite(one(case, row[:1])).all()


def test_same_input_same_vector(case: Case) -> None:
    batch = pad(case.tokenizer.encode(TEXTS), case.tokenizer.pad_id)
    np.testing.assert_array_equal(case.encoder.encode(*batch), case.encoder.encode(*batch))


def test_neighbours_in_the_batch_change_nothing(case: Case) -> None:
    rows = case.tokenizer.encode(TEXTS)
    together = case.encoder.encode(*pad(rows, case.tokenizer.pad_id))
    alone = np.stack([one(case, row) for row in rows])
    assert (together * alone).sum(axis=1).min() >= 0.99999


def test_padding_and_what_fills_it_change_nothing(case: Case) -> None:
    row = case.tokenizer.encode(TEXTS[:1])[0]
    filled = np.full((1, case.encoder.max_tokens), 7, dtype=np.int64)
    filled[0, : len(row)] = row
    padded = case.encoder.encode(filled, np.array([len(row)], dtype=np.int32))[0]
    assert padded @ one(case, row) >= 0.99999


def test_rows_keep_their_order(case: Case) -> None:
    rows = case.tokenizer.encode(TEXTS)
    forward = case.encoder.encode(*pad(rows, case.tokenizer.pad_id))
    backward = case.encoder.encode(*pad(rows[::-1], case.tokenizer.pad_id))[::-1]
    np.testing.assert_allclose(forward, backward, atol=1e-5)


def test_threads_don_t_mix_their_batches(case: Case) -> None:
    rows = case.tokenizer.encode(TEXTS) * 4
    expected = [one(case, row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda row: one(case, row), rows))
    assert (np.stack(got) * np.stack(expected)).sum(axis=1).min() >= 0.99999


def test_cosine_to_sentence_transformers(case: Case) -> None:
    found = cosines(case.encoder, case.tokenizer, case.golden)
    assert len(found) == len(case.golden.texts) >= 40
    assert found.min() >= 0.9999


@pytest.mark.parametrize(
    ("ids", "lengths"),
    [
        (np.ones((1, 3), np.int64), np.array([4], np.int32)),
        (np.ones((1, 3), np.int64), np.array([0], np.int32)),
        (np.ones((2, 3), np.int64), np.array([3], np.int32)),
        (np.ones(3, np.int64), np.array([3], np.int32)),
        (np.ones((1, 3), np.int32), np.array([3], np.int32)),
        (np.ones((1, 3), np.int64), np.array([3], np.int64)),
        (np.ones((1, 1000), np.int64), np.array([1000], np.int32)),
        (np.array([[2, 10_000_000, 3]], np.int64), np.array([3], np.int32)),
        (np.array([[2, -1, 3]], np.int64), np.array([3], np.int32)),
    ],
)
def test_wrong_batches_are_refused(case: Case, ids: np.ndarray, lengths: np.ndarray) -> None:
    with pytest.raises(EmbeddingError) as refused:
        case.encoder.encode(ids, lengths)
    assert refused.value.code == "bad_batch"
