"""How a GPU's batches are measured and sized, on a stand-in of NVIDIA's libraries."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from lanes import Gated
from tests.embeddings.memory.drivers import INSTANCE, ONE, Card, Cuda, Nvml, install

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.embeddings.memory import MARGIN, budget
from embedfleet.embeddings.sizing import MOST_TOKENS, measured
from embedfleet.encoders.base import OUT_OF_MEMORY
from embedfleet.runtime.settings import EngineSettings

WEIGHTS, LEFT = 1_500_000_000, 8_000_000_000
FIXED, PER_TOKEN, PER_PAIR = 60_000_000, 40_000, 100
WIDTH = 256


def cost(rows: int, length: int) -> int:
    return FIXED + PER_TOKEN * rows * length + PER_PAIR * rows * length**2


class OnGpu(Gated):
    """An encoder whose arena keeps what its largest batch took, until it is told to give that back."""

    device, provider, precision = "cuda", "cuda", "fp16"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int = LEFT, tells: bool = True) -> None:
        super().__init__()
        self._left = left
        self._process = SimpleNamespace(pid=os.getpid(), usedGpuMemory=WEIGHTS)
        self.card = Card(free=left, hides=not tells, processes=[self._process])
        whole = Card(free=80_000_000_000, total=85_000_000_000, refuses=True)
        install(monkeypatch, Cuda(INSTANCE), Nvml(**{ONE: whole, INSTANCE: self.card}))

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.shapes.append((token_ids.shape[0], token_ids.shape[1]))
        needed = cost(*token_ids.shape)
        if needed > self._left:
            raise EmbeddingError("the device is full", code=OUT_OF_MEMORY)
        self._hold(max(needed, self._left - self.card.free))
        return np.ones((len(lengths), self.dim), np.float32)

    def give_back(self) -> None:
        super().give_back()
        self._hold(0)

    def _hold(self, arena: int) -> None:
        self.card.free, self._process.usedGpuMemory = self._left - arena, WEIGHTS + arena


@pytest.mark.parametrize("tells", [True, False], ids=["told what is ours", "not told"])
def test_the_rows_of_a_batch_are_those_that_its_real_cost_leaves_room_for(
    monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    encoder = OnGpu(monkeypatch, tells=tells)
    rows = measured(encoder, EngineSettings()).max_rows(WIDTH)
    assert encoder.card.free == LEFT
    assert cost(rows, WIDTH) <= MARGIN * LEFT < cost(rows + 2, WIDTH)


@pytest.mark.parametrize("tells", [True, False], ids=["told what is ours", "not told"])
def test_what_the_arena_keeps_of_a_batch_is_room_for_the_next(
    monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    monkeypatch.setattr(budget, "REREAD_SECONDS", 0.0)
    encoder = OnGpu(monkeypatch, tells=tells)
    sizing = measured(encoder, EngineSettings())
    rows, given_back = sizing.max_rows(WIDTH), encoder.given_back
    encoder.encode(np.zeros((20, WIDTH), np.int64), np.full(20, WIDTH, np.int32))
    sizing.passed(20, WIDTH, 20 * WIDTH, 0.1)
    assert (encoder.given_back, encoder.card.free) == (given_back, LEFT - cost(20, WIDTH))
    assert sizing.max_rows(WIDTH) == pytest.approx(rows, abs=1)


@pytest.mark.parametrize("tells", [True, False], ids=["told what is ours", "not told"])
def test_where_memory_does_not_bind_the_cap_does(monkeypatch: pytest.MonkeyPatch, tells: bool) -> None:
    encoder = OnGpu(monkeypatch, left=20_000_000_000, tells=tells)
    assert measured(encoder, EngineSettings()).max_rows(WIDTH) == MOST_TOKENS["cuda"] // WIDTH
    assert sum(rows * length for rows, length in encoder.shapes) <= MOST_TOKENS["cuda"]


def test_a_gpu_without_room_for_the_first_small_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = OnGpu(monkeypatch, left=100_000_000)
    with pytest.raises(ConfigurationError, match="100 MB are free") as caught:
        measured(encoder, EngineSettings())
    assert caught.value.code == OUT_OF_MEMORY
