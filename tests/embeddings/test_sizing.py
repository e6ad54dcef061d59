import numpy as np
import pytest
from lanes import Gated, Room
from prometheus_client import REGISTRY

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.embeddings.memory import BUDGETS, MemoryBudget, MemoryModel, ThroughputTuner
from embedfleet.embeddings.memory.cpu import CpuDevice
from embedfleet.embeddings.sizing import Sizing, measured
from embedfleet.runtime.settings import EngineSettings


class Counting(Gated):
    """An encoder that is always let."""

    provider = "stand-in"

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.shapes.append(token_ids.shape)  # type: ignore[arg-type]
        return np.ones((len(lengths), 3), np.float32)


def test_a_start_costs_four_small_batches_on_a_cpu() -> None:
    encoder = Counting()
    measured(encoder, EngineSettings())
    assert len(encoder.shapes) == 4
    assert sum(rows * length for rows, length in encoder.shapes) == 2560


def test_what_runs_and_what_memory_there_is_is_shown() -> None:
    measured(Counting(), EngineSettings(memory_limit=1 << 40))
    labels = {"model_key": "test", "device": "cpu", "provider": "stand-in", "precision": "fp32"}
    assert REGISTRY.get_sample_value("fleet_model_info", labels) == 1
    kinds = ("total", "free", "used")
    total, free, used = (
        REGISTRY.get_sample_value("fleet_device_memory_bytes", {"kind": kind}) or 0 for kind in kinds
    )
    assert 0 < free < total
    assert used == pytest.approx(total - free, rel=0.2)


def test_a_memory_limit_below_what_the_worker_holds_refuses_to_start_and_says_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="raise FLEET_MEMORY_LIMIT") as caught:
        measured(Counting(), EngineSettings(memory_limit=1_000_000))
    assert caught.value.code == "out_of_memory"


def test_the_memory_limit_bounds_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Counting()
    resident = [200_000_000]
    monkeypatch.setattr(CpuDevice, "_resident", lambda _: resident[0])

    def grow(token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        resident[0] = max(resident[0], 200_000_000 + 10_000 * token_ids.size)
        return np.ones((len(lengths), 3), np.float32)

    monkeypatch.setattr(encoder, "encode", grow)
    sizing = measured(encoder, EngineSettings(memory_limit=230_000_000))
    assert sizing.max_rows(256) * 256 == pytest.approx(1024)  # the tuner's first choice
    resident[0] = 200_000_000
    tight = measured(encoder, EngineSettings(memory_limit=208_000_000))
    assert tight.max_rows(256) in (2, 3)  # 8 MB, 0.85 of them, 10 kB a token


@pytest.mark.parametrize(("asked", "most"), [(0, max(BUDGETS)), (2048, 2048)])
def test_the_tuner_chooses_below_the_most_tokens(asked: int, most: int) -> None:
    sizing = measured(Counting(), EngineSettings(max_batch_tokens=asked))
    for _ in range(3000):  # each budget twice as fast as the one before
        rows = sizing.max_rows(1)
        sizing.passed(rows, 1, rows, 1 / rows)
    assert sizing.max_rows(1) == most


def test_a_tuner_sets_the_cap_before_the_first_batch() -> None:
    budget = MemoryBudget(MemoryModel(0, 1, 0), Room(), lambda: 0.0, cap_tokens=4096)
    assert Sizing(budget, Counting(), ThroughputTuner(start=2048)).max_rows(256) == 8


def test_a_batch_is_as_wide_as_the_encoder_pads_it() -> None:
    encoder = Counting()
    encoder.multiple = 32
    sizing = Sizing(MemoryBudget(MemoryModel(0, 1, 0), Room(), lambda: 0.0, cap_tokens=640), encoder)
    assert [sizing.max_rows(length) for length in (1, 32, 33, 250)] == [20, 20, 10, 2]


def test_memory_is_given_back_after_a_large_batch_and_after_a_failure() -> None:
    encoder = Counting()
    budget = MemoryBudget(MemoryModel(0, 1, 0), Room(1000), lambda: 0.0, cap_tokens=8192)
    sizing = Sizing(budget, encoder)
    sizing.passed(1, 100, 100, 0.1)
    assert (encoder.given_back, budget.kept) == (0, 100)
    sizing.passed(8, 100, 800, 0.1)
    assert (encoder.given_back, budget.kept) == (1, 0)
    assert sizing.ran_out(4, 100) == 2
    assert encoder.given_back == 2
