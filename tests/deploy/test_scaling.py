"""How many pods the rendered ScaledObjects ask for."""

from collections import defaultdict
from typing import Any

import pytest

from embedfleet.contracts.jobs import LEASES
from tests.deploy.chart import SETS, containers, named, of_kind, rendered, values_of
from tests.deploy.formula import evaluate, replicas

KEDA_SETS = [name for name in SETS if of_kind(rendered(name), "ScaledObject")]


@pytest.mark.parametrize(
    ("pool", "queued", "inflight", "pods"),
    [
        ("documents", 0, 0, 0),
        ("documents", 1, 0, 1),
        ("documents", 0, 1, 1),
        ("documents", 8, 0, 1),
        ("documents", 9, 0, 2),
        ("documents", 0, 4, 1),
        ("documents", 0, 5, 2),
        ("documents", 8, 4, 2),
        ("documents", 40, 12, 8),
        ("documents", 10_000, 80, 20),
        ("embeddings", 0, 0, 0),
        ("embeddings", 1, 0, 1),
        ("embeddings", 0, 1, 1),
        ("embeddings", 0, 64, 1),
        ("embeddings", 60, 0, 1),
        ("embeddings", 64, 0, 1),
        ("embeddings", 65, 0, 2),
        ("embeddings", 20, 64, 2),
        ("embeddings", 64, 64, 2),
        ("embeddings", 48, 96, 3),
        ("embeddings", 500, 256, 4),
    ],
)
def test_a_pool_asks_for_pods_by_what_waits_and_what_runs(
    pool: str, queued: int, inflight: int, pods: int
) -> None:
    spec = named(rendered("minimal"), "ScaledObject", f"fleet-embedfleet-{pool}")["spec"]
    assert replicas(spec, {"queued": queued, "inflight": inflight}) == pods


@pytest.mark.parametrize("name", KEDA_SETS)
def test_a_pool_is_at_zero_when_nothing_waits_and_nothing_runs_and_never_else(name: str) -> None:
    for item in of_kind(rendered(name), "ScaledObject"):
        for queued in (0, 1, 7, 1000):
            for inflight in (0, 1, 7, 1000):
                pods = replicas(item["spec"], {"queued": queued, "inflight": inflight})
                assert (pods == 0) == (queued == inflight == 0), item["metadata"]["name"]


@pytest.mark.parametrize("name", KEDA_SETS)
def test_what_one_pod_takes_at_once_starts_one_pod(name: str) -> None:
    for item in of_kind(rendered(name), "ScaledObject"):
        full = float(_length(item["spec"], "inflight"))
        runs = replicas(item["spec"], {"queued": 0, "inflight": full})
        assert replicas(item["spec"], {"queued": full, "inflight": 0}) == runs == 1, item["metadata"]["name"]


@pytest.mark.parametrize("name", KEDA_SETS)
def test_a_scaled_object_counts_the_queue_and_the_leases_of_its_own_workers(name: str) -> None:
    objects = rendered(name)
    for item in of_kind(objects, "ScaledObject"):
        spec = item["spec"]
        deployment = named(objects, "Deployment", spec["scaleTargetRef"]["name"])
        (worker,) = containers(deployment["spec"]["template"]["spec"])
        flags = dict(flag.split("=", 1) for flag in worker["args"] if flag.startswith("--") and "=" in flag)
        lists = {trigger["name"]: trigger["metadata"]["listName"] for trigger in spec["triggers"]}
        assert lists == {"queued": flags["--queues"], "inflight": f"{LEASES}{flags['--queues']}"}
        alone = evaluate(_formula(spec), {"queued": 0, "inflight": float(flags["--concurrency"])})
        share = evaluate(_formula(spec), {"queued": float(_length(spec, "queued")), "inflight": 0})
        assert alone == share, "a full pod counts as one, as do the tasks for which one is started"
        assert "replicas" not in deployment["spec"], "two would set it"


@pytest.mark.parametrize("name", KEDA_SETS)
def test_pools_of_one_queue_start_pods_for_its_work_once(name: str) -> None:
    shares: dict[str, float] = defaultdict(float)
    for item in of_kind(rendered(name), "ScaledObject"):
        spec = item["spec"]
        queue = next(t["metadata"]["listName"] for t in spec["triggers"] if t["name"] == "queued")
        shares[queue] += evaluate(_formula(spec), {"queued": float(_length(spec, "queued")), "inflight": 0})
    assert {"documents", "embeddings"} <= shares.keys()
    assert all(share == pytest.approx(1) for share in shares.values())


def test_pools_of_one_queue_share_its_work_by_what_their_pods_take() -> None:
    pools = [one for one in values_of("multi-gpu-pools")["pools"].values() if "autoscaling" in one]
    places = [one["autoscaling"]["max"] * one["concurrency"] for one in pools]
    assert len(places) > 1
    assert [one["autoscaling"]["share"] for one in pools] == [place / sum(places) for place in places]


@pytest.mark.parametrize("name", KEDA_SETS)
def test_scaling_in_is_slow_and_an_outage_of_redis_never_scales_in(name: str) -> None:
    for item in of_kind(rendered(name), "ScaledObject"):
        spec = item["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == spec["cooldownPeriod"] >= 120
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
        assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"


@pytest.mark.parametrize("formula", ["max(queued, inflight)", "queued / other", "queued ** 2", "'1'"])
def test_the_evaluator_takes_no_formula_that_it_does_not_know(formula: str) -> None:
    with pytest.raises(ValueError, match="not arithmetic"):
        evaluate(formula, {"queued": 1, "inflight": 1})


@pytest.mark.parametrize(
    ("name", "kind"), [("hpa", "HorizontalPodAutoscaler"), ("no-keda", ""), ("minimal", "ScaledObject")]
)
def test_only_one_engine_scales(name: str, kind: str) -> None:
    objects = rendered(name)
    scalers = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    workers = [item for item in scalers if not item["metadata"]["name"].endswith("-api")]
    assert {item["kind"] for item in workers} == ({kind} if kind else set())
    for item in of_kind(objects, "Deployment"):
        if item["metadata"]["name"].endswith(("-documents", "-embeddings")):
            assert ("replicas" in item["spec"]) == (not kind)


def _formula(spec: dict[str, Any]) -> str:
    return str(spec["advanced"]["scalingModifiers"]["formula"])


def _length(spec: dict[str, Any], trigger: str) -> str:
    return str(next(t["metadata"]["listLength"] for t in spec["triggers"] if t["name"] == trigger))
