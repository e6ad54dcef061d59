"""Worker processes as a Deployment's pods: told to end by SIGTERM, and killed when their grace is over."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil

from embedfleet.local.child import Child, how_it_ended

READY_TIMEOUT = 0.5


@dataclass(slots=True)
class Pod:
    """One process.

    Attributes:
        name: the pod's.
        child: the process.
        ready_url: answers 2xx once it works; empty: it works at once.
        started: monotonic time.
        ready: monotonic time at which it was seen to be ready; 0 before.
        told: monotonic time of SIGTERM; 0 before.
        held: tasks that it had claimed and not ended then.
        ended: monotonic time at which it was seen to have ended; 0 before.
        cpu: processor seconds of it and its children at the last look, and when that was.
    """

    name: str
    child: Child
    ready_url: str
    started: float
    ready: float = 0.0
    told: float = 0.0
    held: int = 0
    ended: float = 0.0
    cpu: tuple[float, float] = (0.0, 0.0)


Make = Callable[[str], tuple[Child, str]]
Holders = Callable[[], Mapping[int, int]]


@dataclass(slots=True)
class Pool:
    """The pods of one Deployment; to be used by the main thread, which is its children's starter.

    Attributes:
        name: documents or embeddings.
        make: makes a pod's process from its name, not started yet, and the address of its readiness probe.
        grace: seconds from SIGTERM to SIGKILL.
        holders: returns how many tasks each process holds now, by its id; one that holds none may be missing.
        pods: all that were ever started.
        steps: how many there should be, each time that this changed, with the monotonic time.
        killed: pods that needed SIGKILL, one line each.
        broke_off: pods that ended untold, one line each.
    """

    name: str
    make: Make
    grace: float
    holders: Holders
    pods: list[Pod] = field(default_factory=list)
    steps: list[tuple[float, int]] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    broke_off: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """Pods that there should be now: a Deployment's `replicas`."""
        return self.steps[-1][1] if self.steps else 0

    @property
    def alive(self) -> list[Pod]:
        """Pods whose process runs, those that were told to end, too."""
        return [pod for pod in self.pods if not pod.ended]

    @property
    def active(self) -> list[Pod]:
        """Pods that run and were not told to end."""
        return [pod for pod in self.alive if not pod.told]

    def scale(self, replicas: int, now: float) -> None:
        """Set how many pods there should be, and start or tell as many."""
        if replicas != self.wanted:
            self.steps.append((now, replicas))
        while len(self.active) < replicas:
            self._start(now)
        if len(self.active) > replicas:
            held = self.holders()
            for pod in self._victims()[: len(self.active) - replicas]:
                pod.held = held.get(pod.child.pid, 0)
                pod.child.terminate()
                pod.told = now

    def tend(self, now: float) -> None:
        """Note who is ready and who has ended; kill whose grace is over; replace who ended untold."""
        for pod in self.alive:
            code = pod.child.poll()
            if code is None and pod.told and now - pod.told > self.grace:
                self.killed.append(f"{pod.name} needed SIGKILL {self.grace:g} s after SIGTERM")
                pod.child.kill()
                code = pod.child.poll()
            if code is not None:
                pod.ended = now
                if not pod.told or code > 0:
                    self.broke_off.append(
                        f"{pod.name} {how_it_ended(code)}{'' if pod.told else ' untold'}: {pod.child.tail(3)}"
                    )
            elif not pod.ready and not pod.told and is_ready(pod.ready_url):
                pod.ready = now
        self.scale(self.wanted, now)

    def cores(self, now: float) -> tuple[list[float], int]:
        """Return the cores that each ready pod has used since the last call, and how many aren't ready."""
        used = []
        for pod in self.active:
            seconds, (before, at) = _cpu_seconds(pod.child.pid), pod.cpu
            pod.cpu = seconds, now
            if pod.ready and at and now > at:
                used.append(max(seconds - before, 0.0) / (now - at))
        return used, len(self.active) - len(used)

    def worker_seconds(self, now: float) -> float:
        """Return for how long pods have run until now, all together."""
        return sum((pod.ended or now) - pod.started for pod in self.pods)

    def slowest_end(self) -> float:
        """Return the most seconds that a pod took from SIGTERM to its end."""
        return max((pod.ended - pod.told for pod in self.pods if pod.told and pod.ended), default=0.0)

    def stop(self) -> None:
        """End all that still run, whatever it takes."""
        for pod in self.alive:
            pod.child.terminate()
        for pod in self.alive:
            pod.child.stop()
            pod.ended = time.monotonic()

    def _start(self, now: float) -> None:
        name = f"{self.name}-{len(self.pods)}"
        child, ready_url = self.make(name)
        child.start()
        self.pods.append(Pod(name, child, ready_url, now))

    def _victims(self) -> list[Pod]:
        """Return the pods in the order in which a ReplicaSet takes them: not ready, then the latest ready."""
        return sorted(self.active, key=lambda pod: (bool(pod.ready), -pod.ready, -pod.started))


def is_ready(url: str) -> bool:
    """Say whether a readiness probe answers 2xx; soon, as the whole loop waits for it."""
    if not url:
        return True
    try:
        return httpx.get(url, timeout=READY_TIMEOUT, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process and its children, the ended ones among them."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += sum(one.cpu_times()[:2])
        total += sum(process.cpu_times()[2:4])
    return total
