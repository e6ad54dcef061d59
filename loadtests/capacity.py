"""Which rate to try next, to find the highest that is sustained. Pure."""

import math
from dataclasses import dataclass, field

PRECISION = 1.1


@dataclass
class Climb:
    """Doubles the rate until one fails, then halves the gap, on a scale of ratios; tries the best once more.

    Attributes:
        first: the rate that is tried first.
        precision: the gap is small when the lowest failure is at most so many times the highest success.
        tried: rate → whether it kept its thresholds, when last tried.
        confirmed: rates that kept them once more.
    """

    first: float
    precision: float = PRECISION
    tried: dict[float, bool] = field(default_factory=dict)
    confirmed: set[float] = field(default_factory=set)

    @property
    def best(self) -> float | None:
        """The highest rate that was sustained, below all that weren't; None while there is none."""
        return max((rate for rate, good in self.tried.items() if good and rate < self._worst), default=None)

    @property
    def is_near(self) -> bool:
        """Whether the gap is small: what comes next is to confirm the best, by a longer probe."""
        return self.best is not None and self._worst / self.best <= self.precision

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to try."""
        return self.is_near and self.best in self.confirmed

    def note(self, rate: float, good: bool) -> None:
        """Take down what became of a probe."""
        if good and rate in self.tried:
            self.confirmed.add(rate)
        self.tried[rate] = good

    def next(self) -> float:
        """Return the rate to try now."""
        if not self.tried:
            return self.first
        if self.best is None:
            return self._worst / 2
        if self.is_near:
            return self.best
        return self.best * 2 if math.isinf(self._worst) else math.sqrt(self.best * self._worst)

    @property
    def _worst(self) -> float:
        return min((rate for rate, good in self.tried.items() if not good), default=math.inf)
