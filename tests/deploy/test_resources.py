"""What pods ask for fits what runs in them: memory, cores, nodes, scratch space."""

import re
from typing import Any

import pytest

from embedfleet.encoders.registry import KNOWN, MODEL_FILES, PREFIXES
from tests.deploy.chart import (
    ROOT,
    SETS,
    Object,
    Values,
    containers,
    env_of,
    named,
    of_kind,
    pod_specs,
    render,
    rendered,
)

MINIMAL = {"images": {"registry": "registry.example.com"}, "blobs": {"mode": "pvc", "pvc": {"claim": "c"}}}
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# Of the models that a value set names, by their cards.
PARAMETERS = {"sentence-transformers/all-MiniLM-L6-v2": 22_700_000, "BAAI/bge-base-en-v1.5": 109_000_000}


@pytest.mark.parametrize("name", SETS)
def test_the_api_has_room_for_the_model_in_fp32_and_for_loading_it(name: str) -> None:
    (api,) = _containers(rendered(name), "api")
    model = env_of(api)["FLEET_MODEL_ID"]
    assert model in {**KNOWN, **PREFIXES}, "one that docs/encoders.md doesn't know"
    assert _bytes(api["resources"]["limits"]["memory"]) >= 2 * 4 * PARAMETERS[model] + 2**29


@pytest.mark.parametrize("name", SETS)
def test_our_images_run_on_the_platform_that_they_are_built_for(name: str) -> None:
    (platform,) = re.findall(r'platforms = \["linux/(\w+)"\]', (ROOT / "docker-bake.hcl").read_text("utf-8"))
    for where, spec in pod_specs(rendered(name)):
        if not {one["name"] for one in containers(spec)} & {"redis", "qdrant"}:
            assert spec["nodeSelector"]["kubernetes.io/arch"] == platform, where


@pytest.mark.parametrize("arch", ["arm64", None])
def test_images_of_ones_own_may_run_elsewhere(arch: str | None) -> None:
    elsewhere = {"nodeSelector": {"kubernetes.io/arch": arch}}
    objects = render(MINIMAL | {"api": elsewhere, "poolDefaults": elsewhere})
    found = [spec.get("nodeSelector", {}) for _, spec in pod_specs(objects)]
    assert {one.get("kubernetes.io/arch") for one in found} == {arch, None}


@pytest.mark.parametrize("name", SETS)
def test_an_encoder_on_the_cpu_has_the_threads_that_are_requested(name: str) -> None:
    for container in [*_containers(rendered(name), "api"), *_containers(rendered(name), "worker")]:
        encodes = "embedfleet.documents.tasks" not in container["args"]
        on_cpu = env_of(container)["FLEET_DEVICE"] == "cpu"
        wanted = [{"resourceFieldRef": {"resource": "requests.cpu"}}] if encodes and on_cpu else []
        assert _threads(container) == wanted


@pytest.mark.parametrize(
    "values",
    [
        {"settings": {"FLEET_ENCODER_THREADS": "3"}},
        {
            place: {"env": [{"name": "FLEET_ENCODER_THREADS", "value": "3"}]}
            for place in ("api", "poolDefaults")
        },
    ],
)
def test_threads_that_are_set_are_set_once(values: Values) -> None:
    objects = render(MINIMAL | values)
    for container in [*_containers(objects, "api"), *_containers(objects, "worker")]:
        assert _threads(container) == ["3"]


def test_without_a_request_the_app_counts_itself() -> None:
    objects = render(MINIMAL | {"api": {"resources": {"requests": {"cpu": None}}}})
    (api,) = _containers(objects, "api")
    assert _threads(api) == []


@pytest.mark.parametrize(
    "torch",
    [
        {"settings": {"FLEET_BACKEND": "torch"}},
        {"pools": {"embeddings": {"env": [{"name": "FLEET_BACKEND", "value": "torch"}]}}},
    ],
)
def test_a_pod_fetches_the_files_that_it_opens(torch: Values) -> None:
    for values, backend in (({}, "onnx"), (torch, "torch")):
        objects = render(MINIMAL | {"model": {"source": "hub"}} | values)
        fetched = {}
        for item in of_kind(objects, "Deployment"):
            (init,) = item["spec"]["template"]["spec"]["initContainers"]
            fetched[item["metadata"]["name"]] = re.findall(
                r'fetch\(ModelSettings\(\), print, "(\w+)"\)', init["args"][-1]
            )
        assert fetched == {
            "fleet-embedfleet-api": ["onnx"],
            "fleet-embedfleet-documents": ["onnx"],
            "fleet-embedfleet-embeddings": [backend],
        }
        assert {backend} <= set(MODEL_FILES)


@pytest.mark.parametrize("name", SETS)
def test_pods_of_the_api_go_to_different_nodes_where_they_can(name: str) -> None:
    template = named(rendered(name), "Deployment", "fleet-embedfleet-api")["spec"]["template"]
    (spread,) = template["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway", "one node is enough for a fleet"
    assert spread["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert "app.kubernetes.io/component" in spread["labelSelector"]["matchLabels"]


def test_constraints_of_ones_own_take_the_place_of_the_charts() -> None:
    own = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    objects = render(MINIMAL | {"api": {"topologySpreadConstraints": [own]}})
    pod = named(objects, "Deployment", "fleet-embedfleet-api")["spec"]["template"]["spec"]
    assert pod["topologySpreadConstraints"] == [own]


@pytest.mark.parametrize("name", SETS)
def test_pods_request_the_disk_that_they_may_write(name: str) -> None:
    for where, spec in pod_specs(rendered(name)):
        folders = [volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume]
        written = sum(_bytes(one["sizeLimit"]) for one in folders if one.get("medium") != "Memory")
        requested = [one["resources"]["requests"].get("ephemeral-storage", "0") for one in spec["containers"]]
        assert sum(map(_bytes, requested)) >= written > 0, where


def test_disk_that_is_requested_is_what_the_values_say() -> None:
    said = {"resources": {"requests": {"ephemeral-storage": "5Gi"}}}
    (api,) = _containers(render(MINIMAL | {"api": said}), "api")
    assert api["resources"]["requests"]["ephemeral-storage"] == "5Gi"


def test_a_pool_that_says_nothing_requests_half_a_core_a_file() -> None:
    more = {"queue": "documents-large", "minBytes": 1}
    for container in _containers(render(MINIMAL | {"pools": {"more": more}}), "worker"):
        if "embedfleet.documents.tasks" in container["args"]:
            files = next(int(flag[14:]) for flag in container["args"] if flag.startswith("--concurrency="))
            assert int(container["resources"]["requests"]["cpu"]) >= files / 2


def _threads(container: Object) -> list[Any]:
    """Return all that a container is told of the encoder's threads."""
    told = [item for item in container["env"] if item["name"] == "FLEET_ENCODER_THREADS"]
    return [item.get("valueFrom", item.get("value")) for item in told]


def _containers(objects: list[Object], name: str) -> list[Object]:
    """Return the containers of this name of all Deployments."""
    pods = [item["spec"]["template"]["spec"] for item in of_kind(objects, "Deployment")]
    return [one for pod in pods for one in containers(pod) if one["name"] == name]


def _bytes(quantity: str) -> int:
    """Return what a quantity of Kubernetes means, in bytes."""
    number, unit = re.fullmatch(r"(\d+)(\D*)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]
