"""The bundled Redis, started by the chart's own script and configuration, and its rule for KEDA."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from embedfleet.contracts.jobs import LEASES
from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_health import judge
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.deploy.chart import CHART, ROOT, env_of, named, render, values_of

SECONDS = 20


@pytest.fixture
def bundled(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A Redis as its pod starts it: where it listens, and its process."""
    (port,) = free_ports(1)
    values = values_of("extra-pool") | {"redis": {"port": port}}
    files = named(render(values), "ConfigMap", "fleet-embedfleet-redis")["data"]
    places = {"/etc/redis": str(tmp_path), "/data": str(tmp_path)}
    for name, text in files.items():
        for place, here in places.items():
            text = text.replace(place, here)
        (tmp_path / name).write_text(text, "utf-8")
    binary = RedisServer(tmp_path / "other").binary.path
    (tmp_path / "redis-server").symlink_to(binary)
    shell = shutil.which("sh") or "/bin/sh"
    env = {"PATH": str(tmp_path), "REDIS_PASSWORD": "fleets", "KEDA_PASSWORD": "kedas"}
    process = subprocess.Popen([shell, "start.sh"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(SECONDS)


def _connect(url: str) -> redis.Redis:
    """Return a client that tries again until the server listens."""
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), SECONDS * 20)
    return redis.Redis.from_url(url, decode_responses=True, retry=retry)


def test_it_is_safe_asks_for_a_password_and_ends_when_it_is_told_to(
    bundled: tuple[str, "subprocess.Popen[bytes]"],
) -> None:
    address, process = bundled
    client = _connect(f"redis://:fleets@{address}/0")
    assert client.ping()
    assert [one for one in judge(client.info("everything")) if one.fix] == []
    assert client.config_get("save") == {"save": ""}
    Ledger.open(BrokerSettings(broker_url=f"redis://:fleets@{address}/0"), LedgerSettings()).ping()
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis.from_url(f"redis://{address}/0").ping()
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis.from_url(f"redis://:wrong@{address}/0").ping()
    client.close()
    # The shell has become the server: what the kubelet signals is Redis itself.
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_redis_starts_anew_when_a_pool_changes_what_keda_may_count() -> None:
    checksums = set()
    for name in ("minimal", "extra-pool"):
        pod = named(render(values_of(name)), "StatefulSet", "fleet-embedfleet-redis")["spec"]["template"]
        checksums.add(pod["metadata"]["annotations"]["checksum/files"])
    assert len(checksums) == 2


@pytest.mark.parametrize("store", ["redis", "qdrant"])
def test_an_upgrade_of_the_chart_leaves_the_stores_running(store: str, tmp_path: Path) -> None:
    newer = shutil.copytree(CHART, tmp_path / "embedfleet")
    text = (newer / "Chart.yaml").read_text("utf-8")
    (newer / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion): .*$", r"\1: 9.9.9", text), "utf-8")
    pods = []
    for folder in (CHART, newer):
        objects = render(values_of("minimal"), chart=folder)
        pods.append(named(objects, "StatefulSet", f"fleet-embedfleet-{store}")["spec"]["template"])
        assert (folder is newer) == ("9.9.9" in str(named(objects, "Deployment", "fleet-embedfleet-api")))
    assert pods[0] == pods[1]


def test_qdrant_takes_a_renewed_certificate_within_the_time_that_the_docs_say() -> None:
    spec = named(render(values_of("s3")), "StatefulSet", "fleet-embedfleet-qdrant")["spec"]["template"][
        "spec"
    ]
    (qdrant,) = spec["containers"]
    assert env_of(qdrant)["QDRANT__TLS__CERT_TTL"] == "3600"
    assert "Qdrant takes a renewed certificate within an hour" in (ROOT / "docs/kubernetes.md").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_a_redis_without_a_password_still_answers_other_pods(enabled: bool) -> None:
    values = values_of("minimal") | {"redis": {"auth": {"enabled": enabled}}}
    files = named(render(values), "ConfigMap", "fleet-embedfleet-redis")["data"]
    assert ("protected-mode no" in files["redis.conf"]) == (not enabled)
    assert ("PASSWORD" in files["start.sh"]) == enabled


def test_keda_may_count_its_lists_and_nothing_else(
    bundled: tuple[str, "subprocess.Popen[bytes]"],
) -> None:
    address, _ = bundled
    root = _connect(f"redis://:fleets@{address}/0")
    root.rpush("documents", "a")
    root.zadd(f"{LEASES}documents-large", {"t": 1})
    keda = redis.Redis.from_url(f"redis://keda:kedas@{address}/0")
    assert keda.llen("documents") == 1
    assert keda.zcard(f"{LEASES}documents-large") == 1
    assert keda.eval("return redis.call('llen', KEYS[1])", 1, "documents") == 1
    for call in (lambda: keda.lpop("documents"), lambda: keda.llen("task:1"), lambda: keda.keys()):
        with pytest.raises(redis.exceptions.NoPermissionError):
            call()
    keda.close()
    root.close()
