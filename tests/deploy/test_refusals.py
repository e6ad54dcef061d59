"""Wrong values are refused before anything reaches a cluster, with a sentence that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from embedfleet.contracts.routes import Routes
from embedfleet.runtime.addresses import BlobUrl
from tests.deploy.chart import IMAGES, render
from tests.deploy.helm import HelmError

PVC = {"mode": "pvc", "pvc": {"claim": "shared"}}
S3 = {"mode": "s3", "s3": {"bucket": "blobs"}}
GCS = {"mode": "gcs", "gcs": {"bucket": "blobs"}}
AZURE = {"mode": "azure", "azure": {"account": "a", "container": "blobs"}}
NEEDED = {"images": IMAGES, "blobs": PVC}
OURS = ("api", "documents", "embeddings")
LARGE = {"kind": "documents", "queue": "documents-large", "minBytes": 1000}
BIG = {"resources": {"limits": {"memory": "16Gi"}}}


def test_helm_s_library_is_in_no_test_process() -> None:
    with pytest.raises(HelmError):
        render({})
    assert "libhelm" not in Path("/proc/self/maps").read_text("utf-8", "replace")


def _pools(**pools: Any) -> dict[str, Any]:
    return {"pools": pools}


def _limited(memory: str, **pool: Any) -> dict[str, Any]:
    return _pools(documents={"resources": {"limits": {"memory": memory}}, **pool})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"images": {}}, "images.api.repository is embedfleet/api, which names no registry"),
        ({"images": {"registry": "fleet"}}, "fleet/embedfleet/api, which names no registry"),
        (
            {"images": {name: {"repository": f"localhost/{name}"} for name in OURS[:2]}},
            "images.embeddings.repository is embedfleet/embeddings, which names no registry",
        ),
        (
            {
                "images": {name: {"repository": f"localhost/{name}"} for name in OURS},
                **_pools(documents={"image": {"repository": "mine/documents"}}),
            },
            "pools.documents.image.repository is mine/documents, which names no registry",
        ),
        ({"redis": {"maxMemory": "8gb"}}, "more than three quarters of redis.resources.limits.memory, 2Gi"),
        *(
            ({store: {"tls": {"existingSecret": "tls"}}}, f"set {store}.tls.enabled to true")
            for store in ("redis", "qdrant")
        ),
        (
            {"blobs": S3 | {"existingSecret": "keys", "gcs": {"keyFile": "k"}}},
            "blobs.gcs.keyFile is set, but blobs.mode is s3",
        ),
        (
            {
                "autoscaling": {"engine": "hpa"},
                **_pools(
                    documents={"autoscaling": {"min": 1}},
                    embeddings={"autoscaling": {"min": 1}, "gpu": {"count": 1}},
                ),
            },
            "Name metrics of your adapter in pools.embeddings.autoscaling.hpa.metrics",
        ),
        (
            {"autoscaling": {"fallback": {"replicas": 5}}},
            "autoscaling.fallback.replicas is 5, but pools.embeddings.autoscaling.max is 4",
        ),
        ({"blobs": {}}, "blobs.mode is not set: api and workers share uploads"),
        ({"blobs": {"mode": "s3"}}, "set blobs.s3.bucket"),
        (
            {"blobs": {"mode": "azure", "azure": {"container": "blobs"}}},
            "set blobs.azure.account and blobs.azure.container",
        ),
        (
            {"blobs": {"mode": "gcs", "gcs": {"bucket": "blobs", "keyFile": "k"}}},
            "blobs.gcs.keyFile is a key of blobs.existingSecret",
        ),
        ({"blobs": {"mode": "pvc"}}, "name a ReadWriteMany claim in blobs.pvc.claim"),
        ({"redis": {"mode": "external"}}, "set redis.host to its host name"),
        (
            {"redis": {"mode": "external", "host": "r"}},
            "name the Secret with its credentials in redis.auth.existingSecret",
        ),
        ({"redis": {"host": "r"}}, "set redis.mode to external, or unset the host"),
        ({"redis": {"tls": {"enabled": True}}}, "redis.tls.enabled needs redis.tls.existingSecret"),
        ({"redis": {"auth": {"username": "fleet"}}}, "redis.auth.username is for a store of yours"),
        (
            {
                "redis": {
                    "mode": "external",
                    "host": "r",
                    "auth": {"existingSecret": "s", "kedaUsername": "k"},
                }
            },
            "redis.auth.kedaUsername needs redis.auth.kedaPasswordKey",
        ),
        ({"redis": {"auth": {"urlKey": "url"}}}, "redis.auth.urlKey is a key of redis.auth.existingSecret"),
        *(
            ({"blobs": blobs, "qdrant": {"tls": {"enabled": True, "existingSecret": "ca"}}}, "coversBlobs")
            for blobs in (S3, GCS, AZURE)
        ),
        ({"qdrant": {"mode": "external"}}, "set qdrant.host to its host name"),
        ({"model": {"source": "pvc"}}, "name the claim that holds the model in model.claim"),
        ({"model": {"claim": "models"}}, "set model.source to pvc, or unset the claim"),
        ({"auth": {"mode": "off", "existingSecret": "keys"}}, "unset one of the two"),
        ({"api": {"ingress": {"enabled": True}}}, "api.ingress.enabled needs api.ingress.host"),
        ({"api": {"hpa": {"enabled": True, "min": 9}}}, "api.hpa.min is above api.hpa.max"),
        (
            {"serviceAccount": {"name": "mine"}},
            "set serviceAccount.create to false, or unset the name",
        ),
        ({"autoscaling": {"engine": "hpa"}}, "can't scale to zero: set it to 1 or more, or use keda"),
        (_pools(documents={"queue": "files"}), "which the app doesn't know: use documents or embeddings"),
        (_pools(documents={"minBytes": 5}), "pools.documents.minBytes needs a queue of its own"),
        (_pools(large=LARGE | {"queue": "large"}), "set pools.large.queue to documents-large"),
        (_pools(documents={"queue": "embeddings"}), "they can't run what waits there"),
        (_pools(documents={"autoscaling": {"min": 30}}), "pools.documents.autoscaling.min is above max"),
        (_pools(documents={"gpu": {"count": 1}}), "documents workers can't use one"),
        (_pools(embeddings={"gpu": {"count": 2}}), "a worker uses one GPU"),
        (_limited("6Gi"), "4 files at a time may take 1500000000 bytes each (FLEET_SANDBOX_MEMORY)"),
        (_limited("6746Mi"), "Set it to 6747Mi or more, or lower pools.documents.concurrency"),
        (_limited("7000000000"), "limits.memory is 7000000000, but 4 files"),
        (_limited("7G", concurrency=5), "5 files at a time"),
        (_limited("8Gi") | {"settings": {"FLEET_SANDBOX_MEMORY": "3000000000"}}, "3000000000 bytes each"),
        (
            _limited("8Gi", env=[{"name": "FLEET_SANDBOX_MEMORY", "value": "3000000000"}]),
            "3000000000 bytes each",
        ),
        (
            _pools(embeddings={"autoscaling": {"queuedPerReplica": 63}}),
            "Set it to pools.embeddings.concurrency or more",
        ),
        (_pools(documents={"concurrency": 9, **BIG}), "queuedPerReplica is 8, but one pod takes 9 tasks"),
        (_pools(embeddings={"enabled": False}), "no pool takes the queue embeddings"),
        (_pools(more={"kind": "embeddings"}), "must add up to 1"),
        (
            _pools(large=LARGE, larger=LARGE | {"queue": "documents-huge"}),
            "which of them takes such a file",
        ),
        (
            _pools(
                large=LARGE | {"autoscaling": {"share": 0.5}},
                larger=LARGE | {"minBytes": 2000, "autoscaling": {"share": 0.5}},
            ),
            "all pools of the queue documents-large must have the same minBytes",
        ),
    ],
)
def test_what_can_not_work_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelmError) as refusal:
        render(NEEDED | values)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicaCount": 3}, "'replicaCount' not allowed"),
        ({"api": {"replica": 3}}, "'replica' not allowed"),
        (_pools(documents={"autoscaling": {"maximum": 3}}), "'maximum' not allowed"),
        (_pools(Docs={}), "'Docs' not allowed"),
        *((_pools(**{name: {}}), "/pools") for name in ("redis", "deny", "egress", "egress-qdrant")),
        ({"settings": {"FLEET_LEASE_SECOND": "30"}}, "FLEET_LEASE_SECOND"),
        ({"settings": {"QDRANT_URL": "http://elsewhere"}}, "QDRANT_URL"),
        ({"autoscaling": {"engine": "both"}}, "/autoscaling/engine"),
        ({"autoscaling": {"fallback": {"replicas": 0}}}, "/autoscaling/fallback/replicas"),
        ({"blobs": {"mode": "nfs"}}, "/blobs/mode"),
        ({"images": {"api": {"tag": "latest"}}}, "/images/api/tag"),
        ({"model": {"revision": "main"}}, "/model/revision"),
        ({"terminationGracePeriodSeconds": 5}, "/terminationGracePeriodSeconds"),
        (_pools(documents={"concurrency": 0}), "/pools/documents/concurrency"),
        (_pools(documents={"autoscaling": {"queuedPerReplica": 0}}), "/queuedPerReplica"),
        ({"redis": {"maxMemory": "1Gi"}}, "/redis/maxMemory"),
    ],
)
def test_what_the_schema_does_not_know_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmError) as refusal:
        render(NEEDED | values)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("queue", "size"),
    [
        ("documents-l", 1),
        ("documents-large", 999_999_999_999_999),
        ("documents-" + "l" * 29, 1),
        ("documents-" + "l" * 30, 1),
        ("documents-", 1),
        ("documents.large", 1),
        ("large", 1),
        ("due", 1),
        ("documents-large", 1_000_000_000_000_000),
    ],
)
def test_queues_of_large_files_are_those_that_the_app_takes(queue: str, size: int) -> None:
    pools = _pools(large={"kind": "documents", "queue": queue, "minBytes": size})
    assert _takes(lambda: render(NEEDED | pools)) == _takes(lambda: Routes.parse(f"{queue}={size}"))


@pytest.mark.parametrize(
    ("bucket", "prefix"),
    [
        *(("fleet-blobs", prefix) for prefix in ("", "prod", "prod/", "a/b=1/.c", "..a/b..")),
        *(("fleet-blobs", prefix) for prefix in ("/prod", "a//b", "..", "a/../b", "a/.", "a b")),
        *((bucket, "prod") for bucket in ("b", "-b", "Blobs", "a/b", "b" * 222, "b" * 223)),
    ],
)
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_buckets_are_those_that_the_app_takes(scheme: str, bucket: str, prefix: str) -> None:
    blobs: dict[str, Any] = {
        "s3": {"mode": "s3", "s3": {"bucket": bucket, "prefix": prefix}},
        "gs": {"mode": "gcs", "gcs": {"bucket": bucket, "prefix": prefix}},
        "az": {"mode": "azure", "azure": {"account": "a", "container": bucket, "prefix": prefix}},
    }[scheme]
    url = f"{scheme}://{bucket}/{prefix}"
    taken = _takes(lambda: TypeAdapter(BlobUrl).validate_python(url))
    assert _takes(lambda: render(NEEDED | {"blobs": blobs})) == taken


def _takes(call: Callable[[], object]) -> bool:
    try:
        call()
    except (HelmError, ValueError):
        return False
    return True


def test_a_private_ca_of_qdrant_is_taken_where_it_does_no_harm() -> None:
    tls = {"enabled": True, "existingSecret": "ca"}
    assert render(NEEDED | {"qdrant": {"tls": tls}})
    assert render(NEEDED | {"blobs": S3, "qdrant": {"tls": tls | {"coversBlobs": True}}})
    public = {"mode": "external", "host": "q", "auth": {"enabled": False}, "tls": {"enabled": True}}
    assert render(NEEDED | {"blobs": S3, "qdrant": public})


@pytest.mark.parametrize(
    "pools",
    [
        _limited("6747Mi"),
        _limited("7.1G"),
        _limited("3Gi", concurrency=1),
        _limited("4Gi", env=[{"name": "FLEET_SANDBOX_MEMORY", "value": "700000000"}]),
        _pools(more={"queue": "documents-large", "minBytes": 1}),
    ],
)
def test_memory_that_every_file_at_a_time_fits_into_is_taken(pools: dict[str, Any]) -> None:
    assert render(NEEDED | pools)


def test_what_both_tables_start_from_is_taken() -> None:
    assert render(NEEDED)


@pytest.mark.parametrize(
    "images",
    [
        {"pullPolicy": "Never"},
        {"registry": "localhost"},
        {"registry": "registry:5000/fleet"},
        {name: {"repository": f"localhost/embedfleet/{name}"} for name in OURS},
        {name: {"repository": f"docker.io/mine/{name}"} for name in OURS},
    ],
)
def test_images_that_are_not_docker_hubs_by_accident_are_taken(images: dict[str, Any]) -> None:
    assert render(NEEDED | {"images": images})


@pytest.mark.parametrize(
    ("share", "taken"), [(0.333, True), (0.33, True), (0.336, True), (0.32, False), (0.34, False)]
)
def test_shares_add_up_to_one_within_a_hundredth(share: float, taken: bool) -> None:
    third = {"kind": "embeddings", "autoscaling": {"share": share}}
    pools = _pools(**dict.fromkeys(("embeddings", "second", "third"), third))
    assert _takes(lambda: render(NEEDED | pools)) == taken


@pytest.mark.parametrize(
    ("most", "limit", "taken"),
    [
        ("768mb", "1Gi", True),
        ("769mb", "1Gi", False),
        ("3gb", "4096Mi", True),
        ("3gb", "4G", False),
        ("786432kb", "1Gi", True),
        ("768mb", 2**30, True),
        ("769mb", 2**30, False),
        ("1gb", "2e9", True),
    ],
)
def test_redis_may_use_three_quarters_of_its_memory(most: str, limit: str | int, taken: bool) -> None:
    bundled = {"maxMemory": most, "resources": {"limits": {"memory": limit}}}
    assert _takes(lambda: render(NEEDED | {"redis": bundled})) == taken
