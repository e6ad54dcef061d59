"""The chart uses names, ports, commands and times that the app has: no other."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import celery
import pytest
import redis
import yaml
from celery.bin.worker import worker as celery_worker

from embedfleet.api import ops
from embedfleet.api.__main__ import DRAIN_SECONDS
from embedfleet.contracts.jobs import LEASES, Queue
from embedfleet.contracts.routes import Routes
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.settings import SECTIONS, BrokerSettings, VectorSettings
from embedfleet.runtime.worker import probes
from tests.deploy.chart import (
    CHART,
    IMAGES,
    ROOT,
    SETS,
    Object,
    containers,
    env_of,
    named,
    notes,
    of_kind,
    pod_specs,
    render,
    rendered,
    values_of,
)
from tests.deploy.metrics import unknown
from tests.runtime.uploads import claim, upload

CONTRACT = json.loads((CHART / "files/contract.json").read_text("utf-8"))
SETTINGS = {field.alias for section in SECTIONS for field in section.model_fields.values()}
# Read by Python, by the libraries, or by the chart itself in CELERY_BROKER_URL.
OTHERS = {
    *("HOME", "XDG_CACHE_HOME", "HF_HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "SSL_CERT_FILE"),
    *("REDIS_PASSWORD", "AWS_REGION", "AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_APPLICATION_CREDENTIALS"),
}
# What the chart says itself, or what is a client's.
NOT_FREE = {
    *("CELERY_BROKER_URL", "CELERY_WORKER_PREFETCH_MULTIPLIER", "QDRANT_URL", "QDRANT_API_KEY"),
    *("FLEET_BLOB_URL", "FLEET_MODEL_ID", "FLEET_MODEL_REVISION", "FLEET_MODEL_PATH", "FLEET_MODEL_CACHE"),
    *("HF_ENDPOINT", "HF_HUB_OFFLINE", "FLEET_DEVICE", "FLEET_HOST", "FLEET_PORT", "FLEET_AUTH"),
    *("FLEET_API_KEYS", "FLEET_API_KEYS_FILE", "FLEET_PROBE_HOST", "FLEET_PROBE_PORT"),
    *("FLEET_DOCUMENT_QUEUES", "FLEET_URL", "FLEET_API_KEY", "FLEET_DATA_DIR"),
}


def test_the_app_keeps_queues_and_leases_where_the_contract_says(ledger: Ledger) -> None:
    assert set(CONTRACT["queues"]) == set(Queue)
    (job,) = ledger.accept(upload()).publish
    run = claim(ledger, job)
    assert _counted(ledger) == {"documents": 1, "embeddings": 0}
    (job,) = ledger.chunked(run, [Part("p", 0, 1, "f")], {}) or []
    claim(ledger, job)
    assert _counted(ledger) == {"documents": 0, "embeddings": 1}


def _counted(ledger: Ledger) -> dict[str, int]:
    """Return what KEDA's trigger sees of each queue's leases."""
    return {name: ledger._redis.zcard(entry["leases"]) for name, entry in CONTRACT["queues"].items()}


@pytest.mark.parametrize("name", SETS)
def test_every_variable_is_one_that_the_app_reads(name: str) -> None:
    for where, spec in pod_specs(rendered(name)):
        for container in containers(spec):
            if container["name"] not in ("redis", "qdrant"):
                assert set(env_of(container)) <= SETTINGS | OTHERS, where


def test_settings_takes_every_variable_that_the_chart_does_not_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    names = schema["properties"]["settings"]["propertyNames"]["enum"]
    assert sorted(names) == sorted(SETTINGS - NOT_FREE)


@pytest.mark.parametrize("name", SETS)
def test_api_and_workers_agree_on_everything_they_share(name: str) -> None:
    seen: dict[str, set[str]] = {}
    for container in _app(rendered(name)):
        for variable, value in env_of(container).items():
            seen.setdefault(variable, set()).add(value)
    own = {"FLEET_DEVICE"}
    assert {variable for variable, values in seen.items() if len(values) > 1} <= own
    assert {"FLEET_MODEL_ID", "FLEET_MODEL_CACHE", "FLEET_BLOB_URL", "CELERY_BROKER_URL"} <= seen.keys()


@pytest.mark.parametrize("name", SETS)
def test_addresses_are_ones_that_the_app_takes(name: str) -> None:
    for container in _app(rendered(name)):
        env = env_of(container)
        broker = BrokerSettings(broker_url=env["CELERY_BROKER_URL"].replace("$(REDIS_PASSWORD)", "secret"))
        tls = name in ("external-tls", "s3")
        assert broker.broker_url.startswith("rediss://" if tls else "redis://")
        options = redis.ConnectionPool.from_url(broker.broker_url).connection_kwargs
        assert options["password"] == "secret"
        app = celery.Celery(broker=broker.broker_url, backend=broker.broker_url)
        assert app.backend.connparams["host"] == options["host"] == app.connection().hostname
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        if tls:
            assert options["ssl_cert_reqs"] == "required"
            assert str(Path(options["ssl_ca_certs"]).parent) in mounts
        # Document workers never speak to Qdrant; in the set s3 the same file checks the object store.
        parses = "embedfleet.documents.tasks" in container["args"]
        assert ("SSL_CERT_FILE" in env) == (tls and (name == "s3" or not parses))
        assert "SSL_CERT_FILE" not in env or str(Path(env["SSL_CERT_FILE"]).parent) in mounts
        if not parses:
            store = VectorSettings(url=env["QDRANT_URL"])
            assert store.url.startswith("https://" if tls else "http://")


@pytest.mark.parametrize("name", SETS)
def test_workers_are_started_as_the_app_can_be(name: str) -> None:
    routes = {env_of(container).get("FLEET_DOCUMENT_QUEUES", "") for container in _app(rendered(name))}
    (rules,) = routes
    for container in _app(rendered(name), "worker"):
        python, isolated, module, program, app, tasks, command, *options = container["args"]
        assert [python, isolated, module, program, app] == ["python", "-P", "-m", "celery", "-A"]
        assert command == "worker"
        assert importlib.util.find_spec(tasks), tasks
        parsed = celery_worker.make_context("worker", options, obj=_NoApp()).params
        kind = Queue(tasks.split(".")[1])
        (queue,) = parsed["queues"]
        assert queue in Routes.parse(rules).taken_by(kind)
        assert parsed["concurrency"] > 0
        assert not parsed["autoscale"]


@pytest.mark.parametrize("name", SETS)
def test_ports_are_where_the_app_listens(name: str) -> None:
    for container in _app(rendered(name)):
        (port,) = container["ports"]
        env = env_of(container)
        if container["name"] == "api":
            assert str(port["containerPort"]) == env["FLEET_PORT"]
            assert importlib.util.find_spec(".".join(container["args"][-1:]))
        else:
            assert str(port["containerPort"]) == env["FLEET_PROBE_PORT"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] == port["name"]
            assert container[probe]["httpGet"]["path"] in ("/livez", "/readyz")


@pytest.mark.parametrize("name", SETS)
def test_graces_and_timeouts_fit_the_apps_own(name: str) -> None:
    for _, spec in pod_specs(rendered(name)):
        (container, *_) = spec["containers"]
        grace = spec.get("terminationGracePeriodSeconds", 30)
        if container["name"] == "api":
            pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert grace > pause + DRAIN_SECONDS
            # /readyz asks each store for so long.
            assert container["startupProbe"]["timeoutSeconds"] > ops.CHECK_SECONDS
        if container["name"] == "worker":
            assert grace >= 60
            alive = container["livenessProbe"]
            assert alive["failureThreshold"] * alive["periodSeconds"] >= probes.STALE_AFTER_SECONDS
            start = container["startupProbe"]
            assert start["failureThreshold"] * start["periodSeconds"] >= 300


def test_size_decides_the_queue_of_an_extra_pool() -> None:
    objects = rendered("extra-pool")
    (api,) = _app(objects, "api")
    routes = Routes.parse(env_of(api)["FLEET_DOCUMENT_QUEUES"])
    pool = values_of("extra-pool")["pools"]["documents-large"]
    assert routes.of(pool["minBytes"]) == pool["queue"]
    assert routes.of(pool["minBytes"] - 1) == Queue.DOCUMENTS
    assert named(objects, "ScaledObject", "fleet-embedfleet-documents-large")


@pytest.mark.parametrize(
    ("name", "url", "credentials"),
    [
        ("minimal", "/var/lib/embedfleet/blobs", set()),
        ("s3", "s3://fleet-blobs/prod", {"AWS_REGION"}),
        ("no-keda", "gs://fleet-blobs", {"GOOGLE_APPLICATION_CREDENTIALS"}),
        ("hpa", "az://fleet-blobs", {"AZURE_STORAGE_ACCOUNT_NAME"}),
    ],
)
def test_blobs_are_where_the_values_say(name: str, url: str, credentials: set[str]) -> None:
    for container in _app(rendered(name)):
        env, mounts = env_of(container), [mount["mountPath"] for mount in container["volumeMounts"]]
        assert env["FLEET_BLOB_URL"] == url
        assert credentials <= env.keys()
        assert (url in mounts) == (name == "minimal")
        assert ("/etc/embedfleet/blobs" in mounts) == (name == "no-keda")
        assert bool(container.get("envFrom")) == (name == "hpa")


def test_names_fit_into_labels_however_long_the_release() -> None:
    longest = "p" * 30
    values = values_of("multi-gpu-pools")
    values["pools"][longest] = values["pools"].pop("embeddings-l4")
    names = [item["metadata"]["name"] for item in render(values, "a" * 53)]
    assert max(map(len, names)) <= 63
    assert any(name.endswith(longest) for name in names)


def test_a_gpu_pool_gets_a_gpu_and_does_without_none() -> None:
    objects = rendered("multi-gpu-pools")
    for name, resource in (("l4", "nvidia.com/gpu"), ("a100-mig", "nvidia.com/mig-3g.20gb")):
        spec = named(objects, "Deployment", f"fleet-embedfleet-embeddings-{name}")["spec"]
        (worker,) = spec["template"]["spec"]["containers"]
        assert worker["resources"]["limits"][resource] == 1
        assert env_of(worker)["FLEET_DEVICE"] == "cuda"
        assert worker["image"].endswith("-gpu")
        assert spec["strategy"] == {"type": "Recreate"}
        assert {"name": "shm", "mountPath": "/dev/shm"} in worker["volumeMounts"]


def test_alerts_name_metrics_and_queues_that_the_api_exports() -> None:
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text("utf-8"))
    # Of what others make, and of what the rules make themselves, tests/deploy/rules/ speaks.
    texts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    expressions = [re.sub(r"\bnamespace:\S+", "", text) for text in texts if "fleet_" in text]
    assert len(expressions) > 20
    assert {queue for text in expressions for queue in re.findall(r'queue="([^"]+)"', text)} <= set(Queue)
    assert unknown(expressions) == set()


def test_the_docs_name_the_keys_that_keda_counts() -> None:
    text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
    counted = set(re.findall(rf"`({re.escape(LEASES)}[a-z-]+)`", text))
    assert {entry["leases"] for entry in CONTRACT["queues"].values()} <= counted


def test_the_model_is_fetched_by_code_that_runs() -> None:
    (init,) = named(rendered("no-keda"), "Deployment", "fleet-embedfleet-documents")["spec"]["template"][
        "spec"
    ]["initContainers"]
    *_, program = init["args"]
    stand_in = program.replace(
        'fetch(ModelSettings(), print, "onnx")', "print(fetch.__name__, ModelSettings.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", stand_in], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["fetch", "ModelSettings"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "get secret fleet-embedfleet-api-keys"),
        ({"auth": {"mode": "off"}}, "auth.mode is off"),
        ({"api": {"ingress": {"enabled": True, "host": "fleet.example.com"}}}, "http://fleet.example.com"),
    ],
)
def test_the_notes_say_what_to_do_next(values: dict[str, Any], said: str) -> None:
    text = notes({"images": IMAGES, "blobs": {"mode": "pvc", "pvc": {"claim": "c"}}} | values)
    assert said in text
    assert "helm test -n demo fleet" in text
    assert "-F file=@document.pdf -F collection=" in text, "the API asks for both"


def test_a_pool_can_be_turned_off() -> None:
    values = values_of("extra-pool")
    values["pools"]["documents-large"]["enabled"] = False
    objects = render(values)
    assert [item for item in objects if "documents-large" in json.dumps(item)] == []


def _app(objects: list[Object], *names: str) -> list[Object]:
    """Return the containers of api and workers."""
    wanted = names or ("api", "worker")
    found = [
        one
        for item in of_kind(objects, "Deployment")
        for one in item["spec"]["template"]["spec"]["containers"]
    ]
    return [container for container in found if container["name"] in wanted]


class _NoApp:
    """What the command line of Celery wants to know of an app before it has one."""

    no_color = True
    quiet = True
    app = celery.Celery()
