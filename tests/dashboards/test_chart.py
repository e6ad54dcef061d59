"""The dashboards as the chart ships them."""

import json

import pytest
from dashboards.boards import BOARDS
from dashboards.panel import Board

from tests.deploy.chart import named, of_kind, render, rendered, values_of
from tests.deploy.metrics import unknown


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_shows_metrics_that_are_exported(board: Board) -> None:
    made = named(rendered("gpu"), "ConfigMap", "fleet-embedfleet-dashboards")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    shown = json.loads(made["data"][f"demo-fleet-{board.name}.json"])["panels"]
    panels = [panel for panel in shown if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert expressions == [target.expr for panel in board.panels for target in panel.targets]
    assert len(panels) > 10
    # Prometheus' own.
    assert unknown([text for text in expressions if "ALERTS{" not in text]) == set()


def test_dashboards_of_two_releases_fit_into_one_grafana() -> None:
    names = list[tuple[str, str, str]]()
    for release in ("fleet", "embedfleet"):
        maps = of_kind(render(values_of("gpu"), release), "ConfigMap")
        (made,) = [item for item in maps if item["metadata"]["name"].endswith("-dashboards")]
        for key, text in made["data"].items():
            shown = json.loads(text)
            assert f"(demo/{release})" in shown["title"]
            assert len(shown["uid"]) <= 40, "Grafana takes no more"
            names.append((key, shown["uid"], shown["title"]))
    for kind in zip(*names, strict=True):
        assert len(set(kind)) == 2 * len(BOARDS)
