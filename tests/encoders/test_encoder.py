"""What the encoder does around every runtime: memory errors, rows without a direction, widths."""

import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.base import OUT_OF_MEMORY, pad
from embedfleet.encoders.encoder import ModelEncoder
from embedfleet.encoders.files import ModelFiles
from tests.encoders.runtimes import PLAIN


class Runtime:
    """A runtime that does what a test says."""

    multiple = 8
    streams = 1

    def __init__(self, does: Callable[[np.ndarray], np.ndarray]) -> None:
        self.does = does
        self.widths: list[int] = []

    def run(self, token_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert token_ids.shape == mask.shape
        self.widths.append(token_ids.shape[1])
        return self.does(token_ids)

    def give_back(self) -> None:
        pass


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("bfc_arena.cc: Failed to allocate memory for requested buffer of size 42", OUT_OF_MEMORY),
        ("no kernel image is available", EmbeddingError.default_code),
    ],
)
def test_memory_that_runs_out_has_a_code_of_its_own(tiny_files: ModelFiles, words: str, code: str) -> None:
    def fails(_: np.ndarray) -> np.ndarray:
        raise RuntimeError(words)

    with pytest.raises(EmbeddingError) as error:
        ModelEncoder(tiny_files, PLAIN, Runtime(fails)).encode(*pad([[2, 3]], 0))
    assert error.value.code == code
    assert words in error.value.detail


def test_an_error_that_is_dealt_with_holds_nothing_of_what_the_batch_took(tiny_files: ModelFiles) -> None:
    taken: list[weakref.ref[np.ndarray]] = []

    def runs_out(ids: np.ndarray) -> np.ndarray:
        activations = np.zeros((len(ids), 1000))
        taken.append(weakref.ref(activations))
        raise MemoryError

    with pytest.raises(EmbeddingError) as error:
        ModelEncoder(tiny_files, PLAIN, Runtime(runs_out)).encode(*pad([[2, 3]], 0))
    assert error.value.code == OUT_OF_MEMORY
    assert taken[0]() is None


def test_memory_that_cannot_be_given_back_is_an_error_of_the_one_tree(
    tiny_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Runtime) -> None:
        raise RuntimeError("the GPU fell off the bus")

    monkeypatch.setattr(Runtime, "give_back", fails)
    with pytest.raises(EmbeddingError, match="give memory back: the GPU fell off"):
        ModelEncoder(tiny_files, PLAIN, Runtime(lambda ids: ids)).give_back()


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf, -np.inf])
def test_a_row_without_a_direction_is_nan_and_its_neighbours_are_not(
    tiny_files: ModelFiles, broken: float
) -> None:
    def second_breaks(ids: np.ndarray) -> np.ndarray:
        vectors = np.full((len(ids), 16), 2.0, np.float32)
        vectors[1, : 16 if broken == 0 else 1] = broken
        return vectors

    vectors = ModelEncoder(tiny_files, PLAIN, Runtime(second_breaks)).encode(*pad([[2, 3]] * 3, 0))
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(vectors[[0, 2]], 0.25)


def test_batches_are_widened_to_the_runtime_s_multiple_but_never_past_the_limit(
    tiny_files: ModelFiles,
) -> None:
    runtime = Runtime(lambda ids: np.ones((len(ids), 16), np.float32))
    encoder = ModelEncoder(replace(tiny_files, max_tokens=20), PLAIN, runtime)
    for width in (1, 8, 9, 16, 17, 20):
        encoder.encode(*pad([[2] * width], 0))
    assert runtime.widths == [8, 8, 16, 16, 20, 20]
