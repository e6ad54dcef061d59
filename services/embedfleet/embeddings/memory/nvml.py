"""A GPU's memory as the driver tells it, for runtimes that don't: ONNX Runtime.

NVML answers in microseconds and starts no CUDA context of its own.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError


class NvmlDevice:
    """The first GPU of CUDA_VISIBLE_DEVICES. Made after the model is loaded: what is held then is never idle.

    Args:
        visible: value of CUDA_VISIBLE_DEVICES; None: all are visible.
        arena: bytes that the runtime's allocator holds, asked where the driver doesn't list this process
            (a container has other process ids): `MemoryBudget.kept` is a fair answer.

    Raises:
        ConfigurationError: no driver, no wheel, or no such GPU; the code is `no_gpu`.
    """

    def __init__(self, visible: str | None, arena: Callable[[], int] | None = None) -> None:
        self._nvml = _started()
        self._arena = arena or (lambda: 0)
        try:
            self._handle = _handle(self._nvml, visible)
        except self._nvml.NVMLError as error:
            raise _refusal(
                f"the driver has no GPU that CUDA_VISIBLE_DEVICES={visible} names ({error})"
            ) from error
        self._at_rest = self._own() or 0

    @property
    def tells(self) -> bool:
        """Say whether the driver tells what this process holds."""
        return self._own() is not None

    def total(self) -> int:
        """Return the bytes of the GPU."""
        return int(self._ask(self._nvml.nvmlDeviceGetMemoryInfo).total)

    def free(self) -> int:
        """Return the bytes that no process holds."""
        return int(self._ask(self._nvml.nvmlDeviceGetMemoryInfo).free)

    def reserved(self) -> int:
        """Return what this process holds beyond what it held when this was made."""
        own = self._own()
        return self._arena() if own is None else max(0, own - self._at_rest)

    def _own(self) -> int | None:
        for process in self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            return question(self._handle)
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


def _handle(nvml: Any, visible: str | None) -> Any:
    """Return the handle of the first GPU that CUDA sees.

    CUDA takes indices in its own order unless CUDA_DEVICE_ORDER=PCI_BUS_ID, and beginnings of UUIDs; NVML
    knows the order of the bus and whole UUIDs.
    """
    first = "0" if visible is None else visible.split(",")[0].strip()
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    if not first.isdecimal():
        named = [one for one in handles if first and nvml.nvmlDeviceGetUUID(one).startswith(first)]
        if len(named) == 1:
            return named[0]
    elif int(first) < len(handles):
        if len({nvml.nvmlDeviceGetName(one) for one in handles}) > 1 and not _by_bus():
            raise _refusal(
                "GPUs of several kinds are here, which CUDA and the driver number differently; set "
                "CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID in CUDA_VISIBLE_DEVICES"
            )
        return handles[int(first)]
    raise _refusal(f"CUDA_VISIBLE_DEVICES={visible} names none of the {len(handles)} GPUs")


def _by_bus() -> bool:
    return os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the GPU's memory can't be read: {reason}; fix that, or set FLEET_DEVICE=cpu", code="no_gpu"
    )
