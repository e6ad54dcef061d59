"""What is special to ONNX Runtime: devices, damaged graphs, memory errors."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders import base, golden, onnx
from embedfleet.encoders.base import OUT_OF_MEMORY, build, load, pad
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.golden import Golden, gate
from embedfleet.encoders.manifest import write_manifest
from embedfleet.runtime.settings import EngineSettings, ModelSettings
from tests.encoders.conftest import TINY

LOAD = f"""
from embedfleet.encoders.base import load
from embedfleet.runtime.settings import EngineSettings, ModelSettings
load(ModelSettings(model_path={str(TINY)!r}), EngineSettings())
"""
CPU = EngineSettings(device="cpu", threads=1)
WITHOUT_GPU = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()


def test_pad_makes_a_rectangle() -> None:
    ids, lengths = pad([[1, 2, 3], [4], []], 9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]]
    assert lengths.tolist() == [3, 1, 0]
    assert (ids.dtype, lengths.dtype) == (np.int64, np.int32)
    assert pad([], 9)[0].shape == (0, 0)


def test_load_takes_what_the_settings_name(tiny_copy: Path) -> None:
    encoder = load(ModelSettings(model_path=tiny_copy), EngineSettings(threads=1))
    assert (encoder.dim, encoder.device) == (16, "cpu" if WITHOUT_GPU else "cuda")


def test_load_refuses_a_graph_that_changed_since_it_was_fetched(tiny_copy: Path) -> None:
    write_manifest(tiny_copy, "test/tiny", "abc", "hub")
    graph = tiny_copy / "onnx/model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ConfigurationError, match="another sha256"):
        load(ModelSettings(model_path=tiny_copy), CPU)


@pytest.mark.skipif(not WITHOUT_GPU, reason="this onnxruntime has a CUDA provider")
def test_cuda_without_its_provider_refuses(tiny_files: ModelFiles) -> None:
    with pytest.raises(ConfigurationError, match="onnxruntime-gpu") as error:
        build(tiny_files, EngineSettings(device="cuda"))
    assert error.value.code == "no_gpu"


def test_cuda_that_falls_back_to_the_cpu_refuses(
    tiny_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the GPU wheel does on a machine without a driver: the provider is listed and doesn't start.
    monkeypatch.setattr(onnx, "_providers", lambda engine: [onnx.CPU])
    with pytest.raises(ConfigurationError, match="driver"):
        build(tiny_files, EngineSettings(device="cuda"))


@pytest.mark.parametrize("content", [b"", b"no graph", None])
def test_a_broken_graph_is_a_configuration_error(tiny_copy: Path, content: bytes | None) -> None:
    graph = tiny_copy / "onnx/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-500] if content is None else content)
    with pytest.raises(ConfigurationError) as error:
        build(inspect(tiny_copy, "test/tiny"), CPU)
    assert error.value.code == "model_damaged"


def test_a_graph_of_another_model_is_refused_at_the_first_batch(tiny_copy: Path) -> None:
    for name, old, new in (
        ("config.json", '"hidden_size": 16', '"hidden_size": 8'),
        ("1_Pooling/config.json", '"embedding_dimension": 16', '"embedding_dimension": 8'),
    ):
        text = (tiny_copy / name).read_text("utf-8")
        assert old in text
        (tiny_copy / name).write_text(text.replace(old, new), "utf-8")
    encoder = build(inspect(tiny_copy, "test/tiny"), CPU)
    with pytest.raises(EmbeddingError, match="not the export of this model"):
        encoder.encode(*pad([[2, 3]], 0))


def test_memory_that_runs_out_has_a_code_of_its_own(tiny_files: ModelFiles) -> None:
    class Full:
        def run(self, *_: Any) -> None:
            raise RuntimeError("bfc_arena.cc: Failed to allocate memory for requested buffer of size 42")

    encoder = onnx.OnnxEncoder(tiny_files, CPU)
    encoder._session = Full()
    with pytest.raises(EmbeddingError) as error:
        encoder.encode(*pad([[2, 3]], 0))
    assert error.value.code == OUT_OF_MEMORY


def test_the_runtime_sends_and_keeps_nothing_about_the_user(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-B", "-c", LOAD], env=variables | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf])
def test_vectors_without_a_direction_are_refused(broken: float) -> None:
    with pytest.raises(EmbeddingError, match="no direction"):
        base.normalised(np.full((2, 4), broken, np.float32))


def test_the_gate_lets_the_right_model_pass(
    tiny_files: ModelFiles, tiny_golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "read_golden", lambda model_id: tiny_golden)
    assert gate(tiny_files) >= 0.9999


def test_the_gate_stops_wrong_pooling(
    tiny_copy: Path, tiny_golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "read_golden", lambda model_id: tiny_golden)
    config = tiny_copy / "1_Pooling/config.json"
    config.write_text(config.read_text("utf-8").replace('"mean"', '"cls"'), "utf-8")
    with pytest.raises(ConfigurationError, match="other vectors"):
        gate(inspect(tiny_copy, "test/tiny"))


def test_the_gate_stops_what_it_knows_no_vectors_of(tiny_files: ModelFiles) -> None:
    with pytest.raises(ConfigurationError, match="no golden vectors"):
        gate(tiny_files)
