"""A GPU's memory as the driver tells it, for runtimes that don't: ONNX Runtime.

NVML answers in microseconds and starts no CUDA context of its own. Which device is ours CUDA's driver says,
which the runtime has loaded already; asking it makes no context either.
"""

import ctypes
import importlib
import os
import uuid
from collections.abc import Callable
from typing import Any

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders.backends.machine import DRIVER, driver_problem


class NvmlDevice:
    """CUDA's first device, a GPU or a MIG instance.

    Made after the model is loaded: what is held then is never idle.

    Args:
        arena: bytes that the runtime's allocator holds, asked where the driver doesn't tell what is ours:
            `MemoryBudget.kept` is a fair answer.

    Raises:
        ConfigurationError: no driver, no wheel, or a device that NVML doesn't know; the code is `no_gpu`.
    """

    def __init__(self, arena: Callable[[], int] | None = None) -> None:
        self._nvml = _started()
        self._arena = arena or (lambda: 0)
        self._handle = _handle(self._nvml)
        self._at_rest = self._own()

    @property
    def tells(self) -> bool:
        """Say whether the driver told what this process holds when this was made."""
        return self._at_rest is not None

    def total(self) -> int:
        """Return the bytes of the GPU."""
        return int(self._memory().total)

    def free(self) -> int:
        """Return the bytes that no process holds."""
        return int(self._memory().free)

    def reserved(self) -> int:
        """Return what this process holds beyond what it held when this was made; never raises."""
        own = self._own()
        return self._arena() if own is None or self._at_rest is None else max(0, own - self._at_rest)

    def _own(self) -> int | None:
        """Return the bytes that this process holds, or None where the driver doesn't tell.

        In a container a driver lists processes by the container's ids (open-gpu-kernel-modules, gpu_rmapi.c,
        `osFindNsPid`), an old one by the host's. Some list ours without a number, or with 0 bytes: older open
        kernel modules in a container, which looked the size up by the host's id (their pull request 614;
        565.57.01 does not). And some may not be asked: NVML's NO_PERMISSION, or NOT_SUPPORTED under vGPU.
        """
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        ours = (process.usedGpuMemory for process in processes if process.pid == os.getpid())
        return next((int(used) for used in ours if used), None)

    def _memory(self) -> Any:
        try:
            return self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except self._nvml.NVMLError as error:
            raise EmbeddingError(f"the GPU no longer answers: {error}") from error


def _started() -> Any:
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError as missing:
        raise _refusal("the wheel nvidia-ml-py is not installed") from missing
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _refusal(f"the NVIDIA driver can't be asked ({error})") from error
    return nvml


def _handle(nvml: Any) -> Any:
    """Return the handle of CUDA's first device.

    By its UUID, since NVML numbers all GPUs in the order of the bus: CUDA has an order of its own, and in a
    container with a MIG instance NVML's first GPU is the whole card, which may not be asked, or answers for
    all instances. A MIG instance has a UUID of its own, and only the kind before it says that it is one.
    """
    ours, unknown = _first_uuid(), []
    for kind in ("GPU", "MIG"):
        try:
            return nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{ours}")
        except nvml.NVMLError as error:
            unknown.append(f"{kind}-{ours}: {error}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    raise _refusal(
        f"NVML doesn't know CUDA's first device ({'; '.join(unknown)}; CUDA_VISIBLE_DEVICES is {visible!r})"
    )


def _first_uuid() -> uuid.UUID:
    """Return the UUID of CUDA's first device: under MIG that of the instance (`cuDeviceGetUuid_v2`)."""
    if problem := driver_problem():
        raise _refusal(problem)
    cuda: Any = ctypes.CDLL(DRIVER)
    device, octets = ctypes.c_int(0), ctypes.create_string_buffer(16)
    failed = cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetUuid_v2(octets, device)
    if failed:
        raise _refusal(f"CUDA's driver does not name its first device (CUDA error {failed})")
    return uuid.UUID(bytes=octets.raw)


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the GPU's memory can't be read: {reason}; fix that, or set FLEET_DEVICE=cpu", code="no_gpu"
    )
