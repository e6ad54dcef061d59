"""Is a GPU here that can be used? Standard library only: nothing large is installed before the answer.

``python -m benchmarks.gpu.detect`` exits with 0 when there is one, with 3 when there is none, and with 1 when
there is one that can't be used as it is; it says why.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

NO_GPU, UNUSABLE = 3, 1
NAME_BYTES = 256
# What the wheels of ONNX Runtime and torch are built for, and the oldest driver that has it:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
CUDA_MAJOR, OLDEST_DRIVER = 13, 580
# Here as soon as the kernel has loaded NVIDIA's module, whatever libraries are installed.
KERNEL_MODULE = Path("/proc/driver/nvidia/version")
# Of the driver's answers (CUDA Driver API, enum CUresult): the one that is no failure, and what helps.
_NO_DEVICE = 100
_REMEDIES = {
    802: "something that the GPU needs has not started, like NVIDIA's Fabric Manager: start it",
    803: "its kernel module and its libraries are of two versions, as after an update: reboot",
    804: "this GPU can't use the libraries for forward compatibility that are here: update the driver itself",
}


class NoGpu(Exception):
    """There is none; the text says how that is known."""


class Unusable(Exception):
    """There is one, or there may be, and it can't be used; the text says why, and what to do."""


def gpus(library: str = "libcuda.so.1", kernel_module: Path = KERNEL_MODULE) -> list[str]:
    """Return the names of the GPUs that CUDA's driver sees, CUDA_VISIBLE_DEVICES respected.

    Args:
        library: the driver's.
        kernel_module: a file that is here when the kernel's part of the driver is.

    Raises:
        NoGpu: no driver, or a driver that sees no GPU.
        Unusable: a driver that fails, or is too old for what would be installed.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        if kernel_module.exists():
            raise Unusable(
                f"NVIDIA's driver is loaded, but its library can't be ({error}): install the driver's "
                "libraries of the same version; a container needs the NVIDIA container runtime"
            ) from None
        raise NoGpu(f"NVIDIA's driver is not installed ({library} is not found)") from None
    count = ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code not in (0, _NO_DEVICE):
        raise _failing(code)
    if code or not count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        raise NoGpu(f"NVIDIA's driver is here, but sees no GPU{hint}")
    _refuse_too_old(cuda)
    return [_name(cuda, number) for number in range(count.value)]


def told(why: NoGpu | Unusable) -> int:
    """Print why nothing is checked; return the exit code."""
    if isinstance(why, NoGpu):
        print(f"gpu-check: no GPU on this machine: {why}; nothing to check")
        return NO_GPU
    print(f"gpu-check FAILED: {why}")
    return UNUSABLE


def _failing(code: int) -> Unusable:
    remedy = _REMEDIES.get(code, "reboot where it was just installed; `nvidia-smi` and `dmesg` tell more")
    return Unusable(f"NVIDIA's driver fails with CUDA error {code}: {remedy}")


def _refuse_too_old(cuda: Any) -> None:
    version = ctypes.c_int()  # 1000 times the major number and 10 times the minor one
    if code := cuda.cuDriverGetVersion(ctypes.byref(version)):
        raise _failing(code)
    major, rest = divmod(version.value, 1000)
    if major < CUDA_MAJOR:
        raise Unusable(
            f"NVIDIA's driver is for CUDA {major}.{rest // 10}, and ONNX Runtime and torch need CUDA "
            f"{CUDA_MAJOR}: install a driver of version {OLDEST_DRIVER} or newer (`nvidia-smi` shows yours)"
        )


def _name(cuda: Any, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, NAME_BYTES, device)
    return name.value.decode("utf-8", "replace")


def main() -> int:
    """Say what is here."""
    try:
        found = gpus()
    except (NoGpu, Unusable) as why:
        return told(why)
    print(f"gpu-check: {', '.join(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
