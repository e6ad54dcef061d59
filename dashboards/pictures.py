"""Draws the panels from the record of a run: ``python -m dashboards.pictures RECORD FOLDER``.

A record is what a load test with `--record` leaves. A Prometheus is started on it and asked with the panels'
own expressions, over the time of the run.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from loadtests.plot import Line, svg
from loadtests.plot import Panel as Drawn

from dashboards.boards import BOARDS
from dashboards.panel import WINDOW, Board, Panel, Target
from dashboards.prometheus import Prometheus, PrometheusError, Series, Span, recorded

# Four scrapes of a record, as Grafana takes them for its rate interval, and some more: runs are short.
WINDOW_SECONDS = 20
# What one panel has room for; the largest stay.
LINES, LETTERS = 7, 22
UNITS = {
    **dict.fromkeys(("ops", "reqps"), ("a second", 1.0)),
    "s": ("seconds", 1.0),
    "bytes": ("MB", 1e-6),
    "Bps": ("MB a second", 1e-6),
    "percentunit": ("%", 100.0),
    "short": ("", 1.0),
}


def drawn(board: Board, prometheus: Prometheus, span: Span) -> list[Drawn]:
    """Return the panels of a board that had more than zeros.

    Args:
        board: whose curves are drawn, and neither its single figures nor its tables.
        prometheus: that has the record.
        span: of the run.
    """
    found = []
    for panel in board.panels:
        if panel.form == "timeseries":
            lines = [line for target in panel.targets for line in _lines(target, panel, prometheus, span)]
            lines.sort(key=lambda line: -max(value for _, value in line.points))
            if lines:
                word, _ = UNITS[panel.unit]
                found.append(Drawn(", ".join(filter(None, (panel.title, word))), lines[:LINES]))
    return found


def _lines(target: Target, panel: Panel, prometheus: Prometheus, span: Span) -> Iterator[Line]:
    """Yield a line for each series that isn't zero all the time."""
    expression = target.expr.replace("$namespace", ".*").replace(WINDOW, f"{WINDOW_SECONDS}s")
    _, scale = UNITS[panel.unit]
    for series in prometheus.over(expression, span):
        points = [(float(at) - span.begin, float(value) * scale) for at, value in series["values"]]
        points = [point for point in points if math.isfinite(point[1])]
        if any(value for _, value in points):
            yield Line(called(target, series), points)


def called(target: Target, series: Series) -> str:
    """Return the name of a series as its legend says it, the end of it where it is long."""
    labels: dict[str, str] = series["metric"]
    name = re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), target.legend)
    name = " ".join(name.split())
    return name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write an SVG a board; 1 where there is no record, or no Prometheus."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.pictures", description=__doc__)
    parser.add_argument("record", type=Path, help="left by `--record`: load-report/prometheus")
    parser.add_argument("folder", type=Path, help="to write to")
    wanted = parser.parse_args(arguments)
    try:
        span = recorded(wanted.record)
        day = datetime.fromtimestamp(span.begin, UTC).date()
        remark = f"{span.end - span.begin:.0f} s on {span.machine}, {day}"
        wanted.folder.mkdir(parents=True, exist_ok=True)
        with Prometheus(wanted.record) as prometheus:
            for board in BOARDS:
                panels, path = drawn(board, prometheus, span), wanted.folder / f"{board.name}.svg"
                path.write_text(svg(f"{board.title.capitalize()}: {remark}", panels), "utf-8")
                print(f"{path}: {len(panels)} panels; the others had nothing but zeros")
    except OSError as error:
        print(f"no record: {error}; `make load ARGS=--record` makes one", file=sys.stderr)
    except PrometheusError as error:
        print(error, file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
