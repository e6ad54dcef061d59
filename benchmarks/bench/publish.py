"""Where the figures are kept and shown: JSON and SVG in `results/`, a block in the README and in the docs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import plot, table
from benchmarks.bench.bounds import BOUNDS, applies
from benchmarks.bench.process import ROOT
from benchmarks.bench.setup import FULL

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- make bench writes this -->", "<!-- until here -->"
README, DOCS = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
SHOWN_IN_README = (
    "engine_x",
    "stage_share_150",
    "stage_share_10",
    "stage_share_1",
    "path_x_plain",
    "worker_rss_mb",
)


def keep(record: Mapping[str, Any]) -> None:
    """Write a record; only one of full size is shown, a quick one is `bench-quick` and not for git."""
    is_full = record["size"] == FULL
    name = "bench" if is_full else "bench-quick"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (RESULTS / f"{name}.svg").write_text(picture(record), "utf-8")
    if is_full:
        for page, block in ((README, in_readme(record)), (DOCS, in_docs(record))):
            page.write_text(replaced(page.read_text("utf-8"), block), "utf-8")


def picture(record: Mapping[str, Any]) -> str:
    """Return the record's plot."""
    has_amx = record["machine"]["amx_bf16"]
    bounds = {bound.figure: bound.bound for bound in BOUNDS if applies(bound, has_amx)}
    return plot.svg(_where(record), plot.panels(record, bounds))


def in_readme(record: Mapping[str, Any]) -> str:
    """Return the block of the README: the main figures."""
    has_amx = record["machine"]["amx_bf16"]
    rows = [
        row
        for bound, row in zip(BOUNDS, table.figure_rows(record["figures"], has_amx), strict=True)
        if bound.figure in SHOWN_IN_README
    ]
    return f"{table.markdown(table.FIGURE_HEAD, rows)}\n\n{_where(record)}."


def in_docs(record: Mapping[str, Any]) -> str:
    """Return the block of docs/benchmarks.md: every engine, every figure, the plot."""
    engine, has_amx = record["engine"], record["machine"]["amx_bf16"]
    gemm = ", ".join(f"{name} {peak / 1e9:,.0f}" for name, peak in engine["gemm"].items())
    share = record["figures"]["peak_share"]
    return "\n\n".join(
        [
            f"{_where(record)}. Texts: {record['corpus']}.",
            "![The figures as bars](../benchmarks/results/bench.svg)",
            table.markdown(table.ENGINE_HEAD, list(table.engine_rows(engine))),
            *filter(None, [table.absentees(engine)]),
            f"Products of matrices in the same run: {gemm} GFLOP/s; a token costs "
            f"{engine['flops_a_token'] / 1e6:.1f} MFLOP, so the engine reaches {share:.0%} of the peak.",
            table.markdown(table.FIGURE_HEAD, list(table.figure_rows(record["figures"], has_amx))),
            f"The worker's memory is that of {record['figures']['worker_chunks']:,.0f} chunks. "
            f"The better plain design was `{record['path']['best_plain']}` (processes x threads). "
            f"Rejected rounds: {_rejected(record)}.",
        ]
    )


def replaced(page: str, block: str, begin: str = BEGIN) -> str:
    """Return a page with another block between its marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, mark, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the page has no lines {begin!r} and {END!r}")
    return f"{before}{begin}\n\n{block}\n\n{END}{after}"


def shown(page: str, begin: str = BEGIN) -> str:
    """Return the block that a page shows."""
    return page.partition(begin)[2].partition(END)[0].strip()


def recorded() -> dict[str, Any] | None:
    """Return the record of full size, or None when there is none yet."""
    file = Path(RESULTS, "bench.json")
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def _rejected(record: Mapping[str, Any]) -> str:
    engines, stages = (
        [one for rounds in record[part]["rounds"].values() for one in rounds] for part in ("engine", "stage")
    )
    parts = {"engines": engines, "stage": stages, "path": record["path"]["rounds"]}
    return ", ".join(
        f"{name} {sum(not one['counts'] for one in rounds)} of {len(rounds)}"
        for name, rounds in parts.items()
    )


def _where(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    if machine["amx_bf16"]:
        bf16 = "with AMX-bf16"
    elif machine["avx512_bf16"]:
        bf16 = "with AVX512-bf16 and without AMX"
    else:
        bf16 = "without AMX"
    return (
        f"{record['date']}, {machine['processor']}, {machine['threads']} threads, {bf16}, "
        f"{machine['memory_gib']} GiB"
    )
