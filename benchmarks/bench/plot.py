"""The figures as an SVG of bars; a plot library would be the largest dependency here. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 860, 290, 120, 18, 6, 30
FONT = 'font-family="sans-serif" font-size="12"'
INK, OURS, OTHERS, WANTED = "#444", "#1f77b4", "#b0b7bf", "#d62728"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        name: left of it.
        value: its length.
        is_ours: how it is filled.
        wanted: where its bound is marked; None for none.
    """

    name: str
    value: float
    is_ours: bool = True
    wanted: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale."""

    title: str
    bars: Sequence[Bar]


def panels(record: Mapping[str, Any], bounds: Mapping[str, float]) -> list[Panel]:
    """Return what a record of the benchmark shows: engines, stage shares, the whole path.

    Args:
        record: as in `results/bench.json`.
        bounds: by figure; those that apply.
    """
    rows, figures = record["engine"]["rows"], record["figures"]
    engines = [
        Bar(name, row["chunks_a_second"], name.startswith(("engine", "ours")))
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["chunks_a_second"])
    ]
    shares = [
        Bar(
            f"documents of {size} chunks",
            figures[f"stage_share_{size}"],
            True,
            bounds.get(f"stage_share_{size}"),
        )
        for size in (150, 10, 1)
        if figures[f"stage_share_{size}"] is not None
    ]
    path = figures["path_x_plain"]
    paths = [Bar("embedfleet", path, True, bounds.get("path_x_plain")), Bar("plain design", 1.0, False)]
    return [
        Panel("Engines side by side, chunks a second", engines),
        Panel("Embedding stage, share of the bare engine", shares),
        Panel("Upload to searchable, times the plain design", paths if path is not None else []),
    ]


def svg(title: str, shown: Sequence[Panel]) -> str:
    """Return the picture."""
    parts, y = list[str](), HEAD
    for panel in shown:
        parts.append(f'<text x="10" y="{y + 20}" {FONT} font-weight="bold">{escape(panel.title)}</text>')
        y += HEAD
        parts += _bars(panel, y)
        y += len(panel.bars) * (BAR + GAP) + GAP
    return page(title, y + GAP, parts)


def page(title: str, height: int, parts: Iterable[str]) -> str:
    """Return an SVG on white, its title above; all pictures of the project are `WIDTH` wide."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="10" y="20" {FONT} fill="{INK}">{escape(title)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _bars(panel: Panel, y: int) -> Iterator[str]:
    most = max((max(bar.value, bar.wanted or 0) for bar in panel.bars), default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / most
    for number, bar in enumerate(panel.bars):
        top = y + number * (BAR + GAP)
        middle, length = top + BAR - 5, bar.value * scale
        color = OURS if bar.is_ours else OTHERS
        yield f'<text x="{LEFT - 8}" y="{middle}" {FONT} text-anchor="end">{escape(bar.name)}</text>'
        yield f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{color}"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{middle}" {FONT} fill="{INK}">{bar.value:.3g}</text>'
        if bar.wanted is not None:
            at = LEFT + bar.wanted * scale
            line = f'x1="{at:.1f}" x2="{at:.1f}" y1="{top - 2}" y2="{top + BAR + 2}"'
            yield f'<line {line} stroke="{WANTED}" stroke-width="2"/>'
