"""A GPU's memory as torch tells it; torch is loaded only when this is made."""

import importlib
from typing import Any

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError


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
        return self._memory()[1]

    def free(self) -> int:
        """Return the bytes that no process holds."""
        return self._memory()[0]

    def reserved(self) -> int:
        """Return what torch's cache holds beyond living tensors; between batches those are the weights."""
        return int(self._cuda.memory_reserved()) - int(self._cuda.memory_allocated())

    def _memory(self) -> tuple[int, int]:
        try:
            free, total = self._cuda.mem_get_info()
        except RuntimeError as error:
            raise EmbeddingError(f"the GPU no longer answers: {error}") from error
        return int(free), int(total)


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the GPU's memory can't be read: {reason}; fix that, or set FLEET_DEVICE=cpu", code="no_gpu"
    )
