"""`make gpu-check` where there is no GPU, and its checks on encoders that have what a GPU lacks or does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import checks
from benchmarks.gpu.detect import NoGpu, gpus
from benchmarks.gpu.detect import main as detect

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.base import OUT_OF_MEMORY
from embedfleet.encoders.files import inspect
from tests.benchmarks.records import engine
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
        self.held = 0
        self.failures = 0

    def encode(self, ids: Any, lengths: Any) -> Any:
        if ids.size > self.room:
            self.failures += 1
            raise EmbeddingError("memory is full", code=self.code)
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


def test_without_a_driver_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    with pytest.raises(NoGpu, match="not installed"):
        gpus("libno-such-driver.so.1")

    def none() -> list[str]:
        raise NoGpu("a test has none")

    monkeypatch.setattr(gpu, "gpus", none)
    assert gpu.main() == 0
    monkeypatch.setattr("benchmarks.gpu.detect.gpus", none)
    assert detect() == 3
    said = capsys.readouterr().out.splitlines()
    assert said == ["gpu-check: no GPU on this machine: a test has none; nothing to check"] * 2


def test_the_question_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, benchmarks.gpu.detect; print({'numpy', 'torch', 'embedfleet'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_typed_failure_that_leaves_the_encoder_whole_passes() -> None:
    encoder = FakeEncoder()
    assert checks.out_of_memory(encoder)["rows"] == 512
    assert encoder.failures == 1


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        (FakeEncoder(code=None), "not as out of memory"),
        (FakeEncoder(drift=0.1), "other vectors"),
        (FakeEncoder(room=10**12), "did not fill"),
    ],
)
def test_other_failures_do_not(encoder: FakeEncoder, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MOST_ROWS", 4096)
    with pytest.raises(checks.CheckFailed, match=why):
        checks.out_of_memory(encoder)


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


def test_a_session_that_is_not_on_the_gpu_fails_whatever_its_encoder_says() -> None:
    encoder, cuda, cpu = FakeEncoder(), "CUDAExecutionProvider", "CPUExecutionProvider"
    encoder._runtime = SimpleNamespace(_session=FakeSession(cuda, cpu))
    assert checks.provider(encoder) == {"places": [cuda, cpu], "precision": "fp16"}
    for providers in ([cpu], [cpu, cuda], []):
        encoder._runtime._session.providers = providers
        with pytest.raises(checks.CheckFailed, match="not on the GPU"):
            checks.provider(encoder)


def test_a_session_that_leaves_the_gpu_at_its_first_batch_fails() -> None:
    session = FakeSession("CUDAExecutionProvider", "CPUExecutionProvider")
    encoder = FakeEncoder(then=lambda: session.providers.remove("CUDAExecutionProvider"))
    encoder._runtime = SimpleNamespace(_session=session)
    with pytest.raises(checks.CheckFailed, match="runs on CPUExecutionProvider, not on the GPU"):
        checks.provider(encoder)


def test_weights_that_are_not_all_on_the_gpu_fail() -> None:
    encoder, weights = FakeEncoder(), [SimpleNamespace(device=SimpleNamespace(type="cuda")) for _ in range(3)]
    encoder._runtime = SimpleNamespace(_transformer=SimpleNamespace(parameters=lambda: weights))
    assert checks.provider(encoder)["places"] == ["cuda"]
    weights[1].device.type = "cpu"
    with pytest.raises(checks.CheckFailed, match="runs on cpu, cuda, not on the GPU"):
        checks.provider(encoder)


def test_the_real_runtime_is_asked() -> None:
    with pytest.raises(checks.CheckFailed, match="runs on CPUExecutionProvider, not on the GPU"):
        checks.provider(made(inspect(TINY, "test/tiny"), GPU_FP32))


def test_the_record_says_what_failed_and_gives_a_line() -> None:
    passed = {"onnx": {"gate": {"cos_min": 0.9995}}, "torch": {"gate": {"failed": "cosine 0.4"}}}
    record = {"gpus": ["Test L4"], "date": "2026-11-26", "checks": passed, "engine": engine()}
    assert gpu.failed(record) == ["torch gate: cosine 0.4", "ours, torch bf16: it computes in\nfp32"]
    record["engine"]["wanted"] = {"engine": 5}  # type: ignore[index]
    assert gpu.failed(record)[2].startswith("engine: 1 of 2 rounds count and 5 are wanted")
    line = gpu.readme_line(record)
    assert line.startswith(
        "| Test L4 | sentence-transformers fp32 40 chunks/s (1x), engine 180 chunks/s (4.5x) |"
    )
    assert line.endswith("| onnx 0.99950 | 2026-11-26 |")
