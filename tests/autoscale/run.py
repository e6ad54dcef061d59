"""One arm: a scaler for each pool, real workers, two bursts, and what came of it."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import redis

from embedfleet.contracts.jobs import LEASES
from embedfleet.local.child import Child
from embedfleet.local.ports import LOOPBACK, free_ports
from tests.autoscale.arms import POOLS, Arm, ByCpu, ByQueue, Usage, command, deployment, grace_of
from tests.autoscale.keda import count
from tests.autoscale.load import Burst, Story
from tests.autoscale.pods import Pool
from tests.chaos.client import Client
from tests.chaos.corpus import File
from tests.chaos.judge.checker import check
from tests.chaos.judge.states import pid_of
from tests.chaos.load import ForeignLoad
from tests.chaos.stack import Stack, wait_until

TICK_SECONDS = 0.1
SAMPLE_SECONDS = 0.5
ARM_SECONDS = 400.0
START_SECONDS = 120.0
# As on one machine: API, Redis and Qdrant share the cores with the workers here, but not in a cluster.
WORKER_NICE = 5
COUNTED = ("queued", "inflight")


@dataclass(slots=True)
class Outcome:
    """What came of an arm; times in seconds since its first upload.

    Attributes:
        arm: its name.
        words: the same for people.
        documents: that were READY with exactly their chunks.
        lost: lines of the checker, or of who wasn't READY.
        duplicates: lines of the checker.
        problems: whatever else is wrong, one line each.
        drain_s: from a burst's first upload to its last document READY, the bursts added.
        seconds: until the pools were at their least again.
        worker_seconds: of all pods until then.
        least: pods that stay for good.
        peaks: most pods of each pool.
        cut: runs that a drain handed back and another worker began again, of each pool.
        flaps: how often a pool was scaled out after it had been scaled in.
        scaled_in: pods that were told to end.
        busy: those of each pool that held tasks then.
        slowest_end_s: the most that one of them took.
        others: share of the machine that processes of others took meanwhile.
        bursts: when each began, was accepted, was drained.
        steps: (time, pods) of each pool.
        samples: (time, queued, inflight) of each pool.
    """

    arm: str
    words: str
    documents: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    drain_s: float = 0.0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    least: int = 0
    peaks: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    flaps: int = 0
    scaled_in: int = 0
    busy: dict[str, int] = field(default_factory=dict)
    slowest_end_s: float = 0.0
    others: float = 0.0
    bursts: list[Burst] = field(default_factory=list)
    steps: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    samples: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it for the receipt, to hundredths of a second."""
        return dict(_rounded(asdict(self)))


def drive(stack: Stack, arm: Arm, files: Sequence[File], factor: float, pause: float) -> Outcome:
    """Run an arm to its end, and judge it by the checker of the chaos suite."""
    scalers = arm.scalers(factor)
    pools = {name: pool_of(stack, name, arm.name) for name in POOLS}
    outcome = Outcome(arm.name, arm.words, least=sum(one.least for one in scalers.values()))
    with Client(stack, f"autoscale-{arm.name.replace('_', '-')}") as client:
        story = Story(client, files, pause)
        loop = _Loop(stack, pools, scalers)
        try:
            loop.warm()
            load = ForeignLoad()
            _close_the_loop(loop, story, outcome)
            outcome.others = 1 - 1 / load.stretch
        finally:
            story.break_off()
            for pool in pools.values():
                pool.stop()
        _judge(client, files, outcome)
    return outcome


def warm_up(stack: Stack) -> None:
    """Start one pod of each pool and end it: files are in the page cache then, as images are on a node."""
    pools = {name: pool_of(stack, name, "warm") for name in POOLS}
    try:
        _start(pools, dict.fromkeys(POOLS, 1))
    finally:
        for pool in pools.values():
            pool.stop()


def pool_of(stack: Stack, name: str, arm: str) -> Pool:
    """Return an empty pool whose pods run the command of the chart's Deployment."""
    made = deployment(name)

    def make(pod: str) -> tuple[Child, str]:
        (port,) = free_ports(1)
        # Past the stack's relays: no fault is wanted, and they would take a core from the pods.
        stores = {"CELERY_BROKER_URL": stack.redis.url, "QDRANT_URL": stack.qdrant.url}
        env = {**stack.environment(), **stores, "FLEET_PROBE_PORT": str(port)}
        log = stack.folder / "logs" / f"{arm}-{pod}.log"
        child = Child(pod, command(made, pod), log=log, env=env, nice=WORKER_NICE)
        return child, f"http://{LOOPBACK}:{port}/readyz"

    return Pool(name, make, grace_of(made), lambda: holders(stack.client, name))


def holders(client: Any, queue: str) -> Counter[int]:
    """Return how many tasks of a queue each worker process holds, by its id, as the ledger knows them."""
    with client.pipeline(transaction=False) as calls:
        for task_id in client.zrange(LEASES + queue, 0, -1):
            calls.hget(f"task:{task_id}", "owner")
        return Counter(map(pid_of, calls.execute()))


