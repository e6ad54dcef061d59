"""The chart as Helm renders it, and what its tests ask of the objects."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy import helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/embedfleet"
SETS = {path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}
RELEASE, NAMESPACE = "fleet", "demo"
# A name of ours without a registry is refused.
IMAGES = {"registry": "registry.example.com"}

Values = dict[str, Any]
Object = dict[str, Any]


def values_of(name: str) -> Values:
    """Return a value set of ``ci/``."""
    return dict(yaml.safe_load(SETS[name].read_text("utf-8")))


def render(values: Values, release: str = RELEASE, chart: Path = CHART) -> list[Object]:
    """Return all objects; raises what Helm raises."""
    return _render(json.dumps(values, sort_keys=True), release, chart)


def rendered(name: str) -> list[Object]:
    """Return the objects of a value set of ``ci/``."""
    return render(values_of(name))


def notes(values: Values) -> str:
    """Return what `helm install` prints."""
    return helm.render(CHART, values, RELEASE, NAMESPACE)["embedfleet/templates/NOTES.txt"]


@cache
def _render(values: str, release: str, folder: Path) -> list[Object]:
    texts = helm.render(folder, json.loads(values), release, NAMESPACE)
    manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
    loaded = [item for text in manifests for item in yaml.load_all(text, Loader=yaml.CSafeLoader)]
    return [item for item in loaded if item]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Return the objects of these kinds."""
    return [item for item in objects if item["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of that kind and name."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield every pod that the objects make: where it stands, and its spec."""
    for item in objects:
        where = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield where, item["spec"]
        elif "template" in item.get("spec", {}):
            yield where, item["spec"]["template"]["spec"]


def containers(spec: Object) -> list[Object]:
    """Return all containers of a pod, those that run before the others, too."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def env_of(container: Object) -> dict[str, str]:
    """Return a container's variables; those from a Secret as `secret/key`."""
    found = {}
    for item in container.get("env", []):
        source = item.get("valueFrom", {}).get("secretKeyRef")
        found[item["name"]] = f"{source['name']}/{source['key']}" if source else item.get("value", "")
    return found
