"""KEDA's part: what its redis trigger counts, and when a pool is at zero. Pure but for `count`.

After kedacore/keda 2.17.1: pkg/scalers/redis_scaler.go, pkg/scaling/executor, pkg/fallback; and, for versions
that have it, what its pull request 7244 says that it changes. Between none and one pod KEDA decides, each
`pollingInterval`; above one the HPA that it makes does, and asks KEDA for the value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.autoscale.hpa import SYNC_SECONDS, Behavior, Hpa, behavior_of, by_average
from tests.deploy.formula import evaluate

COUNTS = {"list": "llen", "none": "llen", "hash": "hlen", "set": "scard", "zset": "zcard"}
"""The command by which the trigger counts a key, by the key's type."""

Read = Callable[[], Mapping[str, float] | None]


class Keda(Enum):
    """Versions that differ in whose looks take the fallback.

    Attributes:
        OLDER: 2.17.1: the HPA's alone, so a pool at zero stays there.
        NEWER: with kedacore/keda#7244 (of 2025-11-11; merged, no release note found): KEDA's own, too. Here a
            failed look of either counts, and the fallback's value is activity.
    """

    OLDER = "2.17.1"
    NEWER = "with #7244"


def count(client: Any, key: str) -> int:
    """Return what the redis trigger sees of a key.

    Raises:
        KeyError: its type is one that the trigger doesn't count.
    """
    return int(getattr(client, COUNTS[client.type(key)])(key))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a ScaledObject says; times in seconds of the caller.

    Attributes:
        keys: what each trigger counts, by the trigger's name.
        formula: over the triggers' names.
        target: the value that one pod is for.
        activation: the value above which a pool is not at zero.
        polling: between two looks of KEDA.
        cooldown: without activity before a pool goes to zero.
        low: `minReplicaCount`.
        high: `maxReplicaCount`.
        failures: looks that fail one after the other before the fallback.
        fallback: pods then.
        keeps: whether a pool that has more keeps them.
        behavior: of the HPA that KEDA makes.
    """

    keys: Mapping[str, str]
    formula: str
    target: float
    activation: float
    polling: float
    cooldown: float
    low: int
    high: int
    failures: int
    fallback: int
    keeps: bool
    behavior: Behavior


def rules_of(spec: Mapping[str, Any], factor: float) -> Rules:
    """Return the rules of a ScaledObject's spec, all its times divided by the factor."""
    advanced, fallback = spec["advanced"], spec["fallback"]
    modifiers = advanced["scalingModifiers"]
    return Rules(
        keys={trigger["name"]: trigger["metadata"]["listName"] for trigger in spec["triggers"]},
        formula=modifiers["formula"],
        target=float(modifiers["target"]),
        activation=float(modifiers["activationTarget"]),
        polling=spec["pollingInterval"] / factor,
        cooldown=spec["cooldownPeriod"] / factor,
        low=spec["minReplicaCount"],
        high=spec["maxReplicaCount"],
        failures=fallback["failureThreshold"],
        fallback=fallback["replicas"],
        keeps=fallback["behavior"] == "currentReplicasIfHigher",
        behavior=behavior_of(advanced["horizontalPodAutoscalerConfig"]["behavior"], factor),
    )


class ByQueue:
    """KEDA and its HPA for one pool.

    Args:
        rules: of its ScaledObject.
        factor: by which the HPA's own period is divided, as the rules' times were.
        version: of KEDA.
    """

    def __init__(self, rules: Rules, factor: float, version: Keda = Keda.NEWER) -> None:
        self.rules = rules
        self._version = version
        self._hpa = Hpa(rules.behavior, max(rules.low, 1), rules.high)
        self._sync = SYNC_SECONDS / factor
        self._next_poll = self._next_sync = self._last_active = float("-inf")
        self._failed = 0

    @property
    def least(self) -> int:
        """Pods of a pool without work."""
        return self.rules.low

    def turn(self, now: float, pods: int, read: Read) -> int:
        """Look if it is time to, and return how many pods there shall be.

        Args:
            now: seconds, never less than before.
            pods: that there are.
            read: returns the triggers' counts by name; None when they can't be read.
        """
        if now >= self._next_poll:
            self._next_poll = now + self.rules.polling
            falls_back = self._version is Keda.NEWER
            value = self._told(pods, read) if falls_back else self._value(read())
            pods = self._poll(now, pods, value)
        if now >= self._next_sync:
            self._next_sync = now + self._sync
            pods = self._hpa.decide(now, pods, self._wanted(pods, read) if pods else None)
        return pods

    def _poll(self, now: float, pods: int, value: float | None) -> int:
        if value is None:
            # An object with a fallback is left as it is; the time of the last activity stands.
            return pods
        if value > self.rules.activation:
            self._last_active = now
            return pods or max(self.rules.low, 1)
        if pods and not self.rules.low and now > self._last_active + self.rules.cooldown:
            return 0
        return max(pods, self.rules.low)

    def _wanted(self, pods: int, read: Read) -> int | None:
        value = self._told(pods, read)
        return None if value is None else by_average(value, self.rules.target, pods)

    def _told(self, pods: int, read: Read) -> float | None:
        """Look, and return the value, or the fallback's when too many looks failed one after the other."""
        value = self._value(read())
        self._failed = self._failed + 1 if value is None else 0
        if self._failed > self.rules.failures:
            replicas = max(pods, self.rules.fallback) if self.rules.keeps else self.rules.fallback
            return self.rules.target * replicas
        return value

    def _value(self, counts: Mapping[str, float] | None) -> float | None:
        if counts is None:
            return None
        # KEDA hands the HPA whole thousandths.
        return int(evaluate(self.rules.formula, dict(counts)) * 1000) / 1000
