"""`make gpu-check` where there is no GPU, and its checks on encoders that have what a GPU lacks or does."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import checks
from benchmarks.gpu.detect import NoGpu, gpus
from benchmarks.gpu.detect import main as detect

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.base import OUT_OF_MEMORY
from tests.benchmarks.records import engine


class FakeEncoder:
    """Four dimensions and room for so many tokens; its device is what the memory is read from, too."""

    max_tokens, dim, model_key, precision, device = 32, 4, "test", "fp16", "cuda"

    def __init__(self, room: int = 64 * 32 * 4, code: str | None = OUT_OF_MEMORY, drift: float = 0.0) -> None:
        self.room, self.code, self.drift = room, code, drift
        self.held = 0
        self.failures = 0

    def encode(self, ids: Any, lengths: Any) -> Any:
        if ids.size > self.room:
            self.failures += 1
            raise EmbeddingError("memory is full", code=self.code)
        self.held = max(self.held, 1000 + 10 * ids.size)
        vectors = np.full((len(ids), 4), 0.5, dtype=np.float32)
        vectors[:, 0] += self.drift * self.failures
        return vectors

    def memory(self) -> int:
        return self.held

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


def test_an_encoder_on_the_cpu_is_refused() -> None:
    encoder = FakeEncoder()
    assert checks.provider(encoder) == {"device": "cuda", "precision": "fp16"}
    encoder.device = "cpu"
    with pytest.raises(checks.CheckFailed, match="runs on cpu"):
        checks.provider(encoder)


def test_the_record_says_what_failed_and_gives_a_line() -> None:
    passed = {"onnx": {"gate": {"cos_min": 0.9995}}, "torch": {"gate": {"failed": "cosine 0.4"}}}
    record = {"gpus": ["Test L4"], "date": "2026-11-26", "checks": passed, "engine": engine()}
    assert gpu.failed(record) == [
        "torch gate: cosine 0.4",
        "infinity torch: infinity torch has ended: no module\nand more",
    ]
    line = gpu.readme_line(record)
    assert line.startswith(
        "| Test L4 | sentence-transformers fp32 40 chunks/s (1x), engine 180 chunks/s (4.5x) |"
    )
    assert line.endswith("| onnx 0.99950 | 2026-11-26 |")
