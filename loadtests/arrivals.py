"""When users arrive: so many a second, by shape, whatever the fleet answers. Pure."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

STEP_SECONDS = 0.01
SPIKE_TIMES = 5.0
WAVE_SECONDS = 100.0
WAVE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """How many arrive and for how long.

    Attributes:
        shape: a name in `SHAPES`.
        rate: arrivals a second; of a shape that varies, the usual or the mean ones.
        seconds: from the first to the last.
    """

    shape: str
    rate: float
    seconds: float

    def rate_at(self, at: float) -> float:
        """Return the arrivals a second so many seconds after the start."""
        return SHAPES[self.shape](self, at)

    def arrivals(self) -> Iterator[float]:
        """Yield the second of each arrival: the n-th comes when the rate has added up to n - 1/2.

        Even gaps, no dice: two runs differ only in what the fleet does.
        """
        due, step = 0.5, 0
        while (at := step * STEP_SECONDS) < self.seconds:
            grown = self.rate_at(at + STEP_SECONDS / 2) * STEP_SECONDS
            while due < grown:
                yield at + due / grown * STEP_SECONDS
                due += 1
            due -= grown
            step += 1


def steady(load: Load, at: float) -> float:
    """The same all the time."""
    return load.rate


def spike(load: Load, at: float) -> float:
    """Five times the rate in the third sixth of the time, then as before."""
    return load.rate * (SPIKE_TIMES if 2 <= 6 * at / load.seconds < 3 else 1.0)


def soak(load: Load, at: float) -> float:
    """Waves of 100 seconds, half more and half less: batches are large and small in turns."""
    return load.rate * (1 + WAVE_SHARE * math.sin(2 * math.pi * at / WAVE_SECONDS))


SHAPES: Mapping[str, Callable[[Load, float], float]] = {"steady": steady, "spike": spike, "soak": soak}
