"""Is a GPU here? Standard library only, so that nothing large is installed before the answer.

``python -m benchmarks.gpu.detect`` exits with 0 when there is one; else it says why not, and exits with 3.
"""

import ctypes
import sys

NO_GPU = 3
NAME_BYTES = 256


class NoGpu(Exception):
    """There is none that can be used; the text says why."""


def gpus(library: str = "libcuda.so.1") -> list[str]:
    """Return the names of the GPUs that CUDA's driver sees, CUDA_VISIBLE_DEVICES respected.

    Raises:
        NoGpu: no driver, a driver that fails, or no GPU.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        raise NoGpu(f"NVIDIA's driver is not installed ({library} is not found)") from None
    count = ctypes.c_int()
    if (code := cuda.cuInit(0)) or (code := cuda.cuDeviceGetCount(ctypes.byref(count))):
        raise NoGpu(f"NVIDIA's driver fails with CUDA error {code}")
    if not count.value:
        raise NoGpu("NVIDIA's driver is here, but sees no GPU")
    return [_name(cuda, number) for number in range(count.value)]


def _name(cuda: ctypes.CDLL, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, NAME_BYTES, device)
    return name.value.decode("utf-8", "replace")


def main() -> int:
    """Say what is here."""
    try:
        found = gpus()
    except NoGpu as why:
        print(f"gpu-check: no GPU on this machine: {why}; nothing to check")
        return NO_GPU
    print(f"gpu-check: {', '.join(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
