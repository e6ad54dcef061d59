"""The checks of `make gpu-check`, on encoders that have what a GPU lacks or does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks.gpu import checks

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.base import OUT_OF_MEMORY
from embedfleet.encoders.files import inspect
from tests.encoders.runtimes import GPU_FP32, made

TINY = Path(__file__).parents[1] / "encoders" / "tiny"
MOST_PROBED = 1024


class FakeEncoder:
    """Four dimensions and room for so many tokens; its device is what the memory is read from, too."""

    max_tokens, dim, streams, model_key, precision, device = 32, 4, 1, "test", "fp16", "cuda"

    a_batch, a_token = 1000.0, 10.0
    _runtime: Any

    def __init__(
        self,
        room: int = 64 * 32 * 4,
        code: str | None = OUT_OF_MEMORY,
        drift: float = 0.0,
        beyond: float = 1.0,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        self.room, self.code, self.drift, self.beyond, self.then = room, code, drift, beyond, then
        self.held = self.largest = 0
        self.failures = 0

    def encode(self, ids: Any, lengths: Any) -> Any:
        if ids.size > self.room:
            self.failures += 1
            raise EmbeddingError("memory is full", code=self.code)
        self.largest = max(self.largest, ids.size)
        # Beyond what the probes see, tokens cost another time as much.
        factor = self.beyond if ids.size > MOST_PROBED else 1.0
        self.held = max(self.held, round(factor * (self.a_batch + self.a_token * ids.size)))
        self.then()
        vectors = np.full((len(ids), 4), 0.5, dtype=np.float32)
        vectors[:, 0] += self.drift * self.failures
        return vectors

    def total(self) -> int:
        return 10**9

    def free(self) -> int:
        return 10**9 - self.held

    def reserved(self) -> int:
        return self.held

    def give_back(self) -> None:
        self.held = 0


@contextmanager
def neighbour(encoder: FakeEncoder, takes: bool = True, leaves: bool = True) -> Iterator[int]:
    """Hold an encoder's room for a while."""
    room = encoder.room
    encoder.room = 0 if takes else room
    yield 1000
    encoder.room = room if leaves else 0


def test_a_typed_failure_that_leaves_the_encoder_whole_passes() -> None:
    encoder = FakeEncoder(room=10**9)
    found = checks.out_of_memory(encoder, 512, lambda: neighbour(encoder))
    assert found == {"rows": 512, "length": 32, "left_bytes": 1000, "error": "memory is full"}
    assert encoder.failures == 1
    assert encoder.largest == 512 * 32


def test_where_the_largest_batch_does_not_fit_one_that_does_is_taken() -> None:
    encoder = FakeEncoder(room=130 * 32)
    assert checks.out_of_memory(encoder, 512, lambda: neighbour(encoder))["rows"] == 128


@pytest.mark.parametrize(
    ("encoder", "held", "why"),
    [
        (FakeEncoder(code=None), {}, "not as out of memory"),
        (FakeEncoder(drift=0.1), {}, "other vectors"),
        (FakeEncoder(), {"takes": False}, "passed with 0 MB free"),
        (FakeEncoder(), {"leaves": False}, "with the memory free again the same batch fails"),
    ],
)
def test_other_failures_do_not(encoder: FakeEncoder, held: dict[str, bool], why: str) -> None:
    with pytest.raises(checks.CheckFailed, match=why):
        checks.out_of_memory(encoder, 64, lambda: neighbour(encoder, **held))


def test_the_memory_is_given_back_before_the_neighbour_takes_it() -> None:
    encoder = FakeEncoder()

    @contextmanager
    def looking() -> Iterator[int]:
        assert encoder.held == 0
        with neighbour(encoder) as left:
            yield left

    assert checks.out_of_memory(encoder, 64, looking)["rows"] == 64


def test_the_fit_is_held_against_a_shape_that_was_not_probed() -> None:
    encoder = FakeEncoder(room=10**9)
    found = checks.memory_fit(encoder, encoder, 4096, encoder.give_back)
    assert found["taken_bytes"] == 1000 + 10 * 4096
    assert found["ratio"] == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("beyond", [1.25, 0.75])
def test_a_fit_that_is_further_off_than_the_budget_s_margin_fails(beyond: float) -> None:
    encoder = FakeEncoder(room=10**9, beyond=beyond)
    with pytest.raises(checks.CheckFailed, match=r"margin of 0\.85"):
        checks.memory_fit(encoder, encoder, 4096, encoder.give_back)
    encoder.beyond = 1 + 0.1 * (beyond - 1)
    assert checks.memory_fit(encoder, encoder, 4096, encoder.give_back)["ratio"] != 1


