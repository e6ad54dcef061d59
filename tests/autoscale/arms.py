"""The rules that are compared, each from the rendered chart: queue and work, queue alone, CPU."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.autoscale.hpa import SYNC_SECONDS, Hpa, behavior_of, by_cpu
from tests.autoscale.keda import ByQueue, rules_of
from tests.deploy.chart import IMAGES, RELEASE, Object, containers, named, render

POOLS = ("documents", "embeddings")
VALUES: dict[str, Any] = {
    "images": IMAGES,
    "blobs": {"mode": "pvc", "pvc": {"storageClass": "nfs"}},
    "pools": {
        "documents": {"concurrency": 2, "resources": {"requests": {"cpu": "1"}}, "autoscaling": {"max": 3}},
        "embeddings": {"resources": {"requests": {"cpu": "1"}}, "autoscaling": {"max": 2}},
    },
}
"""What differs from the chart's defaults: pods that a small machine can hold. No time and no divisor of the
formula is set, but for the concurrency of the documents' pods, by which the chart divides."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the pods of a pool use: cores of each ready one, and how many aren't ready."""

    used: Sequence[float]
    unready: int


class ByCpu:
    """Kubernetes' own autoscaler for one pool, by CPU.

    Args:
        spec: of a HorizontalPodAutoscaler.
        request: cores that a pod requests.
        factor: by which all times are divided.
    """

    def __init__(self, spec: Mapping[str, Any], request: float, factor: float) -> None:
        (metric,) = spec["metrics"]
        self._percent = float(metric["resource"]["target"]["averageUtilization"])
        self._request = request
        self._hpa = Hpa(behavior_of(spec["behavior"], factor), spec["minReplicas"], spec["maxReplicas"])
        self._sync = SYNC_SECONDS / factor
        self._next_sync = float("-inf")

    @property
    def least(self) -> int:
        """Pods of a pool without work."""
        return self._hpa.low

    def turn(self, now: float, pods: int, read: Callable[[], Usage]) -> int:
        """Look if it is time to, and return how many pods there shall be; see `ByQueue.turn`."""
        if now < self._next_sync:
            return pods
        self._next_sync = now + self._sync
        usage = read()
        wanted = by_cpu(usage.used, usage.unready, self._request, self._percent, pods)
        return self._hpa.decide(now, pods, wanted)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to scale.

    Attributes:
        name: short, for figures.
        words: for people.
        scalers: makes those of the pools anew, by pool.
    """

    name: str
    words: str
    scalers: Callable[[float], dict[str, ByQueue | ByCpu]]


def queued_only(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ScaledObject that counts what waits and nothing else, as most are written."""
    (queued,) = [trigger for trigger in spec["triggers"] if trigger["name"] == "queued"]
    formula = f"queued / {queued['metadata']['listLength']}"
    advanced = {
        **spec["advanced"],
        "scalingModifiers": spec["advanced"]["scalingModifiers"] | {"formula": formula},
    }
    return {**spec, "triggers": [queued], "advanced": advanced}


def deployment(pool: str) -> Object:
    """Return the Deployment that the chart makes of a pool."""
    return named(render(VALUES), "Deployment", f"{RELEASE}-embedfleet-{pool}")


def command(made: Object, pod: str) -> list[str]:
    """Return the command of a pod, for the interpreter that runs this.

    Args:
        made: its Deployment.
        pod: its name, which is its host's.
    """
    (worker,) = containers(made["spec"]["template"]["spec"])
    program, *arguments = worker["args"]
    assert program == "python", "the chart starts the workers otherwise: this would run something else"
    return [sys.executable, *(one.replace("%h", pod) for one in arguments)]


def grace_of(made: Object) -> float:
    """Return how many seconds a pod has between SIGTERM and SIGKILL: those of the chart, never scaled."""
    return float(made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])


def _scaled_object(pool: str) -> Mapping[str, Any]:
    return dict(named(render(VALUES), "ScaledObject", f"{RELEASE}-embedfleet-{pool}")["spec"])


def _by_queue(factor: float) -> dict[str, ByQueue | ByCpu]:
    return {pool: ByQueue(rules_of(_scaled_object(pool), factor), factor) for pool in POOLS}


def _by_queued_only(factor: float) -> dict[str, ByQueue | ByCpu]:
    return {pool: ByQueue(rules_of(queued_only(_scaled_object(pool)), factor), factor) for pool in POOLS}


def _by_cpu(factor: float) -> dict[str, ByQueue | ByCpu]:
    values: dict[str, Any] = {**VALUES, "autoscaling": {"engine": "hpa"}}
    values["pools"] = {
        name: {**pool, "autoscaling": {**pool["autoscaling"], "min": 1}}
        for name, pool in VALUES["pools"].items()
    }
    objects = render(values)
    scalers: dict[str, ByQueue | ByCpu] = {}
    for pool in POOLS:
        spec = named(objects, "HorizontalPodAutoscaler", f"{RELEASE}-embedfleet-{pool}")["spec"]
        made = named(objects, "Deployment", f"{RELEASE}-embedfleet-{pool}")
        (worker,) = containers(made["spec"]["template"]["spec"])
        scalers[pool] = ByCpu(spec, float(worker["resources"]["requests"]["cpu"]), factor)
    return scalers


CHART = Arm("chart", "the chart's rules: what waits and what runs", _by_queue)
QUEUED_ONLY = Arm("llen_only", "LLEN only: what waits", _by_queued_only)
CPU = Arm("cpu_hpa", "HPA by CPU, never to zero", _by_cpu)
ARMS = (CHART, QUEUED_ONLY, CPU)
