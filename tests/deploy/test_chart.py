"""Every value set: linted, rendered, and each object held against the schemas of what reads it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.deploy import helm
from tests.deploy.chart import (
    CHART,
    SETS,
    Object,
    containers,
    env_of,
    named,
    of_kind,
    pod_specs,
    render,
    rendered,
    values_of,
)
from tests.deploy.kubernetes import NEWEST, OLDEST, validate

SCHEMAS = Path(__file__).with_name("schemas")


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_to_say(name: str) -> None:
    report = helm.lint(CHART, values_of(name), f"v{NEWEST}.0")
    serious = [message for message in report["messages"] if message["severity"] > 1]
    assert (serious, report["errors"]) == ([], [])


def test_the_sets_are_those_that_are_promised() -> None:
    promised = "minimal gpu external-tls s3 no-keda hpa air-gapped multi-gpu-pools extra-pool"
    assert set(promised.split()) <= set(SETS)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", SETS)
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    for item in rendered(name):
        if "." not in item["apiVersion"].split("/")[0] or "k8s.io" in item["apiVersion"]:
            validate(item, version)


def test_the_oldest_version_is_the_one_that_the_chart_asks_for() -> None:
    assert helm.metadata(CHART)["kubeVersion"] == f">={OLDEST}.0-0"


@pytest.mark.parametrize("name", SETS)
def test_operators_know_every_field(name: str) -> None:
    for item in _custom(name):
        problems = [error.message for error in _validator(item["kind"]).iter_errors(item)]
        assert problems == [], item["metadata"]["name"]


def test_every_kind_of_an_operator_is_seen() -> None:
    seen = {item["kind"] for name in SETS for item in _custom(name)}
    assert seen == {path.stem for path in SCHEMAS.glob("[A-Z]*.json")}


@pytest.mark.parametrize("name", SETS)
def test_objects_have_a_name_of_their_own(name: str) -> None:
    objects = rendered(name)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))
    assert {item["metadata"]["namespace"] for item in objects} == {"demo"}


@pytest.mark.parametrize("name", SETS)
def test_no_variable_is_there_twice(name: str) -> None:
    repeated: dict[str, Any] = {
        "settings": {"FLEET_MAX_BATCH_TOKENS": "1024", "LOG_LEVEL": "INFO"},
        "api": {"env": [{"name": "LOG_LEVEL", "value": "DEBUG"}, {"name": "NEW", "value": "$(LOG_LEVEL)"}]},
        "poolDefaults": {
            "env": [{"name": name, "value": "2048"} for name in ("FLEET_MAX_BATCH_TOKENS",) * 2]
        },
    }
    for values in (values_of(name), values_of(name) | repeated):
        for where, spec in pod_specs(render(values)):
            for container in containers(spec):
                names = [item["name"] for item in container.get("env", [])]
                assert len(names) == len(set(names)), (where, container["name"])
    # The more particular one holds; and it stands where it can be made of those before it.
    objects = render(values_of(name) | repeated)
    assert {env_of(one)["FLEET_MAX_BATCH_TOKENS"] for one in _containers(objects, "worker")} == {"2048"}
    (api,) = _containers(objects, "api")
    assert list(env_of(api).items())[-2:] == [("LOG_LEVEL", "DEBUG"), ("NEW", "$(LOG_LEVEL)")]


@pytest.mark.parametrize("name", SETS)
def test_what_an_object_names_is_there_or_is_the_users(name: str) -> None:
    objects, values = rendered(name), json.dumps(values_of(name))
    made: dict[str, set[str]] = {"Secret": set(), "ConfigMap": set(), "PersistentVolumeClaim": set()}
    for item in of_kind(objects, *made):
        made[item["kind"]].add(item["metadata"]["name"])
    for kind, wanted, key in _references(objects):
        if f'"{wanted}"' in values:
            continue
        assert wanted in made[kind], f"{kind} {wanted}"
        if key:
            found = named(objects, kind, wanted)
            assert key in found.get("stringData", {}) or key in found.get("data", {}), f"{wanted}/{key}"


@pytest.mark.parametrize("name", SETS)
def test_selectors_find_the_pods_that_they_mean(name: str) -> None:
    objects = rendered(name)
    pods = [item["spec"]["template"]["metadata"]["labels"] for item in objects if _makes_pods(item)]
    pods += [item["metadata"]["labels"] for item in of_kind(objects, "Pod")]
    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        labels = selector.get("matchLabels", selector)
        if item["kind"] == "ServiceMonitor":
            pool = [service["metadata"]["labels"] for service in of_kind(objects, "Service")]
        else:
            pool = pods
        if labels:
            found = [one for one in pool if labels.items() <= one.items()]
            assert found, (item["kind"], item["metadata"]["name"])
        if item["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget", "Service", "PodMonitor"):
            assert len(found) == 1, (item["kind"], item["metadata"]["name"])


@pytest.mark.parametrize("name", SETS)
def test_no_pool_comes_without_a_budget_and_what_watches_it(name: str) -> None:
    objects = rendered(name)
    deployments = {item["metadata"]["name"] for item in of_kind(objects, "Deployment")}
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert {item["metadata"]["name"] for item in budgets} == deployments
    assert all(item["spec"]["maxUnavailable"] == 1 for item in budgets)
    watched = {item["metadata"]["name"] for item in of_kind(objects, "PodMonitor", "ServiceMonitor")}
    assert watched == (deployments if name == "gpu" else set())


def _containers(objects: list[Object], name: str) -> list[Object]:
    return [one for _, spec in pod_specs(objects) for one in containers(spec) if one["name"] == name]


def _custom(name: str) -> list[Object]:
    return [item for item in rendered(name) if item["apiVersion"].startswith(("keda.sh", "monitoring"))]


def _makes_pods(item: Object) -> bool:
    return "template" in item.get("spec", {})


def _references(objects: list[Object]) -> list[tuple[str, str, str]]:
    """Return the kind, the name and the key of what pods and KEDA take from other objects."""
    found = []
    for _, spec in pod_specs(objects):
        for volume in spec.get("volumes", []):
            if secret := volume.get("secret"):
                found += [("Secret", secret["secretName"], item["key"]) for item in secret["items"]]
            if config := volume.get("configMap"):
                found.append(("ConfigMap", config["name"], ""))
            if claim := volume.get("persistentVolumeClaim"):
                found.append(("PersistentVolumeClaim", claim["claimName"], ""))
        for container in containers(spec):
            for item in container.get("env", []):
                if source := item.get("valueFrom", {}).get("secretKeyRef"):
                    found.append(("Secret", source["name"], source["key"]))
            found += [("Secret", item["secretRef"]["name"], "") for item in container.get("envFrom", [])]
    for item in of_kind(objects, "TriggerAuthentication"):
        found += [("Secret", one["name"], one["key"]) for one in item["spec"]["secretTargetRef"]]
    return found


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{kind}.json").read_text("utf-8"))
    shared = json.loads((SCHEMAS / "metadata.json").read_text("utf-8"))
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    registry = Registry().with_resource("metadata.json", Resource.from_contents(draft | shared))
    return Draft202012Validator(draft | schema, registry=registry)
