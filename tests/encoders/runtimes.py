"""Every way to run a model that this machine has; the GPU's on a CPU, through its seam."""

import importlib.util
from pathlib import Path

import onnxruntime
import pytest

from embedfleet.encoders.backends.choice import AMX, AVX512, OFFERED, Choice
from embedfleet.encoders.backends.machine import cpu_flags
from embedfleet.encoders.encoder import ModelEncoder, make
from embedfleet.encoders.files import ModelFiles

CHOICES = {str(choice): choice for offered in OFFERED.values() for choice in offered}
PLAIN, BF16 = CHOICES["cpu fp32 on cpu"], CHOICES["openvino bf16 on cpu"]
GPU_FP16, GPU_FP32 = CHOICES["cuda fp16 on cuda"], CHOICES["cuda fp32 on cuda"]
TORCH, TORCH_BF16 = CHOICES["torch fp32 on cpu"], CHOICES["torch bf16 on cpu"]


def made(files: ModelFiles, choice: Choice) -> ModelEncoder:
    """Make an encoder, or skip the test where this machine can't run it."""
    if choice.provider == "torch" and importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("the extra `torch` is not installed")
    if choice.precision == "bf16" and not {AMX, AVX512} & cpu_flags():
        pytest.skip(f"this CPU has no {AMX} or {AVX512}")
    if choice.provider == "openvino" and not has_openvino():
        pytest.skip("this onnxruntime has no OpenVINO provider")
    if choice.provider != "cuda":
        return make(files, choice, 2)
    return ModelEncoder(files, choice, without_gpu(files, choice))


def has_openvino() -> bool:
    return "OpenVINOExecutionProvider" in onnxruntime.get_available_providers()


def without_gpu(files: ModelFiles, choice: Choice):
    """Return the GPU's runtime with its graph, session, bindings and buffers on the CPU."""
    pytest.importorskip("onnx", reason="the dev group is not installed")
    pytest.importorskip("sympy", reason="the dev group is not installed")
    from embedfleet.encoders.backends import cuda
    from embedfleet.encoders.backends.onnx import CPU
    from embedfleet.encoders.backends.session import open_session

    def opened(graph: bytes, folder: Path, threads: int) -> "cuda.Opened":
        return open_session(graph, (CPU, {}), folder, threads), "cpu"

    return cuda.CudaRuntime(files, choice, 2, opened)
