"""Pods and work over time, a panel for each arm and pool, as an SVG. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.bench.plot import FONT, INK, OTHERS, OURS, WIDTH, page

LEFT, RIGHT, HEIGHT, GAP, HEAD = 200, 70, 56, 16, 30
WORK = "#e4e7ea"
TICK_SECONDS = 30


def svg(title: str, arms: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture of outcomes as they stand in a receipt; all on one scale of time."""
    longest = max(arm["seconds"] for arm in arms)
    parts, y = list[str](), HEAD
    for arm in arms:
        parts.append(f'<text x="10" y="{y + 18}" {FONT} font-weight="bold">{escape(arm["words"])}</text>')
        y += HEAD
        for pool in arm["steps"]:
            parts += _panel(arm, pool, longest, y)
            y += HEIGHT + GAP
    parts += _axis(longest, y)
    return page(title, y + HEAD, parts)


def _panel(arm: Mapping[str, Any], pool: str, longest: float, top: int) -> Iterator[str]:
    bottom = top + HEIGHT
    work = [(at, queued + inflight) for at, queued, inflight in arm["samples"][pool]]
    most_work = max([1, *(count for _, count in work)])
    most_pods = max(1, arm["peaks"][pool])
    if work:
        points = [(at, bottom - HEIGHT * count / most_work) for at, count in work]
        line = " ".join(f"{_x(at, longest):.1f},{y:.1f}" for at, y in points)
        ends = f"{_x(points[-1][0], longest):.1f},{bottom} {_x(points[0][0], longest):.1f},{bottom}"
        yield f'<polygon points="{line} {ends}" fill="{WORK}"/>'
    steps = _corners([(0.0, 0), *arm["steps"][pool]], arm["seconds"])
    line = " ".join(f"{_x(at, longest):.1f},{bottom - HEIGHT * pods / most_pods:.1f}" for at, pods in steps)
    yield f'<polyline points="{line}" fill="none" stroke="{OURS}" stroke-width="2"/>'
    yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="{OTHERS}"/>'
    for burst in arm["bursts"]:
        x = _x(burst["began"], longest)
        dashed = f'stroke="{INK}" stroke-dasharray="3 3"'
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" {dashed}/>'
    pods = f"{pool}: {most_pods} pod{'s' * (most_pods > 1)} at most"
    for at, words in ((12, pods), (30, f"{most_work} tasks at most")):
        yield f'<text x="{LEFT - 8}" y="{top + at}" {FONT} text-anchor="end" fill="{INK}">{words}</text>'


def _corners(steps: Sequence[tuple[float, int]], end: float) -> Iterator[tuple[float, int]]:
    """Yield both ends of each level of a staircase."""
    pods = 0
    for at, after in steps:
        yield at, pods
        yield at, after
        pods = after
    yield end, pods


def _axis(longest: float, y: int) -> Iterator[str]:
    for at in range(0, int(longest) + 1, TICK_SECONDS):
        place = f'x="{_x(at, longest):.1f}" y="{y + 8}" text-anchor="middle"'
        yield f'<text {place} {FONT} fill="{INK}">{at} s</text>'


def _x(at: float, longest: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / longest
