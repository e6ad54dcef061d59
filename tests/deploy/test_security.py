"""The security checklist, held against every pod of every value set."""

import json
import re
import shutil
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest

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

OWN_USER = 10001
IMAGES_USERS = {"redis": 999, "qdrant": 1000}


@pytest.fixture(params=SETS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """The objects of a value set."""
    return rendered(request.param)


def test_no_pod_is_root_or_has_a_token(objects: list[Object]) -> None:
    for where, spec in pod_specs(objects):
        context = spec["securityContext"]
        (first, *_) = spec["containers"]
        assert context["runAsNonRoot"] is True, where
        assert context["runAsUser"] == IMAGES_USERS.get(first["name"], OWN_USER), where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["enableServiceLinks"] is False, where
        for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            assert not spec.get(shared), where
        assert all("hostPath" not in volume for volume in spec["volumes"]), where


def test_no_container_can_gain_anything_or_write_its_image(objects: list[Object]) -> None:
    for where, spec in pod_specs(objects):
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, where


def test_what_can_be_written_is_bounded_and_home_is_in_it(objects: list[Object]) -> None:
    for where, spec in pod_specs(objects):
        for volume in spec["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], where
        for container in containers(spec):
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], where
            if container["name"] in ("api", "worker", "model", "ready"):
                env = env_of(container)
                for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME"):
                    assert env[name].startswith("/tmp/"), where


def test_every_container_has_bounded_memory_and_says_what_it_needs(objects: list[Object]) -> None:
    for where, spec in pod_specs(objects):
        for container in containers(spec):
            assert container["resources"]["limits"]["memory"], where
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), where


def test_no_image_floats(objects: list[Object]) -> None:
    for where, spec in pod_specs(objects):
        for container in containers(spec):
            _, _, tag = container["image"].rpartition(":")
            assert "/" not in tag, where
            assert re.search(r"^v?\d+\.\d+\.\d+(-|$)", tag), where


def test_no_password_is_in_a_manifest_beside_a_secret(objects: list[Object]) -> None:
    for where, spec in pod_specs(objects):
        for container in containers(spec):
            for item in container.get("env", []):
                if any(word in item["name"] for word in ("PASSWORD", "API_KEY", "AUTH", "SECRET")):
                    known = item["name"] in ("FLEET_AUTH", "FLEET_API_KEYS_FILE")
                    assert known or "valueFrom" in item, (where, item["name"])


def test_stores_ask_for_a_password(objects: list[Object]) -> None:
    scaled = bool(of_kind(objects, "ScaledObject"))
    for _, spec in pod_specs(objects):
        for container in spec["containers"]:
            env = env_of(container)
            if container["name"] in ("api", "worker"):
                assert "REDIS_PASSWORD" in env
                assert ("QDRANT_API_KEY" in env) == ("embedfleet.documents.tasks" not in container["args"])
            if container["name"] == "redis":
                assert "REDIS_PASSWORD" in env
                assert ("KEDA_PASSWORD" in env) == scaled
            if container["name"] == "qdrant":
                assert "QDRANT__SERVICE__API_KEY" in env


def test_pods_that_parse_files_have_no_key_of_qdrants_and_no_way_to_it(objects: list[Object]) -> None:
    label, kinds = "embedfleet/uses-qdrant", set()
    for item in of_kind(objects, "Deployment"):
        template = item["spec"]["template"]
        (container,) = template["spec"]["containers"]
        parses = "embedfleet.documents.tasks" in container["args"]
        kinds.add(parses)
        assert template["metadata"]["labels"].get(label) == (None if parses else "true")
        assert any(name.startswith("QDRANT_") for name in env_of(container)) != parses
    assert kinds == {True, False}
    named_ways = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "NetworkPolicy")}
    way = named_ways["fleet-embedfleet-egress-qdrant"]
    assert way["podSelector"]["matchLabels"] == {"app.kubernetes.io/instance": "fleet", label: "true"}
    ((port,),) = [[port["port"] for port in rule["ports"]] for rule in way["egress"]]
    for rule in named_ways["fleet-embedfleet-egress"]["egress"]:
        assert port not in [one["port"] for one in rule["ports"]]
    if "fleet-embedfleet-qdrant" in named_ways:
        ((peer,),) = [rule["from"] for rule in named_ways["fleet-embedfleet-qdrant"]["ingress"]]
        assert peer["podSelector"]["matchLabels"] == way["podSelector"]["matchLabels"]