class _Loop:
    """The scalers at work: reads the counts as KEDA does, scales, tends, samples."""

    def __init__(self, stack: Stack, pools: dict[str, Pool], scalers: dict[str, ByQueue | ByCpu]) -> None:
        self.pools, self.scalers = pools, scalers
        self._redis = stack.client
        self._next_sample = 0.0
        self.samples: dict[str, list[tuple[float, int, int]]] = {name: [] for name in pools}

    def warm(self) -> None:
        """Start what is there without work, and wait for it."""
        _start(self.pools, {name: one.least for name, one in self.scalers.items()})

    def turn(self, now: float) -> None:
        """Let each pool's scaler look, and do what it says."""
        for name, pool in self.pools.items():
            pool.tend(now)
            pool.scale(self._decided(name, pool, now), now)
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            for name, taken in self.samples.items():
                taken.append((now, *(count(self._redis, key) for key in (name, LEASES + name))))

    def is_at_least(self) -> bool:
        """Say whether all pools are as small as they get, and nobody is ending any more."""
        return all(
            pool.wanted == self.scalers[name].least == len(pool.alive) for name, pool in self.pools.items()
        )

    def _decided(self, name: str, pool: Pool, now: float) -> int:
        scaler = self.scalers[name]
        if isinstance(scaler, ByQueue):
            return scaler.turn(now, pool.wanted, lambda: self._counts(scaler))
        return scaler.turn(now, pool.wanted, lambda: Usage(*pool.cores(now)))

    def _counts(self, scaler: ByQueue) -> dict[str, float] | None:
        try:
            return {name: float(count(self._redis, key)) for name, key in scaler.rules.keys.items()}
        except redis.RedisError:
            return None


def _start(pools: dict[str, Pool], replicas: dict[str, int]) -> None:
    for name, pool in pools.items():
        pool.scale(replicas[name], time.monotonic())

    def ready() -> bool:
        for pool in pools.values():
            pool.tend(time.monotonic())
        return all(pod.ready for pool in pools.values() for pod in pool.active)

    wait_until(ready, "the first pods are ready", START_SECONDS, TICK_SECONDS)


def _close_the_loop(loop: _Loop, story: Story, outcome: Outcome) -> None:
    began = time.monotonic()
    paid = sum(pool.worker_seconds(began) for pool in loop.pools.values())
    with ThreadPoolExecutor(1) as beside:
        told = beside.submit(story)
        try:
            if not _turned(loop, told, began + ARM_SECONDS):
                outcome.problems.append(_stuck(loop, told))
        finally:
            story.break_off()  # else leaving the block would wait for it
        told.result()
    now = time.monotonic()
    outcome.seconds = now - began
    outcome.worker_seconds = sum(pool.worker_seconds(now) for pool in loop.pools.values()) - paid
    outcome.drain_s = sum(one.drained - one.began for one in story.bursts)
    outcome.bursts = [
        Burst(one.began - began, one.accepted - began, one.drained - began) for one in story.bursts
    ]
    outcome.samples = {
        name: [(at - began, *counts) for at, *counts in taken] for name, taken in loop.samples.items()
    }
    _note_pods(loop.pools.values(), began, outcome)


def _turned(loop: _Loop, told: "Future[None]", deadline: float) -> bool:
    """Turn the loop until all is told and done; False when the time is over before."""
    while not (told.done() and loop.is_at_least()):
        now = time.monotonic()
        if now > deadline:
            return False
        loop.turn(now)
        time.sleep(TICK_SECONDS)
    return True


def _note_pods(pools: Iterable[Pool], began: float, outcome: Outcome) -> None:
    for pool in pools:
        steps = [(max(at - began, 0.0), pods) for at, pods in pool.steps]
        outcome.steps[pool.name] = steps
        outcome.peaks[pool.name] = max((pods for _, pods in steps), default=0)
        outcome.flaps += flaps([pods for _, pods in steps])
        outcome.scaled_in += sum(bool(pod.told) for pod in pool.pods)
        outcome.busy[pool.name] = sum(bool(pod.held) for pod in pool.pods)
        outcome.slowest_end_s = max(outcome.slowest_end_s, pool.slowest_end())
        outcome.problems += pool.killed + pool.broke_off


def flaps(replicas: Sequence[int]) -> int:
    """Return how often a scale-in was followed by a scale-out."""
    grew = [after > before for before, after in pairwise([0, *replicas])]
    return sum(later and not earlier for earlier, later in pairwise(grew))


def _stuck(loop: _Loop, told: "Future[None]") -> str:
    pods = {name: len(pool.alive) for name, pool in loop.pools.items()}
    what = "the pools are not at their least" if told.done() else "documents are unfinished"
    return f"after {ARM_SECONDS:g} s {what}: pods {pods}"


def _judge(client: Client, files: Sequence[File], outcome: Outcome) -> None:
    verdict = check(client)
    outcome.documents = verdict.ready
    outcome.lost = verdict.lost or (
        [f"{len(files)} were sent, {verdict.ready} are READY"] if verdict.ready != len(files) else []
    )
    outcome.duplicates = verdict.duplicates
    outcome.problems += [f"orphan: {line}" for line in verdict.orphans]
    outcome.problems += [f"regression: {line}" for line in verdict.regressions]
    outcome.problems += client.spent()
    claims: Counter[str] = Counter(dict.fromkeys(POOLS, 0))
    for accepted in client.promises.accepted:
        for task in client.tasks(accepted):
            # Each claim has the next number. Beyond the first, a run was cut: by a drain, as no dependency is
            # down here, and a failure or a death is charged to its task, which is a problem.
            claims[task["queue"]] += max(int(task["fence"]) - 1, 0)
    outcome.cut = dict(claims)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
