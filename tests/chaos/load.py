"""How much of this machine others take: deadlines for processes are stretched by just that."""

import os

import psutil

MOST = 5.0


class ForeignLoad:
    """Counts, from its making on, the processor time that went to none of this process' descendants.

    A drain that takes two seconds on an idle machine takes four when others have half of it. The
    figure goes into the receipt, so that nobody takes a stretched deadline for a kept one.
    """

    def __init__(self) -> None:
        self._start = _used()

    @property
    def stretch(self) -> float:
        """By how much longer our processes take than alone: 1 when others do nothing, at most 5."""
        possible, busy, own = (after - before for before, after in zip(self._start, _used(), strict=True))
        others = max(busy - max(own, 0.0), 0.0) / max(possible, 1e-6)
        return min(1 / max(1 - others, 1 / MOST), MOST)


def _used() -> tuple[float, float, float]:
    """Return the seconds of all processors: that there were, that were used, that our processes used."""
    times = psutil.cpu_times()
    possible = sum(times)
    busy = possible - times.idle - getattr(times, "iowait", 0.0)
    own = sum(os.times()[:4])
    for process in psutil.Process().children(recursive=True):
        try:
            own += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return possible, busy, own
