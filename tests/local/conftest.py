"""The small fleet as a fixture."""

from processes import small_fleet

__all__ = ["small_fleet"]
