"""A run as an SVG of lines over time, without a plot library. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.bench.plot import FONT, OURS, WANTED, WIDTH, page

from loadtests.book import IDLE, LOAD, READY, Book, percentile

HEIGHT, LEFT, RIGHT, HEAD, FOOT = 130, 60, 150, 34, 26
GRID = "#ddd"
COLORS = (OURS, WANTED, "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf")
WINDOWS, LEAST_WINDOW_SECONDS = 60, 2.0
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its name and its points, (second, value)."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines on one scale."""

    title: str
    lines: Sequence[Line]


def panels(book: Book) -> list[Panel]:
    """Return what a run looked like: its documents, what was under way, both waits."""
    uploads = book.offered()
    ready = [(one.ended, one.seconds) for one in uploads if one.fate == READY and one.ended is not None]
    searches = {
        phase: [(one.at, one.milliseconds) for one in book.searches if one.phase == phase]
        for phase in (IDLE, LOAD)
    }
    sent = [(one.due, 1.0) for one in uploads]
    last = max((at for at, _ in [*ready, *sent, *searches[IDLE], *searches[LOAD]]), default=0.0)
    width = max(last / WINDOWS, LEAST_WINDOW_SECONDS)

    def windows(points: Sequence[Point], figure: Callable[[list[float]], float]) -> list[Point]:
        return list(windowed(points, width, figure))

    def under_way(at: float) -> float:
        return float(sum(one.due <= at and (one.ended is None or one.ended > at) for one in uploads))

    ticks = [number * width for number in range(int(last / width) + 2)]
    return [
        Panel(
            "Documents a second",
            [
                Line("uploaded", windows(sent, lambda values: len(values) / width)),
                Line("searchable", windows(ready, lambda values: len(values) / width)),
            ],
        ),
        Panel("Documents under way", [Line("accepted, not ended", [(at, under_way(at)) for at in ticks])]),
        Panel(
            "Upload to searchable, seconds",
            [
                Line("median", windows(ready, lambda values: percentile(values, 0.5))),
                Line("95 %", windows(ready, lambda values: percentile(values, 0.95))),
            ],
        ),
        Panel(
            "Search, milliseconds, 95 %",
            [
                Line(phase, windows(points, lambda values: percentile(values, 0.95)))
                for phase, points in searches.items()
            ],
        ),
    ]


def windowed(
    points: Sequence[Point], width: float, figure: Callable[[list[float]], float]
) -> Iterator[Point]:
    """Yield the middle of each window of so many seconds and a figure of the values in it; none for none."""
    found: dict[int, list[float]] = {}
    for at, value in points:
        found.setdefault(int(at / width), []).append(value)
    for number in sorted(found):
        yield (number + 0.5) * width, figure(found[number])


def svg(title: str, shown: Sequence[Panel]) -> str:
    """Return the picture."""
    last = max((at for panel in shown for line in panel.lines for at, _ in line.points), default=1.0)
    parts, y = list[str](), HEAD
    for panel in shown:
        parts.append(f'<text x="10" y="{y + 14}" {FONT} font-weight="bold">{escape(panel.title)}</text>')
        parts += _panel(panel, y + 24, last)
        y += HEIGHT + HEAD + FOOT
    return page(title, y, parts)


def _panel(panel: Panel, top: int, last: float) -> Iterator[str]:
    most = max((value for line in panel.lines for _, value in line.points), default=0.0) or 1.0
    bottom, width = top + HEIGHT, WIDTH - LEFT - RIGHT
    for share in (0.0, 0.5, 1.0):
        y, x = bottom - share * HEIGHT, LEFT + share * width
        yield f'<line x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" {FONT} text-anchor="end">{most * share:.3g}</text>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" {FONT} text-anchor="middle">{last * share:.0f} s</text>'
    for number, line in enumerate(panel.lines):
        color, y = COLORS[number % len(COLORS)], top + 14 + 18 * number
        yield f'<text x="{WIDTH - RIGHT + 10}" y="{y}" {FONT} fill="{color}">{escape(line.name)}</text>'
        points = " ".join(
            f"{LEFT + at / last * width:.1f},{bottom - value / most * HEIGHT:.1f}"
            for at, value in line.points
        )
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>'
