"""Texts as users of the runtimes reported them; each key is the report."""

import pytest

from embedfleet.encoders.out_of_memory import is_out_of_memory

ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running {node} node. "
    "Name:'{name}' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:{line} "
)
CUDA_CALL = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:121 onnxruntime::CudaCall "
REPORTED = {
    "microsoft/onnxruntime#9939": ARENA.format(
        node="FusedMatMul", name="MatMul_92_FusedMatMulAndScale", line=331
    )
    + "void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) "
    "Failed to allocate memory for requested buffer of size 8388608000",
    "microsoft/onnxruntime#23121": ARENA.format(node="TfIdfVectorizer", name="TfIdfVectorizer", line=376)
    + "void *onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream *, bool, "
    "onnxruntime::WaitNotificationFn) Available memory of 0 is smaller than requested bytes of 2048",
    "hacksider/Deep-Live-Cam#584": "[ONNXRuntimeError] : 1 : FAIL : " + CUDA_CALL + "CUDA failure 2: "
    "out of memory ; GPU=0 ; hostname=host ; file=cuda_stream_handle.cc ; line=175 ; "
    "expr=cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);",
    "hacksider/Deep-Live-Cam#645": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code "
    "returned while running Gemm node. Name:'fc1' Status Message: " + CUDA_CALL + "CUBLAS failure 3: "
    "CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=host ; expr=cublasCreate(&cublas_handle_);",
    "microsoft/onnxruntime#10770": "[2022-03-04 13:39:28 ERROR] ../rtSafe/safeRuntime.cpp (25) - "
    "Cuda Error in allocate: 2 (out of memory)",
    "microsoft/onnxruntime#16305": "Non-zero status code returned while running FusedMatMul node. "
    "Name:'MatMul_With_Transpose_token_14_FusedMatMulAndScale' Status Message: bad allocation",
    "the C++ library": "std::bad_alloc",
    "pytorch/pytorch#16417": "CUDA out of memory. Tried to allocate 22.00 MiB. GPU 0 has a total capacity of "
    "23.65 GiB of which 11.06 MiB is free. Including non-PyTorch memory, this process has 23.60 GiB memory "
    "in use.",
    "pytorch/pytorch#18853": "CUDA out of memory. Tried to allocate 1024.00 MiB (GPU 0; 15.90 GiB total "
    "capacity; 14.25 GiB already allocated; 991.56 MiB free; 607.00 KiB cached)",
    "Comfy-Org/ComfyUI#12366": "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in "
    "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.",
    "QwenLM/Qwen3#873": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "pytorch/pytorch#20618": "[enforce fail at CPUAllocator.cpp:65] . DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 4000000000000000 bytes. Error code 12 (Cannot allocate memory)",
    "IvanoLauriola/MKLpy#27": "DefaultCPUAllocator: not enough memory: you tried to allocate 507 bytes.",
    "openvinotoolkit/openvino#33422": "Exception from src/inference/src/cpp/core.cpp:109:\nException from "
    "src/inference/src/dev/plugin.cpp:53:\nCheck 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:7:"
    "\nFailed to allocate 7663872811008 bytes of memory",
    "openvinotoolkit/openvino.genai#2406": "Check '!exceed_allocatable_mem_size' failed at "
    "src/plugins/intel_gpu/src/runtime/ocl/ocl_engine.cpp:115:\n[GPU] Exceeded max size of memory object "
    "allocation: requested 4294967296 bytes, but max alloc size supported by device is 4294959104 bytes.",
    "immich-app/immich#13674": "Status Message: [OpenVINO-EP]  Wait Model Failed: Exception from "
    "src/inference/src/cpp/infer_request.cpp:245:\nException from "
    "src/plugins/intel_gpu/src/runtime/ocl/ocl_engine.cpp:185:\n[GPU] out of GPU resources",
}
OTHER = {
    "microsoft/onnxruntime#2386": "CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED ; GPU=0 ; hostname=host",
    "C0untFloyd/roop-unleashed#995": "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0 ;",
    "triton-inference-server/server#3776": "onnx runtime error 2: not enough space: expected 318080, got "
    "314240",
    "microsoft/onnxruntime#4008": "[ONNXRuntimeError] : 1 : FAIL : CUDA error executing cudaMemcpy(dst_data, "
    "src_data, bytes, cudaMemcpyDeviceToHost)",
    "a wrong input": "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: ids",
}


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own, which is not installed here."""


@pytest.mark.parametrize("report", REPORTED)
def test_reported_texts_are_told(report: str) -> None:
    assert is_out_of_memory(RuntimeError(REPORTED[report]))


@pytest.mark.parametrize("report", OTHER)
def test_other_failures_are_not_taken_for_it(report: str) -> None:
    assert not is_out_of_memory(RuntimeError(OTHER[report]))


@pytest.mark.parametrize("error", [OutOfMemoryError("torch says it in another way"), MemoryError()])
def test_a_type_says_it_without_words(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_the_cause_counts_and_a_circle_of_causes_ends() -> None:
    outer, inner = ValueError("a batch failed"), MemoryError()
    outer.__cause__ = inner
    assert is_out_of_memory(outer)
    first, second = ValueError("one"), ValueError("two")
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)
