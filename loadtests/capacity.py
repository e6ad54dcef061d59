"""Which rate to try next, to find the highest that is sustained. Pure."""

import math
from dataclasses import dataclass, field

PRECISION = 1.1


@dataclass
class Climb:
    """Doubles the rate until one fails, then halves the gap, on a scale of ratios.

    Attributes:
        first: the rate that is tried first.
        precision: the search ends when the lowest failure is at most so many times the highest success.
        tried: rate → whether it kept its thresholds.
    """

    first: float
    precision: float = PRECISION
    tried: dict[float, bool] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """The highest rate that was sustained, below all that weren't; None while there is none."""
        return max((rate for rate, good in self.tried.items() if good and rate < self._worst), default=None)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to try."""
        return self.best is not None and self._worst / self.best <= self.precision

    def next(self) -> float:
        """Return the rate to try now."""
        if not self.tried:
            return self.first
        if self.best is None:
            return self._worst / 2
        return self.best * 2 if math.isinf(self._worst) else math.sqrt(self.best * self._worst)

    @property
    def _worst(self) -> float:
        return min((rate for rate, good in self.tried.items() if not good), default=math.inf)
