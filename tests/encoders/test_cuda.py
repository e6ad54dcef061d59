"""ONNX Runtime on a GPU, as far as a machine without one can show it: graph, buffers, options, refusals."""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.base import pad
from embedfleet.encoders.encoder import ModelEncoder
from embedfleet.encoders.files import ModelFiles
from tests.encoders.runtimes import GPU_FP16, GPU_FP32, without_gpu

onnx = pytest.importorskip("onnx", reason="the dev group is not installed")
pytest.importorskip("sympy", reason="the dev group is not installed")

from embedfleet.encoders.backends import cuda, graph  # noqa: E402 — they need what was just looked for


class Session:
    """A session that keeps what it was given."""

    def __init__(self, providers: list[str], inner: Any = None) -> None:
        self.providers, self.inner = providers, inner
        self.options: list[Any] = []

    def get_providers(self) -> list[str]:
        return self.providers

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.options.append(options)
        self.inner.run_with_iobinding(binding, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_graph_is_fused_reduced_and_pooled(tiny_files: ModelFiles, precision: Any) -> None:
    assert tiny_files.onnx is not None
    model = onnx.load_model_from_string(graph.derive(tiny_files.onnx, precision, "mean", 16))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Attention") == kinds.count("BiasGelu") == 2
    assert kinds.count("SkipLayerNormalization") == 4
    (output,) = model.graph.output
    assert (output.name, output.type.tensor_type.elem_type) == (graph.VECTORS, onnx.TensorProto.FLOAT)
    assert {one.name for one in model.graph.input} == {"input_ids", "attention_mask", "token_type_ids"}
    assert {one.type.tensor_type.elem_type for one in model.graph.input} == {onnx.TensorProto.INT64}
    weights = {one.data_type for one in model.graph.initializer} - {
        onnx.TensorProto.INT64,
        onnx.TensorProto.INT32,
    }
    assert weights == {onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.FLOAT}


def test_a_batch_uses_a_piece_of_its_own_size_and_pieces_keep_their_place(tiny_files: ModelFiles) -> None:
    runtime = without_gpu(tiny_files, GPU_FP32)

    def places() -> dict[str, dict[int, int]]:
        return {
            name: {size: value.data_ptr() for size, (_, value) in buffer._pieces.items()}
            for name, buffer in runtime._inputs.items()
        }

    encoder = ModelEncoder(tiny_files, GPU_FP32, runtime)
    first = places()
    assert {name: set(pieces) for name, pieces in first.items()} == {
        name: {cuda.FIRST_TOKENS} for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for rows in (1, 1000, 7):
        encoder.encode(*pad([[2, 9, 3]] * rows, 0))
    assert all(set(pieces) == {4096, 32768} for pieces in places().values())
    assert all(places()[name][4096] == pieces[4096] for name, pieces in first.items())
    assert set(runtime._vectors._pieces) == {4096, 16384}


def test_a_buffer_that_could_not_grow_still_takes_what_fitted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = cuda._Buffer(np.int64, "cpu")

    def full(*_: Any) -> Any:
        raise RuntimeError("Failed to allocate memory for requested buffer")

    with monkeypatch.context() as patched:
        patched.setattr(
            cuda.onnxruntime, "OrtValue", SimpleNamespace(ortvalue_from_shape_and_type=full), raising=True
        )
        with pytest.raises(RuntimeError, match="allocate"):
            buffer.emptied((24, 384))
        buffer.filled(np.full((2, 384), 7))
    (value,) = (value for _, value in buffer._pieces.values())
    assert (value.numpy()[:768] == 7).all()
    buffer.emptied((24, 384))
    assert set(buffer._pieces) == {4096, 16384}


def test_vectors_are_the_caller_s_own(tiny_files: ModelFiles) -> None:
    encoder = ModelEncoder(tiny_files, GPU_FP32, without_gpu(tiny_files, GPU_FP32))
    first = encoder._runtime.run(np.array([[2, 9, 3]]), np.ones((1, 3), bool))
    kept = first.copy()
    encoder._runtime.run(np.array([[2, 30, 3]]), np.ones((1, 3), bool))
    np.testing.assert_array_equal(first, kept)


def test_a_smaller_batch_after_a_larger_one_sees_nothing_of_it(tiny_files: ModelFiles) -> None:
    encoder = ModelEncoder(tiny_files, GPU_FP32, without_gpu(tiny_files, GPU_FP32))
    rows = [[2, 9, 30, 31, 3], [2, 12, 3]]
    alone = encoder.encode(*pad(rows, 0))
    encoder.encode(*pad([[2, *range(5, 60), 3]] * 50, 0))
    np.testing.assert_array_equal(encoder.encode(*pad(rows, 0)), alone)


def test_memory_is_given_back_by_a_run_that_asks_for_it(tiny_files: ModelFiles) -> None:
    runtime = without_gpu(tiny_files, GPU_FP16)
    runtime._session = session = Session([], runtime._session)
    encoder = ModelEncoder(tiny_files, GPU_FP16, runtime)
    encoder.encode(*pad([[2, 9, 3]], 0))
    encoder.give_back()
    plain, asked = session.options
    assert plain is None
    assert asked.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"


def test_the_arena_grows_by_what_is_asked_and_leaves_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.machine, "device_bytes", lambda: 16_000_000_000)
    assert cuda.gpu_options("fp16") == {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": "14400000000",
    }
    monkeypatch.setattr(cuda.machine, "device_bytes", lambda: 0)
    assert "gpu_mem_limit" not in cuda.gpu_options("fp16")


def test_fp32_is_fp32_and_not_tf32() -> None:
    assert cuda.gpu_options("fp32")["use_tf32"] == "0"


def opening(monkeypatch: pytest.MonkeyPatch, session: Session) -> list[Any]:
    asked: list[Any] = []

    def open_session(*arguments: Any) -> Session:
        asked.append(arguments)
        return session

    monkeypatch.setattr(cuda, "open_session", open_session)
    monkeypatch.setattr(cuda.machine, "device_bytes", lambda: 0)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: asked.append("libraries"))
    return asked


