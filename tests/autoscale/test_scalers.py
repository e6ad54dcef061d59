"""What KEDA and the HPA make of the chart's rules, step by step, without a process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from embedfleet.local.redis import RedisServer
from tests.autoscale.arms import ARMS, CHART, CPU, POOLS, QUEUED_ONLY, VALUES, Usage
from tests.autoscale.hpa import Behavior, Direction, Hpa, Policy, by_average, by_cpu
from tests.autoscale.keda import ByQueue, Keda, count, rules_of
from tests.deploy.chart import RELEASE, named, render

PLAIN = Behavior(up=Direction(0, (Policy("Pods", 2, 30),)), down=Direction(120, (Policy("Pods", 1, 60),)))


def rules(pool: str = "documents", version: Keda = Keda.NEWER, **changes: Any) -> ByQueue:
    spec = named(render(VALUES), "ScaledObject", f"{RELEASE}-embedfleet-{pool}")["spec"]
    return ByQueue(replace(rules_of(spec, 1), **changes), 1, version)


def course(scaler: ByQueue, values: dict[float, tuple[int, int] | None], until: float) -> Iterator[int]:
    """Yield the pods after each second; `values` are (queued, inflight) from a second on, None: an error."""
    pods, now, counts = 0, 0.0, None
    while now <= until:
        if now in values:
            counts = values[now] and dict(zip(("queued", "inflight"), values[now], strict=True))
        pods = scaler.turn(now, pods, lambda counts=counts: counts)
        yield pods
        now += 1


@pytest.mark.parametrize(
    ("value", "pods", "asked"),
    [(3.0, 3, 3), (3.2, 3, 3), (3.3, 3, 4), (2.7, 3, 3), (2.6, 3, 3), (2.0, 3, 2), (0.0, 3, 0), (0.1, 1, 1)],
)
def test_a_value_within_a_tenth_changes_nothing(value: float, pods: int, asked: int) -> None:
    assert by_average(value, 1, pods) == asked


@pytest.mark.parametrize(
    ("used", "unready", "asked"),
    [
        ([0.7], 0, 1),
        ([0.76], 0, 1),
        ([0.9], 0, 2),
        ([0.1, 0.1], 0, 1),
        ([], 1, None),
        ([0.9], 1, 2),  # with the other as idle it is 45 %: no change
        ([2.0], 1, 3),
        ([1.5], 1, 2),  # 75 % for 70 is near enough
        ([0.1], 1, 1),
    ],
)
def test_cpu_counts_pods_that_are_not_ready_as_idle(used: list[float], unready: int, asked: int) -> None:
    assert by_cpu(used, unready, 1.0, 70, len(used) + unready) == asked


def test_scaling_out_is_held_by_its_policy() -> None:
    hpa = Hpa(PLAIN, 1, 10)
    assert hpa.decide(0, 1, 9) == 3
    assert hpa.decide(15, 3, 9) == 3, "two pods in 30 s"
    assert hpa.decide(30, 3, 9) == 5
    assert hpa.decide(60, 5, 99) == 7
    assert hpa.decide(90, 7, 99) == 9
    assert hpa.decide(120, 9, 99) == 10, "no more than the most"


def test_scaling_in_waits_for_the_window_and_then_takes_one_by_one() -> None:
    hpa = Hpa(PLAIN, 1, 10)
    assert hpa.decide(0, 4, 4) == 4
    pods, taken = 4, {}
    for now in range(15, 400, 15):
        after = hpa.decide(now, pods, 1)
        if after != pods:
            taken[now] = after
        pods = after
    assert taken == {120: 3, 180: 2, 240: 1}


def test_one_high_recommendation_in_the_window_keeps_the_pods() -> None:
    hpa = Hpa(PLAIN, 1, 10)
    for now in range(0, 90, 15):
        assert hpa.decide(now, 4, 4 if now == 60 else 1) == 4
    assert hpa.decide(165, 4, 1) == 4
    assert hpa.decide(180, 4, 1) == 3


def test_a_window_for_scaling_out_takes_the_least_recommendation() -> None:
    hpa = Hpa(Behavior(Direction(60, (Policy("Pods", 9, 15),)), PLAIN.down), 1, 10)
    assert hpa.decide(0, 1, 5) == 1
    assert hpa.decide(30, 1, 4) == 1
    assert hpa.decide(75, 1, 6) == 4


@pytest.mark.parametrize(("select", "up", "down"), [("Max", 8, 2), ("Min", 5, 3), ("Disabled", 4, 4)])
def test_of_several_policies_the_selected_one_counts(select: str, up: int, down: int) -> None:
    side = Direction(0, (Policy("Pods", 1, 60), Policy("Percent", 100, 60)), select)
    assert Hpa(Behavior(side, side), 1, 20).decide(0, 4, 20) == up
    side = replace(side, policies=(Policy("Pods", 1, 60), Policy("Percent", 50, 60)))
    assert Hpa(Behavior(side, side), 1, 20).decide(1, 4, 1) == down


def test_without_a_metric_or_without_pods_the_hpa_does_nothing() -> None:
    hpa = Hpa(PLAIN, 1, 10)
    assert hpa.decide(0, 3, None) == 3
    assert hpa.decide(1, 0, 7) == 0
    assert hpa.decide(2, 12, None) == 10, "but the bounds hold"


def test_a_pool_goes_from_zero_to_n_and_after_its_cooldown_to_zero() -> None:
    pods = list(course(rules(), {0: (0, 0), 25: (17, 0), 60: (0, 2), 100: (0, 0)}, 320))
    assert pods[:30] == [0] * 30, "KEDA looks every 10 s"
    assert pods[30] == 3, "17 / 8 of them, held by the most"
    assert pods[30:165] == [3] * 135, "three were asked for at 45 s, and the window is 120 s"
    assert pods[165:220] == [2] * 55, "one in 60 s"
    assert pods[220:] == [0] * 101, "at 90 s KEDA's look found work for the last time"


def test_a_pool_is_not_at_zero_while_something_runs() -> None:
    assert list(course(rules(), {0: (1, 0), 15: (0, 1)}, 900))[15:] == [1] * 886


def test_lists_alone_take_the_pod_of_a_task_that_runs() -> None:
    scaler = QUEUED_ONLY.scalers(1)["documents"]
    assert isinstance(scaler, ByQueue)
    pods = list(course(scaler, {0: (1, 0), 15: (0, 1)}, 900))
    assert pods[100] == 1
    assert pods[150] == 0


def test_one_task_of_the_fullest_pod_is_activity() -> None:
    assert list(course(rules("embeddings"), {0: (0, 1)}, 1)) == [1, 1], "1 / 64 is 15 thousandths"


@pytest.mark.parametrize("version", Keda)
def test_an_outage_scales_nobody_in(version: Keda) -> None:
    pods = list(course(rules(version=version), {0: (17, 0), 60: None, 2000: (0, 0)}, 2001))
    assert set(pods[30:2000]) == {3}


def test_in_an_outage_an_older_keda_leaves_a_pool_at_zero() -> None:
    assert list(course(rules(version=Keda.OLDER), {0: None}, 300)) == [0] * 301


@pytest.mark.parametrize(("fallback", "peak"), [(1, 1), (3, 3), (0, 0)])
def test_in_an_outage_a_newer_keda_starts_the_fallback_of_a_pool_at_zero(fallback: int, peak: int) -> None:
    pods = list(course(rules(fallback=fallback), {0: None, 300: (0, 0)}, 600))
    assert pods[:30] == [0] * 30, "three looks may fail, one each 10 s"
    assert set(pods[30:300]) == {peak}
    assert pods[-1] == 0, "what was started for nothing goes again"


def test_a_look_that_succeeds_in_between_begins_the_count_anew() -> None:
    assert list(course(rules(), {0: None, 25: (0, 0), 35: None}, 69)) == [0] * 70
    assert list(course(rules(), {0: None, 25: (0, 0), 35: None}, 70))[-1] == 1


@pytest.mark.parametrize(("version", "left"), [(Keda.OLDER, 0), (Keda.NEWER, 3)])
def test_the_cooldown_after_an_outage_counts_from_the_last_fallback(version: Keda, left: int) -> None:
    pods = list(course(rules(version=version), {0: (17, 0), 60: None, 2000: (0, 0)}, 2200))
    assert pods[2000] == left, "the older one remembers activity of before the outage"
    assert pods[-1] == 0


@pytest.mark.parametrize("version", Keda)
def test_a_fallback_that_keeps_nobody_would_scale_in(version: Keda) -> None:
    pods = list(course(rules(version=version, keeps=False), {0: (17, 0), 60: None}, 900))
    assert pods[110] == 3, "three looks may fail, and the window holds"
    assert pods[-1] == 1


@pytest.mark.parametrize("pool", POOLS)
def test_one_factor_divides_every_time(pool: str) -> None:
    spec = named(render(VALUES), "ScaledObject", f"{RELEASE}-embedfleet-{pool}")["spec"]
    whole, scaled = rules_of(spec, 1), rules_of(spec, 20)
    assert (scaled.polling, scaled.cooldown) == (whole.polling / 20, whole.cooldown / 20)
    for side in ("up", "down"):
        before, after = getattr(whole.behavior, side), getattr(scaled.behavior, side)
        assert after.window == before.window / 20
        assert [one.seconds for one in after.policies] == [one.seconds / 20 for one in before.policies]
    assert (scaled.formula, scaled.high) == (whole.formula, whole.high)


def test_the_arms_differ_in_what_they_count_alone() -> None:
    scalers = {arm.name: arm.scalers(20) for arm in ARMS}
    for pool in POOLS:
        ours, queued = scalers[CHART.name][pool], scalers[QUEUED_ONLY.name][pool]
        assert isinstance(ours, ByQueue)
        assert isinstance(queued, ByQueue)
        assert set(ours.rules.keys.values()) == {pool, f"leases:{pool}"}
        assert set(queued.rules.keys.values()) == {pool}
        assert replace(queued.rules, keys=ours.rules.keys, formula=ours.rules.formula) == ours.rules


def test_the_cpu_arm_keeps_a_pod_and_takes_more_by_use() -> None:
    scaler = CPU.scalers(1)["embeddings"]
    assert scaler.least == 1
    assert scaler.turn(0, 1, lambda: Usage([0.2], 0)) == 1
    assert scaler.turn(15, 1, lambda: Usage([1.9], 0)) == 2
    assert scaler.turn(16, 2, lambda: pytest.fail("it looks every 15 s")) == 2


def test_a_key_is_counted_by_its_type(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        client: Any = redis.Redis.from_url(server.url, decode_responses=True)
        client.rpush("list", 1, 2)
        client.zadd("zset", {"a": 1, "b": 2, "c": 3})
        client.sadd("set", 1)
        client.hset("hash", mapping={"a": 1, "b": 2})
        client.set("string", "x")
        assert [count(client, key) for key in ("list", "zset", "set", "hash", "none")] == [2, 3, 1, 2, 0]
        with pytest.raises(KeyError):
            count(client, "string")
        client.close()
