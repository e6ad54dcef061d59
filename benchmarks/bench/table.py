"""What was measured, as tables: for a terminal and for Markdown. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bench.bounds import BOUNDS, Bound, applies, short

Row = Sequence[str]

ENGINE_HEAD = ("engine", "chunks/s", "x", "cosine min", "cosine mean", "peak RSS, MB")
FIGURE_HEAD = ("figure", "measured", "bound", "")


def engine_rows(engine: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row a contestant, the quickest first."""
    rows = engine["rows"]
    for name in sorted(rows, key=lambda name: -rows[name]["chunks_a_second"]):
        row = rows[name]
        precision = f" ({row['precision']})" if row.get("precision") and row["precision"] not in name else ""
        yield (
            name + precision,
            f"{row['chunks_a_second']:.1f}",
            number(row["x"]),
            f"{row['cos_min']:.5f}",
            f"{row['cos_mean']:.5f}",
            f"{row['peak_rss_mb']:.0f}",
        )


def absentees(engine: Mapping[str, Any]) -> str:
    """Return who could not take part, and why; nothing when all did."""
    reasons = [f"{name} ({' '.join(why.split())[:120]})" for name, why in engine["absent"].items()]
    return f"Did not take part: {'; '.join(reasons)}." if reasons else ""


def figure_rows(figures: Mapping[str, float | None], has_amx: bool) -> Iterator[Row]:
    """Yield a row a bound: what it is, what was measured, whether it holds."""
    for bound in BOUNDS:
        value = figures.get(bound.figure)
        yield (f"{bound.what} ({bound.figure})", number(value), str(bound), _verdict(bound, figures, has_amx))


def number(value: float | None) -> str:
    """Return a figure as people read it."""
    return "-" if value is None else short(value)


def columns(head: Row, rows: Sequence[Row]) -> str:
    """Return rows in columns of equal width."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


def _verdict(bound: Bound, figures: Mapping[str, float | None], has_amx: bool) -> str:
    if not applies(bound, has_amx):
        return "does not apply: no AMX-bf16"
    if bound.is_optional and bound.figure not in figures:
        return "did not take part"
    value = figures.get(bound.figure)
    if value is None:
        return "NOT MEASURED"
    return "holds" if bound.holds(value) else "MISSED"
