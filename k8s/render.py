"""Writes the plain manifests from the chart: ``python k8s/render.py [--check]``."""

import sys
from pathlib import Path
from typing import Any

import helm_python
import yaml

HERE = Path(__file__).parent
CHART = HERE.parent / "helm/embedfleet"
NAMESPACE = "embedfleet"
NOTE = "# Rendered from helm/embedfleet by `make k8s`; do not edit.\n"
# They speak of Helm, which has no part in these.
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")


def manifests() -> dict[str, str]:
    """Return the text of each file: one a component, and what ties them together."""
    values = yaml.safe_load((HERE / "values.yaml").read_text("utf-8"))
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(values, name=NAMESPACE, namespace=NAMESPACE)
    files: dict[str, list[Any]] = {}
    for path in sorted(texts):
        if path.endswith(".yaml"):
            for item in filter(None, yaml.safe_load_all(texts[path])):
                if "helm.sh/hook" not in item["metadata"].get("annotations", {}):
                    files.setdefault(_file_of(item), []).append(_without_helm(item))
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": _restricted()},
    }
    files["namespace.yaml"] = [namespace]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": sorted(files),
    }
    files["kustomization.yaml"] = [kustomization]
    return {name: NOTE + _text(items) for name, items in files.items()}


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as such a text: people read these files."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def _text(items: list[Any]) -> str:
    return yaml.dump_all(items, Dumper=_Dumper, sort_keys=False, width=110)


def _file_of(item: dict[str, Any]) -> str:
    if item["kind"] == "NetworkPolicy":
        return "network.yaml"
    return f"{item['metadata']['labels']['app.kubernetes.io/component']}.yaml"


def _without_helm(item: dict[str, Any]) -> dict[str, Any]:
    template = item.get("spec", {}).get("template", {})
    for metadata in (item["metadata"], template.get("metadata", {})):
        for label in HELM_LABELS:
            metadata.get("labels", {}).pop(label, None)
    return item


def _restricted() -> dict[str, str]:
    """Return the labels by which the cluster itself refuses a pod that breaks the checklist."""
    return {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def main() -> int:
    """Write the files, or say which are out of step."""
    wanted = manifests()
    here = {path.name: path.read_text("utf-8") for path in HERE.glob("*.yaml") if path.name != "values.yaml"}
    stale = sorted(name for name in wanted.keys() | here.keys() if wanted.get(name) != here.get(name))
    if "--check" in sys.argv:
        if stale:
            print(f"out of step: {', '.join(stale)}; run `make k8s`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (HERE / name).write_text(wanted[name], "utf-8")
        else:
            (HERE / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
