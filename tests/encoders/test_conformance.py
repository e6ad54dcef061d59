"""What every runtime must do, with every family of models; ONNX Runtime with the real one too."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.base import pad
from embedfleet.encoders.encoder import ModelEncoder
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.golden import MIN_COSINE, Golden, cosines, read_golden
from embedfleet.encoders.tokenizer import TextTokenizer
from tests.encoders.conftest import tiny_model
from tests.encoders.runtimes import CHOICES, made

TEXTS = [
    "Cà phê Việt Nam được trồng nhiều ở Tây Nguyên.",
    "a",
    "the pump was not primed " * 9,
    "水泵 👩‍🚀",
]
# What a reduced precision may cost; the real model loses a twentieth of that.
LEAST = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999}
# Torch on a GPU has no seam to run it without one.
RUNS = [
    f"{name}, {family}"
    for family in ("tiny", "tiny_mpnet", "tiny_xlmr")
    for name, choice in CHOICES.items()
    if not (choice.provider == "torch" and choice.device == "cuda")
]


ON_REAL = ("cpu fp32 on cpu", "openvino bf16 on cpu", "cuda fp16 on cuda")
# OpenVINO rounds MPNet's buckets of distances; torch doesn't, and loses what such wide random weights lose.
STOPPED_BY_THE_GATE = {"openvino bf16 on cpu, tiny_mpnet", "torch bf16 on cpu, tiny_mpnet"}


class Case(NamedTuple):
    """One runtime with one model."""

    name: str
    encoder: ModelEncoder
    tokenizer: TextTokenizer
    golden: Golden

    @property
    def least(self) -> float:
        """Lowest cosine of two vectors that should be one."""
        return LEAST[self.encoder.precision]


def run(name: str, *marks: pytest.MarkDecorator) -> object:
    """Keep the tests of a case on one worker: another would load its model again."""
    return pytest.param(name, marks=[pytest.mark.xdist_group(name), *marks])


REAL = [run(f"{name}, real", pytest.mark.slow) for name in ON_REAL]


@pytest.fixture(scope="module", params=[*map(run, RUNS), *REAL])
def case(request: pytest.FixtureRequest) -> Case:
    name, _, model = request.param.partition(", ")
    if model == "real":
        files: ModelFiles = request.getfixturevalue("real_files")
        golden = read_golden(files.model_id)
        assert golden is not None
    else:
        files, golden = tiny_model(model)
    return Case(request.param, made(files, CHOICES[name]), TextTokenizer(files), golden)


def one(case: Case, row: list[int]) -> np.ndarray:
    return case.encoder.encode(*pad([row], case.tokenizer.pad_id))[0]


def test_says_what_it_is(case: Case) -> None:
    choice = case.encoder.choice
    said = (case.encoder.provider, case.encoder.device, case.encoder.precision)
    assert said == (choice.provider, choice.device, choice.precision)
    assert case.encoder.max_tokens == case.tokenizer.max_tokens
    assert case.encoder.model_key.count(":") == 2


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
    assert (together * alone).sum(axis=1).min() >= case.least


def test_padding_and_what_fills_it_change_nothing(case: Case) -> None:
    row = case.tokenizer.encode(TEXTS[:1])[0]
    filled = np.full((1, case.encoder.max_tokens), 7, dtype=np.int64)
    filled[0, : len(row)] = row
    padded = case.encoder.encode(filled, np.array([len(row)], dtype=np.int32))[0]
    assert padded @ one(case, row) >= case.least


def test_rows_keep_their_order(case: Case) -> None:
    rows = case.tokenizer.encode(TEXTS)
    forward = case.encoder.encode(*pad(rows, case.tokenizer.pad_id))
    backward = case.encoder.encode(*pad(rows[::-1], case.tokenizer.pad_id))[::-1]
    assert (forward * backward).sum(axis=1).min() >= case.least


def test_threads_don_t_mix_their_batches(case: Case) -> None:
    rows = case.tokenizer.encode(TEXTS) * 4
    expected = [one(case, row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda row: one(case, row), rows))
    assert (np.stack(got) * np.stack(expected)).sum(axis=1).min() >= case.least


def test_cosine_to_sentence_transformers(case: Case) -> None:
    found = cosines(case.encoder, case.tokenizer, case.golden)
    assert len(found) == len(case.golden.texts) >= 40
    if case.name in STOPPED_BY_THE_GATE:
        assert found.min() < MIN_COSINE
    else:
        assert found.min() >= min(case.least, 0.9999)


def test_giving_memory_back_changes_nothing(case: Case) -> None:
    batch = pad(case.tokenizer.encode(TEXTS), case.tokenizer.pad_id)
    before = case.encoder.encode(*batch)
    case.encoder.give_back()
    np.testing.assert_array_equal(case.encoder.encode(*batch), before)


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