def test_the_session_is_opened_on_the_gpu_after_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = opening(monkeypatch, session := Session([cuda.CUDA, "CPUExecutionProvider"]))
    assert cuda.on_gpu(b"graph", Path("/model"), 3, "fp16") == (session, "cuda")
    assert asked == ["libraries", (b"graph", (cuda.CUDA, cuda.gpu_options("fp16")), Path("/model"), 3)]


def test_a_gpu_on_which_no_session_opens_is_not_a_damaged_model(
    tiny_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "CUDA failure 999: unknown error"

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError(words)

    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(onnxruntime, "InferenceSession", fails)
        with pytest.raises(ConfigurationError, match=words) as error:
            cuda.CudaRuntime(tiny_files, GPU_FP16, 1)
    assert error.value.code == "no_gpu"
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", fails)
    with pytest.raises(ConfigurationError, match=words) as error:
        without_gpu(tiny_files, GPU_FP16)
    assert error.value.code == "no_gpu"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError("libcudnn.so.9: cannot open shared object file"), r"libcudnn\.so\.9: cannot open"),
        (None, "its log says why"),
    ],
)
def test_a_session_that_fell_back_to_the_cpu_refuses_and_names_the_library(
    monkeypatch: pytest.MonkeyPatch, failure: OSError | None, words: str
) -> None:
    opening(monkeypatch, Session(["CPUExecutionProvider"]))

    def library(name: str, mode: int) -> Any:
        assert mode == ctypes.RTLD_GLOBAL
        if failure and name.endswith("_cuda.so"):
            raise failure
        return SimpleNamespace()

    monkeypatch.setattr(cuda.ctypes, "CDLL", library)
    with pytest.raises(ConfigurationError, match=words) as error:
        cuda.on_gpu(b"graph", Path("/model"), 1, "fp16")
    assert error.value.code == "no_gpu"


def test_a_graph_that_can_t_be_fused_is_a_configuration_error(tiny_copy: Path) -> None:
    from embedfleet.encoders.files import inspect

    (tiny_copy / "onnx/model.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigurationError, match="graph for the GPU") as error:
        without_gpu(inspect(tiny_copy, "test/tiny"), GPU_FP16)
    assert error.value.code == "model_damaged"
