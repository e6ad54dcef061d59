"""A record of the benchmark, small and made up."""

from typing import Any

from benchmarks.bench.bounds import BOUNDS


def figures(**changed: float | None) -> dict[str, float | None]:
    """Return figures that are right at their bounds."""
    found: dict[str, float | None] = {bound.figure: bound.bound for bound in BOUNDS}
    return {**found, "peak_share": 0.31, "worker_chunks": 21_150.0, **changed}


def engine() -> dict[str, Any]:
    row = {"cos_min": 0.9999, "cos_mean": 1.0, "peak_rss_mb": 300.0, "precision": "bf16"}
    return {
        "rows": {
            "sentence-transformers fp32": {**row, "x": 1.0, "chunks_a_second": 40.0, "precision": "fp32"},
            "engine": {**row, "x": 4.5, "chunks_a_second": 180.0},
        },
        "absent": {"ours, torch bf16": "it computes in\nfp32"},
        "gemm": {"fp32": 4.4e11, "bf16": 3e12},
        "flops_a_token": 23.3e6,
        "infinity_x": None,
        "padding": {"mixed": 0.02, "short": 0.1},
        "peak_share": 0.31,
        "wanted": {"engine": 1},
        "rounds": {"engine": [round_of(True), round_of(False)]},
    }


def round_of(counts: bool) -> dict[str, Any]:
    return {"before": 1.0, "after": 1.0 if counts else 2.0, "counts": counts, "seconds": {"engine": 0.2}}


def record(*, amx: bool = True, size: float = 1.0, **changed: float | None) -> dict[str, Any]:
    return {
        "date": "2026-11-26",
        "size": size,
        "machine": {
            "processor": "2 x Test <CPU>",
            "threads": 2,
            "amx_bf16": amx,
            "avx512_bf16": True,
            "memory_gib": 24,
        },
        "corpus": "800 real chunks",
        "figures": figures(**changed),
        "engine": engine(),
        "stage": {"wanted": 1, "rounds": {"stage, documents of 1": [round_of(True)]}},
        "path": {"wanted": 1, "best_plain": "plain, 2 x 1", "rounds": [round_of(False), round_of(True)]},
    }