def test_a_fit_of_nothing_fails() -> None:
    encoder = FakeEncoder(room=10**9)
    encoder.a_token = encoder.a_batch = 0.0
    with pytest.raises(checks.CheckFailed, match="nothing was measured"):
        checks.memory_fit(encoder, encoder, 4096, encoder.give_back)


class FakeSession:
    """A session whose provider ends with the first batch."""

    def __init__(self, *providers: str) -> None:
        self.providers = list(providers)

    def get_providers(self) -> list[str]:
        return self.providers


def unasked() -> None:
    pytest.fail("where nodes are is asked only of a session that is on the GPU")


def test_a_session_that_is_not_on_the_gpu_fails_whatever_its_encoder_says() -> None:
    encoder, cuda, cpu = FakeEncoder(), "CUDAExecutionProvider", "CPUExecutionProvider"
    encoder._runtime = SimpleNamespace(_session=FakeSession(cuda, cpu))
    nodes = {cuda: {"MatMul": 19}}
    found = checks.provider(encoder, lambda: checks.Placement(nodes, ()))
    assert found == {"places": [cuda, cpu], "precision": "fp16", "nodes": nodes}
    for providers in ([cpu], [cpu, cuda], []):
        encoder._runtime._session.providers = providers
        with pytest.raises(checks.CheckFailed, match="not on the GPU"):
            checks.provider(encoder, unasked)


def test_a_session_that_leaves_the_gpu_at_its_first_batch_fails() -> None:
    session = FakeSession("CUDAExecutionProvider", "CPUExecutionProvider")
    encoder = FakeEncoder(then=lambda: session.providers.remove("CUDAExecutionProvider"))
    encoder._runtime = SimpleNamespace(_session=session)
    with pytest.raises(checks.CheckFailed, match="runs on CPUExecutionProvider, not on the GPU"):
        checks.provider(encoder, unasked)


def test_weights_that_are_not_all_on_the_gpu_fail() -> None:
    encoder, weights = FakeEncoder(), [SimpleNamespace(device=SimpleNamespace(type="cuda")) for _ in range(3)]
    encoder._runtime = SimpleNamespace(_transformer=SimpleNamespace(parameters=lambda: weights))
    assert checks.provider(encoder, unasked)["places"] == ["cuda"]
    weights[1].device.type = "cpu"
    with pytest.raises(checks.CheckFailed, match="runs on cpu, cuda, not on the GPU"):
        checks.provider(encoder, unasked)


def test_the_real_runtime_is_asked() -> None:
    with pytest.raises(checks.CheckFailed, match="runs on CPUExecutionProvider, not on the GPU"):
        checks.provider(made(inspect(TINY, "test/tiny"), GPU_FP32), unasked)


def on_cuda() -> FakeEncoder:
    encoder = FakeEncoder()
    encoder._runtime = SimpleNamespace(_session=FakeSession("CUDAExecutionProvider", "CPUExecutionProvider"))
    return encoder


def test_heavy_nodes_that_are_elsewhere_fail_and_are_in_the_record() -> None:
    nodes = {"CUDAExecutionProvider": {"MatMul": 12}, "CPUExecutionProvider": {"BiasGelu": 6}}
    elsewhere = tuple(f"BiasGelu Gelu_{number} on CPUExecutionProvider" for number in range(6))
    known = {"provider": lambda: checks.provider(on_cuda(), lambda: checks.Placement(nodes, elsewhere))}
    found = checks.carry_out(known, "provider")
    assert found["failed"].startswith("heavy nodes are not on the GPU: BiasGelu Gelu_0 on CPUExecution")
    assert found["failed"].endswith("Gelu_2 on CPUExecutionProvider; …")
    assert (found["nodes"], found["elsewhere"]) == (nodes, elsewhere)


def test_a_wheel_that_does_not_tell_is_in_the_record() -> None:
    assert checks.provider(on_cuda(), lambda: None)["nodes"].startswith("not told")


def test_whatever_a_check_raises_is_its_failure_alone() -> None:
    def raising() -> dict[str, Any]:
        raise RuntimeError("CUDA error 700")

    known = {"gate": raising, "memory_fit": lambda: {"ratio": 1.0}}
    assert checks.carry_out(known, "gate") == {"failed": "RuntimeError: CUDA error 700"}
    assert checks.carry_out(known, "memory_fit") == {"ratio": 1.0}
    assert checks.carry_out({}, "gate") == {"failed": "the model has no golden vectors"}
