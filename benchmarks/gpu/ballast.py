"""Memory of a GPU held as a neighbour would: by its driver, past the runtimes' allocators.

Values that ONNX Runtime makes on a GPU would not do: they come from an arena of the whole process, which
keeps what it once took, so that letting go of them gives nothing back.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.gpu.checks import CheckFailed
from embedfleet.encoders.backends.machine import DRIVER

# So little that no large batch fits, and enough for a kernel that is loaded when it is first used.
LEFT = 32 << 20
# The driver's memory comes in pages of 2 MiB.
PIECE = 2 << 20
# CUDA Driver API, enum CUresult.
_OUT_OF_MEMORY = 2


@contextmanager
def ballast(left: int = LEFT) -> Iterator[int]:
    """Hold the memory of the first visible GPU, all but a little; yield the bytes that are free meanwhile.

    Args:
        left: bytes that stay free, or a little more.

    Raises:
        CheckFailed: the driver fails.
    """
    cuda: Any = ctypes.CDLL(DRIVER)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    # The one that the runtimes have, too: another would take memory of its own.
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call(cuda, "cuCtxPushCurrent_v2", context)
    held: list[ctypes.c_uint64] = []
    try:
        _fill(cuda, left, held)
        yield _free(cuda)
    finally:
        # Unchecked: where the device has failed in between, that failure says more.
        for address in held:
            cuda.cuMemFree_v2(address)
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
        cuda.cuDevicePrimaryCtxRelease_v2(device)


def _fill(cuda: Any, left: int, held: list[ctypes.c_uint64]) -> None:
    """Take pieces into `held` until no more than `left` is free, smaller ones where memory is in parts."""
    piece = _free(cuda) - left
    while piece >= PIECE:
        address = ctypes.c_uint64()
        code = cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(piece))
        if code == _OUT_OF_MEMORY:
            piece //= 2
            continue
        if code:
            raise CheckFailed(f"the memory can't be filled: cuMemAlloc fails with CUDA error {code}")
        held.append(address)
        piece = min(piece, _free(cuda) - left)


def _free(cuda: Any) -> int:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value


def _call(cuda: Any, name: str, *arguments: object) -> None:
    if code := getattr(cuda, name)(*arguments):
        raise CheckFailed(f"the memory can't be filled: {name} fails with CUDA error {code}")
