"""A GPU's memory as torch tells it; torch is loaded only when this is made."""

import importlib
from typing import Any

from embedfleet.contracts.errors import ConfigurationError


class TorchDevice:
    """The current CUDA device of torch.

    Raises:
        ConfigurationError: torch is not installed or sees no GPU; the code is `no_gpu`.
    """

    def __init__(self) -> None:
        try:
            cuda: Any = importlib.import_module("torch").cuda
        except ImportError as missing:
            raise _refusal("torch is not installed (extra `torch`)") from missing
        if not cuda.is_available():
            raise _refusal("torch sees no usable GPU")
        self._cuda = cuda

    def total(self) -> int:
        """Return the bytes of the GPU."""
        return int(self._cuda.mem_get_info()[1])

    def free(self) -> int:
        """Return the bytes that no process holds."""
        return int(self._cuda.mem_get_info()[0])

    def reserved(self) -> int:
        """Return what torch's cache holds beyond living tensors; between batches those are the weights."""
        return int(self._cuda.memory_reserved()) - int(self._cuda.memory_allocated())


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the GPU's memory can't be read: {reason}; fix that, or set FLEET_DEVICE=cpu", code="no_gpu"
    )
