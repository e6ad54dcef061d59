"""A fleet's memory in a soak: resident bytes of each process over time, and what Redis keeps in the end."""

import csv
import statistics
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from embedfleet.local.datadir import DataDir
from embedfleet.runtime.ledger.redis_client import connect
from loadtests.arrivals import WAVE_SECONDS

MB = 1_000_000
LOOK_SECONDS = 5.0
# Sandbox children and arenas reach their size in the first minutes; an embedding worker on two cores, at an
# upload a second, in a quarter of an hour, ever more slowly (docs/memory.md). Of twenty minutes the last five
# are looked at: a warm-up is over then or nearly so, a leak goes on.
WARM_SHARE = 0.75
SETTLE_SECONDS = 600.0
# They hold what is stored, and grow with it; the others may not grow.
STORES = ("redis", "qdrant")
# What tells of documents that are gone, and of the fleet itself (docs/reliability.md); the rest is work.
KEPT = {
    *("tombstone", "deleted", "restored", "index", "trims", "queue", "workers", "parked", "probe", "fsck"),
    *("role", "rebuilt", "passes", "scanned", "grace", "parked_workers", "document_queues", "trace"),
    "searchable",
}
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What Redis holds: bytes, and keys of work by kind."""

    used: int
    keys: Mapping[str, int]

    def beyond(self, before: "Holdings") -> dict[str, int]:
        """Return the kinds of which there are more than before."""
        more = {kind: count - before.keys.get(kind, 0) for kind, count in self.keys.items()}
        return {kind: count for kind, count in more.items() if count > 0}


def holdings(url: str) -> Holdings:
    """Look into Redis."""
    redis = connect(url)
    kinds = Counter(_kind(key) for key in redis.scan_iter(count=1000))
    used = int(redis.info("memory")["used_memory"])
    redis.close()
    return Holdings(used, {kind: count for kind, count in kinds.items() if kind not in KEPT})


def settled(url: str, before: Holdings) -> Holdings:
    """Wait until Redis holds no more work than before, or the time for it is over; return what it holds."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := holdings(url)).beyond(before) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found


@dataclass
class Watch:
    """Looks at all processes of a fleet every few seconds; a context manager.

    Attributes:
        data: of the fleet.
        rss: by process: (seconds since `began`, bytes), children included.
        restarts: processes that were found under another id.
        began: of the system's monotonic clock.
    """

    data: DataDir
    rss: dict[str, list[Point]] = field(default_factory=dict)
    restarts: int = 0
    began: float = field(default_factory=time.monotonic)
    _over: threading.Event = field(default_factory=threading.Event)
    _pids: dict[str, int] = field(default_factory=dict)
    _failures: list[Exception] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._guarded, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    def figures(self, began: float, ended: float) -> dict[str, float]:
        """Return what `[memory]` may ask for between two seconds of that clock: MB an hour, restarts."""
        found = {"restarts": float(self.restarts)}
        for name, points in self.rss.items():
            found[f"rss_slope_{name}"] = slope(points, began - self.began, ended - self.began) * 3600 / MB
        return found

    def write(self, path: Path) -> None:
        """Write all that was seen as CSV."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("process", "seconds", "rss_bytes"))
            for name, points in self.rss.items():
                writer.writerows((name, f"{at:.0f}", f"{rss:.0f}") for at, rss in points)

    def _guarded(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self._failures.append(error)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            state = self.data.running()
            for name, pid in state.pids.items() if state else ():
                self.restarts += self._pids.get(name, pid) != pid
                self._pids[name] = pid
                if resident := _resident(pid):
                    self.rss.setdefault(name, []).append((time.monotonic() - self.began, float(resident)))


def slope(points: Sequence[Point], began: float, ended: float) -> float:
    """Return the growth a second of the line through the means of whole waves, without the warm-up.

    Where in a wave the first and the last point lie would tilt a line through the points themselves. Not a
    number for fewer than two waves.

    Args:
        points: (second, value).
        began: when the load did.
        ended: when the last of it came; what is given back after it is no part of it.
    """
    # A wave is not lost to rounding.
    waves = int((ended - began) * (1 - WARM_SHARE) / WAVE_SECONDS + 1e-6)
    means = list[Point]()
    for start in (ended - number * WAVE_SECONDS for number in range(waves, 0, -1)):
        if kept := [value for at, value in points if start <= at < start + WAVE_SECONDS]:
            means.append((start, statistics.fmean(kept)))
    if len(means) < 2:
        return float("nan")
    fit: Any = statistics.linear_regression(*zip(*means, strict=True))
    return float(fit.slope)


def _kind(key: str) -> str:
    return "celery-task-meta" if key.startswith("celery-task-meta-") else key.split(":", 1)[0]


def _resident(pid: int) -> int:
    """Return the bytes of a process and of those of its children that are still there; 0 when it is gone."""
    try:
        root = psutil.Process(pid)
        total, children = int(root.memory_info().rss), root.children(recursive=True)
    except psutil.NoSuchProcess:
        return 0
    for child in children:
        with suppress(psutil.NoSuchProcess):
            total += int(child.memory_info().rss)
    return total
