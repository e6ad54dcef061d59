"""The compose files: taken by docker-compose, in step with app, images and chart, and closed."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from embedfleet.api.__main__ import DRAIN_SECONDS
from embedfleet.runtime.settings import BrokerSettings, VectorSettings
from embedfleet.runtime.worker import probes
from tests.deploy.chart import CHART, ROOT
from tests.deploy.compose import APP, CPU, REQUIRED, SETS, Config, binary, compose, config
from tests.deploy.dockerfiles import environment, target
from tests.deploy.test_names import CONTRACT, SETTINGS

pytestmark = pytest.mark.skipif(binary() is None, reason="no docker-compose that runs here, nor the wheel's")

VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
TEXT = "".join((ROOT / name).read_text("utf-8") for name in CPU)
OPEN = {"api", "prometheus", "grafana"}
PORTS = {"api": CONTRACT["ports"]["api"], **dict.fromkeys(APP[1:], CONTRACT["ports"]["probes"])}


@pytest.fixture(params=SETS)
def fleet(request: pytest.FixtureRequest) -> Config:
    """The merged files, with all services: for a GPU, or for none."""
    return config(SETS[request.param], {"COMPOSE_PROFILES": "monitoring"})


@pytest.fixture
def services(fleet: Config) -> dict[str, Config]:
    """Its services by name."""
    return dict(fleet["services"])


@pytest.mark.parametrize("variable", REQUIRED)
@pytest.mark.parametrize("files", SETS)
def test_without_a_password_it_says_where_to_read(files: str, variable: str) -> None:
    for given in ({}, {variable: ""}):
        done = compose(SETS[files], {k: v for k, v in REQUIRED.items() if k != variable} | given)
        assert done.returncode
        assert variable in done.stderr
        assert ".env.example" in done.stderr


def test_every_variable_is_one_that_the_app_reads(services: dict[str, Config]) -> None:
    for name in APP:
        assert set(services[name]["environment"]) <= SETTINGS, name


def test_api_and_workers_agree_on_everything_they_share(services: dict[str, Config]) -> None:
    seen: dict[str, set[str]] = {}
    for name in APP:
        for variable, value in services[name]["environment"].items():
            seen.setdefault(variable, set()).add(value)
    assert {variable for variable, values in seen.items() if len(values) > 1} <= {"FLEET_DEVICE"}
    mounts = [_mounts(services[name])["/var/lib/embedfleet/blobs"] for name in APP]
    assert mounts[0]["type"] == "volume"
    assert all(mount == mounts[0] for mount in mounts)


def test_addresses_are_those_of_its_own_services(services: dict[str, Config]) -> None:
    env = services["api"]["environment"]
    options = redis.ConnectionPool.from_url(BrokerSettings(broker_url=env["CELERY_BROKER_URL"]).broker_url)
    assert options.connection_kwargs["host"] in services
    assert options.connection_kwargs["password"] == services["redis"]["environment"]["REDISCLI_AUTH"]
    store = VectorSettings(url=env["QDRANT_URL"]).url
    assert re.fullmatch(r"http://(\w+):6333", store)[1] in services  # type: ignore[index]
    assert env["QDRANT_API_KEY"] == services["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"]


def test_images_and_commands_are_the_charts_and_their_own(services: dict[str, Config]) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    device = services["embeddings"]["environment"]["FLEET_DEVICE"]
    suffix = {"cuda": "gpu", "cpu": "cpu"}[device]
    for name in APP:
        service = services[name]
        image = f"embeddings-{suffix}" if name == "embeddings" else name
        tag = f"{version}-{suffix}" if name == "embeddings" else version
        assert service["image"] == f"localhost/{VALUES['images'][name]['repository']}:{tag}"
        # What it runs is the image's own command, which is the chart's.
        assert not {"command", "entrypoint"} & {key for key, value in service.items() if value}
        assert service["build"]["dockerfile"] == f"images/{name}/Dockerfile"
        assert service["build"].get("target", name) == (suffix if name == "embeddings" else name)
        assert service["build"]["args"]["VERSION"] == version
        assert service["environment"]["FLEET_MODEL_ID"] == VALUES["model"]["id"]
        assert service["environment"]["FLEET_BLOB_URL"] == environment(target(image))["FLEET_BLOB_URL"]
    for name in ("redis", "qdrant"):
        pinned = VALUES["images"][name]
        assert services[name]["image"].startswith(f"{pinned['repository']}:{pinned['tag']}")


def test_a_gpu_is_asked_for_where_there_is_one() -> None:
    with_gpu, without = (config(SETS[name])["services"]["embeddings"] for name in ("gpu", "cpu"))
    (device,) = with_gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["capabilities"], device["count"]) == (["gpu"], 1)
    assert int(with_gpu["shm_size"]) >= 2**30
    assert with_gpu["environment"]["FLEET_DEVICE"] == "cuda"
    assert not without.get("deploy")
    assert "shm_size" not in without
    same = {"environment", "image", "build", "deploy", "shm_size"}
    assert {k: v for k, v in with_gpu.items() if k not in same} == {
        k: v for k, v in without.items() if k not in same
    }


def test_nothing_can_gain_rights_write_its_image_or_take_the_machine(services: dict[str, Config]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].split(":")[0]) > 0, name
        assert service["user"] == "10001:10001" or name not in APP, name
        assert int(service["mem_limit"]) > 0 < service["pids_limit"], name
        assert all("size=" in place for place in service.get("tmpfs", [])), name
        assert service["restart"] == "unless-stopped", name
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & {
            key for key, value in service.items() if value
        }, name
        assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", service["image"]), name
        # One that reaps, and hands signals on: the images' own, or the engine's.
        assert bool(service.get("init")) != (name in APP), name
        for mount in service.get("volumes", []):
            assert mount["type"] == "volume" or mount["read_only"], name
            assert ".sock" not in mount["source"], name


def test_the_machine_alone_reaches_what_is_published(fleet: Config) -> None:
    published = {name: service.get("ports", []) for name, service in fleet["services"].items()}
    assert {name for name, ports in published.items() if ports} == OPEN
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    assert all(fleet["networks"][name]["internal"] is True for name in ("fleet", "vectors"))
    outside = {name for name, service in fleet["services"].items() if "outside" in service["networks"]}
    assert outside == OPEN
    assert fleet["services"]["api"]["environment"]["FLEET_AUTH"] == "keys"


def test_graces_fit_the_drain_and_checks_the_probes(services: dict[str, Config]) -> None:
    for name, service in services.items():
        health = service["healthcheck"]
        assert _seconds(health["timeout"]) < _seconds(health["interval"]), name
        assert _seconds(service["stop_grace_period"]) >= 30, name
    for name, port in PORTS.items():
        assert _seconds(services[name]["stop_grace_period"]) >= 60 > DRAIN_SECONDS
        health = services[name]["healthcheck"]
        assert health["test"][:3] == ["CMD", "python", "-c"]
        (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)/(livez|readyz)", health["test"][3])
        assert url[0] == str(port)
        assert health["retries"] * _seconds(health["interval"]) >= probes.STALE_AFTER_SECONDS
        compile(health["test"][3], name, "exec")
    assert services["api"]["environment"]["FLEET_PORT"] == str(PORTS["api"])
    assert {services[name]["environment"]["FLEET_PROBE_PORT"] for name in APP[1:]} == {
        str(PORTS["documents"])
    }
    assert services["api"]["ports"][0]["target"] == PORTS["api"]


def test_nobody_starts_before_the_stores_answer(services: dict[str, Config]) -> None:
    for name in APP:
        conditions = {k: v["condition"] for k, v in services[name]["depends_on"].items()}
        stores = ("redis",) if name == "documents" else ("redis", "qdrant")
        assert conditions == dict.fromkeys(stores, "service_healthy")


def test_those_who_parse_files_have_no_key_of_qdrants_and_no_way_to_it(services: dict[str, Config]) -> None:
    beside = {
        name for name in services if set(services["qdrant"]["networks"]) & set(services[name]["networks"])
    }
    assert beside == {"qdrant", "api", "embeddings"}
    told = {name for name in APP if any(one.startswith("QDRANT") for one in services[name]["environment"])}
    assert told == {"api", "embeddings"}
    assert REQUIRED["QDRANT_API_KEY"] not in str(services["documents"])


def test_prometheus_asks_everyone_who_has_metrics(services: dict[str, Config]) -> None:
    mounts = {place: Path(mount["source"]) for place, mount in _mounts(services["prometheus"]).items()}
    scrapes = yaml.safe_load(mounts["/etc/prometheus/prometheus.yml"].read_text("utf-8"))
    asked = {
        name: found["port"]
        for job in scrapes["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    assert asked == PORTS
    assert mounts["/etc/prometheus/rules.yml"] == CHART / "files/rules.yaml"
    assert scrapes["rule_files"] == ["/etc/prometheus/rules.yml"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]


def test_grafana_is_there_where_it_is_asked_for_and_lets_nobody_in_without_a_password(tmp_path: Path) -> None:
    assert "grafana" not in config(CPU)["services"]
    service = config(CPU, {"COMPOSE_PROFILES": "monitoring", "GRAFANA_PASSWORD": "grafana0word"})["services"][
        "grafana"
    ]
    assert service["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    shell, *options, script = service["entrypoint"]
    assert "exec /run.sh" in script
    script = script.replace("$$", "$").replace("exec /run.sh", "echo started")
    for password, code, said in (("", 1, "see .env.example"), ("grafana0word", 0, "started")):
        done = subprocess.run(
            [shutil.which(shell) or shell, *options, script],
            env={"GF_SECURITY_ADMIN_PASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True)


def test_grafana_shows_the_charts_dashboards_from_its_own_prometheus(services: dict[str, Config]) -> None:
    mounts = {place: Path(mount["source"]) for place, mount in _mounts(services["grafana"]).items()}
    (provider,) = yaml.safe_load(
        mounts["/etc/grafana/provisioning/dashboards/embedfleet.yml"].read_text("utf-8")
    )["providers"]
    assert mounts[provider["options"]["path"]] == CHART / "files/dashboards"
    (source,) = yaml.safe_load(
        mounts["/etc/grafana/provisioning/datasources/embedfleet.yml"].read_text("utf-8")
    )["datasources"]
    assert source["type"] == "prometheus"
    (port,) = services["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port['target']}"


def test_every_variable_is_explained_and_no_secret_is_written_down() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    used = dict(re.findall(r"\$\{(\w+)(:[^}]*)", TEXT))
    told = re.findall(r"(?m)^(?:# )?([A-Z_]+)=(.*)$", example)
    assert {name for name, _ in told} - {"COMPOSE_FILE", "COMPOSE_PROFILES"} == used.keys()
    defaults = {name: rest[2:] for name, rest in used.items() if rest.startswith(":-")}
    assert {name: value for name, value in told if name in defaults} == defaults | {
        "REGISTRY": "registry.example.com/"
    }
    assert all(" " not in value for name, value in told if name != "FLEET_API_KEYS"), (
        "a remark would be the value"
    )
    assert {value for name, value in told if name in ("REDIS_PASSWORD", "QDRANT_API_KEY")} == {""}
    secrets = re.findall(r"(?m)^\s+\w*(?:PASSWORD|API_KEYS?|AUTH): (?!keys$)(.*)$", TEXT)
    assert len(secrets) >= 4
    assert all(value.startswith("${") for value in secrets)
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


@pytest.mark.parametrize("line", ["gpu.yml", "cpu.yml"])
def test_the_examples_own_lines_start_a_fleet(line: str) -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    (files,) = re.findall(rf"(?m)^(?:# )?COMPOSE_FILE=(\S*{re.escape(line)})$", example)
    assert tuple(files.split(":")) in SETS.values()


def _mounts(service: Config) -> dict[str, Any]:
    return {mount["target"]: mount for mount in service["volumes"]}


def _seconds(text: str) -> int:
    """Return a duration as docker-compose writes it: `1m0s`."""
    return sum(int(n) * {"h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([hms])", text))
