"""The algorithm of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2). Pure: the caller brings the time.

After pkg/controller/podautoscaler of kubernetes/kubernetes, 1.30 and later: what a metric asks for, then the
recommendations of the window, then the policies. Seconds are those of the caller, scaled or not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 0.1
"""`--horizontal-pod-autoscaler-tolerance`."""

SYNC_SECONDS = 15.0
"""`--horizontal-pod-autoscaler-sync-period`."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many pods, or percent of them, may be added or taken in a period.

    Attributes:
        kind: `Pods` or `Percent`.
        value: pods or percent.
        seconds: the period.
    """

    kind: str
    value: int
    seconds: float

    def limit(self, before: int, sign: int) -> int:
        """Return how many pods there may be when there were `before` as the period began."""
        if self.kind == "Pods":
            return before + sign * self.value
        share = before * (1 + sign * self.value / 100)
        return math.ceil(share) if sign > 0 else int(share)


@dataclass(frozen=True, slots=True)
class Direction:
    """One side of a `behavior`: its window in seconds, its policies, and which of them counts."""

    window: float
    policies: tuple[Policy, ...]
    select: str = "Max"


@dataclass(frozen=True, slots=True)
class Behavior:
    """Both sides."""

    up: Direction
    down: Direction


def behavior_of(spec: Mapping[str, Any], factor: float) -> Behavior:
    """Return the `behavior` of an autoscaler, its seconds divided by the factor."""
    return Behavior(*(_direction(spec[side], factor) for side in ("scaleUp", "scaleDown")))


def by_average(value: float, target: float, pods: int) -> int:
    """Return the pods that an external metric with an AverageValue asks for; `pods` within the tolerance."""
    # Quantities are whole thousandths: the very edge falls as it does in Kubernetes.
    if pods and abs(1 - round(value * 1000) / (round(target * 1000) * pods)) <= TOLERANCE:
        return pods
    return math.ceil(value / target)


def by_cpu(used: Sequence[float], unready: int, request: float, percent: float, pods: int) -> int | None:
    """Return the pods that a target of CPU utilisation asks for; None when nobody can say.

    Args:
        used: cores that each ready pod uses.
        unready: pods that are not ready: left out of a scale-in, counted as idle in a scale-out.
        request: cores that a pod requests.
        percent: of the request that is aimed at.
        pods: that there are.
    """
    if not used:
        return None
    ratio = _utilisation(used, len(used), request, percent)
    if not (unready and ratio > 1):
        return pods if abs(1 - ratio) <= TOLERANCE else math.ceil(ratio * len(used))
    everyone = len(used) + unready
    with_idle = _utilisation(used, everyone, request, percent)
    if with_idle <= 1 + TOLERANCE:
        return pods
    return max(math.ceil(with_idle * everyone), pods)


@dataclass(slots=True)
class Hpa:
    """One autoscaler's memory: what it recommended, and what it did.

    Attributes:
        behavior: windows and policies.
        low: fewest pods; 1 or more.
        high: most pods.
    """

    behavior: Behavior
    low: int
    high: int
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _steps: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, current: int, wanted: int | None) -> int:
        """Return how many pods there shall be.

        Args:
            now: seconds, never less than before.
            current: pods that there are; with none the autoscaler rests.
            wanted: what the metric asks for; None when it can't be read: then nothing changes.
        """
        if not self._recommended:
            self._recommended.append((now, current))
        if current == 0:
            return 0
        if not self.low <= current <= self.high:
            decided = min(max(current, self.low), self.high)
        elif wanted is None:
            return current
        else:
            decided = self._within_policies(now, current, self._stable(now, current, wanted))
        if decided != current:
            self._steps.append((now, decided - current))
        return decided

    def _stable(self, now: float, current: int, wanted: int) -> int:
        """Hold it between the least that was recommended in the one window and the most in the other."""
        up, down = self.behavior.up.window, self.behavior.down.window
        least = min([wanted, *(pods for at, pods in self._recommended if at > now - up)])
        most = max([wanted, *(pods for at, pods in self._recommended if at > now - down)])
        longest = max(up, down)
        self._recommended = [(at, pods) for at, pods in self._recommended if at > now - longest]
        self._recommended.append((now, wanted))
        return min(max(current, least), most)

    def _within_policies(self, now: float, current: int, wanted: int) -> int:
        if wanted > current:
            limit = max(self._limit(now, current, self.behavior.up, 1), current)
            return min(wanted, limit, self.high)
        if wanted < current:
            limit = min(self._limit(now, current, self.behavior.down, -1), current)
            return max(wanted, limit, self.low)
        return current

    def _limit(self, now: float, current: int, side: Direction, sign: int) -> int:
        if side.select == "Disabled":
            return current
        limits = [
            policy.limit(current - sum(self._done_since(now - policy.seconds)), sign)
            for policy in side.policies
        ]
        # `Max` is the policy that changes most: upwards the highest limit, downwards the lowest.
        return max(limits) if (side.select == "Max") == (sign > 0) else min(limits)

    def _done_since(self, start: float) -> Iterable[int]:
        return (change for at, change in self._steps if at > start)


def _direction(side: Mapping[str, Any], factor: float) -> Direction:
    policies = tuple(
        Policy(one["type"], int(one["value"]), one["periodSeconds"] / factor) for one in side["policies"]
    )
    return Direction(side["stabilizationWindowSeconds"] / factor, policies, side.get("selectPolicy", "Max"))


def _utilisation(used: Sequence[float], pods: int, request: float, percent: float) -> float:
    """Return the share of the target that is used; Kubernetes compares whole percents."""
    return int(sum(used) * 100 / (pods * request)) / percent
