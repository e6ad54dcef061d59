"""Helm 4, in a process of its own: no cluster, no network.

Helm is written in Go. Its runtime threads take part in every signal, from the import of its library on.
A process that tested signals ended by SIGSEGV without a word. So `helm_python` is imported in that process
alone; its errors, whose class lives there, come back as `HelmError`.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Values = dict[str, Any]


class HelmError(Exception):
    """What Helm says against a chart or its values."""


def render(chart: Path, values: Values, release: str, namespace: str) -> dict[str, str]:
    """Return the text of each template.

    Raises:
        HelmError: the chart or its values are refused.
    """
    return dict(_process().submit(_render, chart, values, release, namespace).result())


def lint(chart: Path, values: Values, kube_version: str) -> dict[str, Any]:
    """Return what a strict `helm lint` reports."""
    return dict(_process().submit(_lint, chart, values, kube_version).result())


def metadata(chart: Path) -> dict[str, Any]:
    """Return what Helm reads in ``Chart.yaml``."""
    return dict(_process().submit(_metadata, chart).result())


def values_of(settings: list[str]) -> Values:
    """Return what `--set` makes of these, one after the other."""
    return dict(_process().submit(_values, settings).result())


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _render(folder: Path, values: Values, release: str, namespace: str) -> dict[str, str]:
    import helm_python

    try:
        with helm_python.Chart.load(folder) as chart:
            return dict(chart.render(values, name=release, namespace=namespace))
    except helm_python.HelmError as error:
        raise HelmError(str(error)) from None


def _lint(chart: Path, values: Values, kube_version: str) -> dict[str, Any]:
    import helm_python

    return dict(helm_python.lint(chart, values, strict=True, kube_version=kube_version))


def _metadata(folder: Path) -> dict[str, Any]:
    import helm_python

    with helm_python.Chart.load(folder) as chart:
        return dict(chart.metadata)


def _values(settings: list[str]) -> Values:
    import helm_python

    return dict(helm_python.parse_set_string(",".join(settings))) if settings else {}
