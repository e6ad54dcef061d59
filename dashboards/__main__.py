"""Writes the boards as Grafana takes them: ``python -m dashboards [--check]``."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dashboards.boards import BOARDS
from dashboards.panel import Board, Form, Panel

FILES = Path(__file__).parents[1] / "helm/embedfleet/files/dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "embedfleet"
COLUMNS = 24
SIZES: dict[Form, tuple[int, int]] = {"timeseries": (8, 8), "stat": (6, 4), "table": (24, 6)}

Json = dict[str, Any]


def dashboard(board: Board) -> Json:
    """Return a board as Grafana's JSON model; the chart gives its uid and title the release's name."""
    return {
        "uid": f"embedfleet-{board.name}",
        "title": f"Embedfleet: {board.title}",
        "tags": [TAG],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "title": "Embedfleet",
                "tags": [TAG],
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [_datasource(), _namespace()]},
        "panels": list(_placed(board)),
    }


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{board.name}.json": json.dumps(dashboard(board), indent=1) + "\n" for board in BOARDS}


def _datasource() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _namespace() -> Json:
    """Return the variable of the namespaces; `.*` takes in series that have none, as outside of a cluster."""
    return {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(fleet_queue_depth, namespace)", "refId": "namespaces"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def _placed(board: Board) -> Iterator[Json]:
    """Yield headings and panels, each where it stands: from left to right, then the next line."""
    y, number = 0, 0
    for title, panels in board.rows.items():
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        x, y, line = 0, y + 1, 0
        for panel in panels:
            number += 1
            width, height = SIZES[panel.form]
            if x + width > COLUMNS:
                x, y, line = 0, y + line, 0
            place = {"x": x, "y": y, "w": width, "h": height}
            yield {"id": number, "title": panel.title, "gridPos": place} | _drawn(panel)
            x, line = x + width, max(line, height)
        y += line


def _drawn(panel: Panel) -> Json:
    return {
        "type": panel.form,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel.form),
        "targets": _targets(panel),
        # Of a table the labels are what is looked at.
        **({"transformations": _labels_alone()} if panel.form == "table" else {}),
    }


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "min": 0}
    if panel.bound is not None:
        steps = [{"color": "transparent", "value": None}, {"color": "red", "value": panel.bound}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        defaults["custom"] = {"thresholdsStyle": {"mode": "dashed"}}
    return defaults


def _options(form: Form) -> Json:
    if form == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"}
    if form == "table":
        return {"showHeader": True}
    return {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _targets(panel: Panel) -> list[Json]:
    now: Json = {"instant": True, "range": False, "format": "table"} if panel.form == "table" else {}
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": target.expr,
            "legendFormat": target.legend,
            **now,
        }
        for number, target in enumerate(panel.targets)
    ]


def _labels_alone() -> list[Json]:
    return [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}]


def main(arguments: Sequence[str]) -> int:
    """Write the files, or say which are out of step."""
    wanted = files()
    here = {path.name: path.read_text("utf-8") for path in FILES.glob("*.json")}
    stale = sorted(name for name in wanted.keys() | here.keys() if wanted.get(name) != here.get(name))
    if "--check" in arguments:
        if stale:
            print(f"out of step: {', '.join(stale)}; run `make dashboards`", file=sys.stderr)
        return 1 if stale else 0
    FILES.mkdir(exist_ok=True)
    for name in stale:
        if name in wanted:
            (FILES / name).write_text(wanted[name], "utf-8")
        else:
            (FILES / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
