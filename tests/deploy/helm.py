"""Helm 4, in a process of its own: no cluster, no network.

Helm is written in Go. Its runtime threads take part in every signal, and when it ends a process its last
words go to a file that pytest throws away; test processes are not to share that.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import helm_python

Values = dict[str, Any]


def render(chart: Path, values: Values, release: str, namespace: str) -> dict[str, str]:
    """Return the text of each template; raises what Helm raises."""
    return dict(_process().submit(_render, chart, values, release, namespace).result())


def lint(chart: Path, values: Values, kube_version: str) -> dict[str, Any]:
    """Return what a strict `helm lint` reports."""
    report = _process().submit(helm_python.lint, chart, values, strict=True, kube_version=kube_version)
    return dict(report.result())


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
    with helm_python.Chart.load(folder) as chart:
        return dict(chart.render(values, name=release, namespace=namespace))


def _metadata(folder: Path) -> dict[str, Any]:
    with helm_python.Chart.load(folder) as chart:
        return dict(chart.metadata)


def _values(settings: list[str]) -> Values:
    return dict(helm_python.parse_set_string(",".join(settings))) if settings else {}