def test_traffic_is_denied_but_for_what_is_named(objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    deny = next(item["spec"] for item in policies if item["metadata"]["name"].endswith("-deny"))
    everyone = deny["podSelector"]["matchLabels"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny.keys()
    makers = [item["spec"]["template"] for item in objects if "template" in item.get("spec", {})]
    assert all(everyone.items() <= template["metadata"]["labels"].items() for template in makers)


def test_redis_lets_in_the_fleet_and_keda_and_nobody_else() -> None:
    spec = named(rendered("minimal"), "NetworkPolicy", "fleet-embedfleet-redis")["spec"]
    ((rule),) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["redis"]
    pods, keda = rule["from"]
    assert pods["podSelector"]["matchLabels"]["embedfleet/uses-stores"] == "true"
    assert keda["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "keda"}
    without = named(rendered("no-keda"), "NetworkPolicy", "fleet-embedfleet-redis")["spec"]
    assert len(without["ingress"][0]["from"]) == 1


def test_a_fleet_on_a_volume_of_its_own_reaches_nothing_outside() -> None:
    spec = named(rendered("air-gapped"), "NetworkPolicy", "fleet-embedfleet-egress")["spec"]
    ports = sorted(port["port"] for rule in spec["egress"] for port in rule["ports"])
    assert ports == [53, 53, 6379]
    anywhere = [port["port"] for rule in spec["egress"] if not rule.get("to") for port in rule["ports"]]
    assert anywhere == [53, 53]
    outside = named(rendered("s3"), "NetworkPolicy", "fleet-embedfleet-egress")["spec"]
    assert 443 in [port["port"] for rule in outside["egress"] for port in rule["ports"]]


@pytest.mark.parametrize("name", ["egress", "test"])
@pytest.mark.parametrize("ports", [[], [5353]])
def test_names_are_resolved_wherever_the_clusters_dns_is(name: str, ports: list[int]) -> None:
    values = values_of("minimal") | ({"networkPolicy": {"dnsPorts": ports}} if ports else {})
    spec = named(render(values), "NetworkPolicy", f"fleet-embedfleet-{name}")["spec"]
    expected = [{"protocol": protocol, "port": port} for port in ports or [53] for protocol in ("UDP", "TCP")]
    # No peer: a cache on the node is in no namespace.
    assert {"ports": expected} in spec["egress"]


def test_secrets_that_the_chart_makes_are_in_no_release_that_a_rollback_could_bring_back() -> None:
    made = _made(render(values_of("minimal")))
    assert made.keys() == {"fleet-embedfleet-api-keys", "fleet-embedfleet-redis", "fleet-embedfleet-qdrant"}
    for name, secret in made.items():
        annotations = secret["metadata"]["annotations"]
        assert annotations["helm.sh/hook"].split(",") == ["pre-install", "pre-upgrade"], name
        # Not when it has succeeded: it has to stay.
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation", name
        assert all(len(text) == 40 for key, text in _texts(secret).items() if key != "keys.json"), name
    first = _texts(made["fleet-embedfleet-api-keys"])
    (entry,) = json.loads(first["keys.json"])
    assert entry["sha256"] == sha256(first["key"].encode()).hexdigest()


LIVE = {
    "fleet-embedfleet-api-keys": {"key": "first", "keys.json": '[{"name": "first"}, {"name": "second"}]'},
    "fleet-embedfleet-redis": {"password": "r", "keda-password": "k", "mine": "m"},
    "fleet-embedfleet-qdrant": {"api-key": "q"},
}


def test_an_upgrade_leaves_the_secrets_that_the_cluster_has_alone(asked: Path) -> None:
    assert _made(render(values_of("minimal") | _there(LIVE), chart=asked)) == {}
    # Who has put the first key away keeps it away.
    away = LIVE | {"fleet-embedfleet-api-keys": {"keys.json": "[]"}}
    assert _made(render(values_of("minimal") | _there(away), chart=asked)) == {}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fleet-embedfleet-redis", "keda-password"),
        ("fleet-embedfleet-redis", "password"),
        ("fleet-embedfleet-qdrant", "api-key"),
        ("fleet-embedfleet-api-keys", "keys.json"),
    ],
)
def test_a_key_that_is_missing_is_made_beside_those_that_are_there(asked: Path, name: str, key: str) -> None:
    rest = {one: text for one, text in LIVE[name].items() if one != key}
    made = _made(render(values_of("minimal") | _there(LIVE | {name: rest}), chart=asked))
    assert made.keys() == {name}
    texts = _texts(made[name])
    assert texts.pop(key)
    assert texts == rest


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """The chart, where values say what the cluster would answer: none is asked here."""
    chart = shutil.copytree(CHART, tmp_path / "embedfleet")
    access = chart / "templates/access.yaml"
    question = 'lookup "v1" "Secret" .root.Release.Namespace $name'
    text = access.read_text("utf-8")
    assert text.count("lookup") == text.count(question) == 1
    access.write_text(text.replace(question, "index .root.Values.global $name"), "utf-8")
    return chart


def _there(live: dict[str, dict[str, str]]) -> Object:
    stored = {
        name: {"data": {key: b64encode(text.encode()).decode() for key, text in data.items()}}
        for name, data in live.items()
    }
    return {"global": stored}


def _made(objects: list[Object]) -> dict[str, Object]:
    """Return the Secrets with something secret in them; KEDA's own has words alone."""
    secrets = {item["metadata"]["name"]: item for item in of_kind(objects, "Secret")}
    return {name: item for name, item in secrets.items() if not name.endswith("-keda")}


def _texts(secret: Object) -> dict[str, str]:
    return {key: b64decode(text).decode() for key, text in secret["data"].items()}
