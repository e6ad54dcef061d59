"""Whether a runtime's error means that memory ran out, so that a smaller batch may pass.

No runtime has a type for it that all its paths use: ONNX Runtime raises `RuntimeException` or `Fail` from its
arena, CUDA and cuBLAS alike; OpenVINO a RuntimeError; the C++ library `std::bad_alloc`; torch has a type, but
not for failures outside its allocator. So the text decides. tests/encoders/test_out_of_memory.py holds
recorded texts, with their sources, and texts that look like them and are not.
"""

import re

_SIGNS = re.compile(
    "|".join(
        (
            r"Failed to allocate memory for requested buffer of size",  # ONNX Runtime's arena: device is full
            r"Available memory of \d+ is smaller than requested bytes",  # the same arena: gpu_mem_limit
            r"\bout of memory\b",  # CUDA error 2 in each runtime's words, torch's allocator, TensorRT
            r"\bcudaErrorMemoryAllocation\b",
            r"\b(?:CUBLAS|CUBLASLT|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED\b",
            r"\bstd::bad_alloc\b|\bbad allocation\b",  # the C++ library: GNU's words, and Microsoft's
            r"Failed to allocate \d+ bytes of memory",  # OpenVINO on the CPU
            r"Exceeded max size of memory object allocation|\bout of GPU resources\b",  # OpenVINO on a GPU
            r"DefaultCPUAllocator: (?:can't allocate|not enough) memory",  # torch on the CPU
        )
    ),
    re.IGNORECASE,
)
_NAMES = frozenset({"OutOfMemoryError", "MemoryError", "_ArrayMemoryError"})


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether this error, or one that it was raised from, means that memory ran out.

    Types are told by name, since neither torch nor numpy is loaded for it.

    Args:
        error: what a runtime's call raised.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _NAMES or _SIGNS.search(str(cause)):
            return True
        cause = cause.__cause__
    return False
