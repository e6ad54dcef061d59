"""What the budget asks of a device."""

from typing import Protocol


class Device(Protocol):
    """Three readings of a device's memory, in bytes; any thread may take them, while batches compute.

    What the lane may use is ``free() + reserved()``: a runtime's allocator keeps what it has once taken, so
    that ``free()`` alone would fall with every large batch and never rise again.

    Each reading raises an EmbeddingError when the device no longer answers.
    """

    def total(self) -> int:
        """Return what the device has, or the limit that is set for this process."""
        ...

    def free(self) -> int:
        """Return what nobody holds now."""
        ...

    def reserved(self) -> int:
        """Return what this process's allocator holds, doesn't use, and will use again."""
        ...
