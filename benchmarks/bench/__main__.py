"""Measure engine, stage and path; exit 1 when a bound is missed. `SIZE=0.1` is quick."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import bounds, machine, publish, table
from benchmarks.bench.process import Contestant, Unavailable
from benchmarks.bench.setup import FULL, Setup
from benchmarks.engine import compare as engine
from benchmarks.engine.contestants import ENGINE, INFINITY, ours
from benchmarks.path import compare as path
from benchmarks.stage import compare as stage
from benchmarks.stage.fleet import Fleet
from embedfleet.contracts.errors import FleetError

ONNX = "ours, onnx fp32"


def main() -> int:
    """Measure, print, keep the record; return the exit code."""
    # A benchmark that is told to end stops what it started, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    has_amx = machine.has_amx_bf16()
    _say(f"{machine.processor()}, {machine.threads()} threads each, AMX-bf16: {'yes' if has_amx else 'no'}")
    if not has_amx:
        _say("bounds that need AMX-bf16 do not apply here")
    try:
        record = _measured(float(os.environ.get("SIZE", FULL)))
    except (FleetError, Unavailable, RuntimeError) as error:
        print(f"bench FAILED: {error}")
        return 1
    publish.keep(record)
    print(table.columns(table.ENGINE_HEAD, list(table.engine_rows(record["engine"]))))
    print(table.absentees(record["engine"]), end="\n\n")
    print(table.columns(table.FIGURE_HEAD, list(table.figure_rows(record["figures"], has_amx))), end="\n\n")
    found = bounds.faults(record)
    print(bounds.last_line(record, found))
    return int(bool(found))


def _measured(size: float) -> dict[str, Any]:
    """Measure everything; return the record."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="embedfleet-bench-") as folder:
        setup = Setup(Path(folder), size, _say)
        _say(f"texts: {setup.corpus.source}")
        engines = engine.compare(setup)
        stages, paths = _fleet(setup)
        source = setup.corpus.source
    return {
        "date": time.strftime("%Y-%m-%d"),
        "size": size,
        "seconds": round(time.monotonic() - began),
        "machine": machine.describe(),
        "corpus": source,
        "figures": figures(engines, stages, paths, is_full=size == FULL),
        "engine": engines,
        "stage": stages,
        "path": paths,
    }


def _fleet(setup: Setup) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the stage and the path on one fleet; its logs go to stderr when that fails."""
    folder = setup.folder / "fleet"
    # What the fleet's worker would choose, as it would choose it.
    entry = next(one for one in ours(setup.own_environment, setup.torch_environment) if one.name == ENGINE)
    bare = Contestant("bare engine", entry.python, entry.module, entry.env, setup.log("bare"))
    try:
        with Fleet(folder, **entry.env) as fleet, bare:
            return stage.compare(setup, fleet, bare), path.compare(setup, fleet, bare)
    except Exception:
        for log in sorted((folder / "logs").glob("*.log")):
            _say(f"--- {log.name}: {log.read_text('utf-8', 'replace')[-2000:]}")
        raise


def figures(engines: Any, stages: Any, paths: Any, *, is_full: bool) -> dict[str, float | None]:
    """Return what the bounds are about, by name; None where it could not be measured.

    Args:
        engines: what came of the engines.
        stages: of the embedding stage.
        paths: of the whole path.
        is_full: whether nothing may be absent, and the worker's memory is judged after enough chunks alone.
    """
    rows, memory = engines["rows"], stages["memory"]
    chunks = memory[-1]["chunks"]
    is_judged = not is_full or chunks >= bounds.LEAST_CHUNKS
    onnx = rows.get(ONNX, {})
    settled = next(one["rss"] for one in memory if 3 * one["chunks"] >= chunks)
    found = {
        "engine_x": rows[ENGINE]["x"],
        "peak_share": engines["peak_share"],
        "cos_min": rows[ENGINE]["cos_min"],
        "onnx_fp32_x": onnx.get("x"),
        "onnx_fp32_cos_min": onnx.get("cos_min"),
        **({"infinity_x": engines["infinity_x"]} if is_full or INFINITY in rows else {}),
        "padding": engines["padding"]["mixed"],
        "padding_short": engines["padding"]["short"],
        **{f"stage_share_{size}": share for size, share in stages["shares"].items()},
        "path_x_plain": paths["x_plain"],
        "worker_chunks": chunks,
        "worker_rss_mb": memory[-1]["peak_rss"] / 1e6 if is_judged else None,
        "worker_rss_growth": memory[-1]["rss"] / settled if is_judged else None,
    }
    return {name: None if value is None else float(f"{value:.6g}") for name, value in found.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
