"""Check and measure the GPU paths; exit 1 when a check fails. Without a GPU it says so and exits 0.

The record is written as soon as the checks are done, and again with what was measured after them.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import machine, table
from benchmarks.bench.bounds import too_few
from benchmarks.bench.corpus import cycled
from benchmarks.bench.process import Contestant, Unavailable
from benchmarks.bench.publish import RESULTS
from benchmarks.bench.rounds import Plan
from benchmarks.bench.setup import FULL, Setup
from benchmarks.engine.compare import side_by_side
from benchmarks.engine.contestants import Entry
from benchmarks.gpu.detect import NO_GPU, NoGpu, Unusable, gpus, told

CHECKS = ("provider", "gate", "memory_fit", "out_of_memory")
BACKENDS = ("onnx", "torch")
REFERENCE = "sentence-transformers fp16"
CHUNKS = 4096
PLAN = Plan(wanted=5, most=9, seconds=600.0)


def main() -> int:
    """Check, measure, print, keep the record; return the exit code."""
    try:
        names = gpus()
    except (NoGpu, Unusable) as why:
        code = told(why)
        return 0 if code == NO_GPU else code
    size = float(os.environ.get("SIZE", FULL))
    with tempfile.TemporaryDirectory(prefix="embedfleet-gpu-") as folder:
        setup = Setup(Path(folder), size, lambda line: print(line, file=sys.stderr, flush=True))
        record: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "gpus": names,
            "machine": machine.describe(),
            "checks": {backend: _checks(setup, backend) for backend in BACKENDS},
        }
        _keep(record)
        record |= {"corpus": setup.corpus.source, "engine": _engine(setup)}
    _keep(record)
    if record["engine"]["rows"]:
        print(table.columns(table.ENGINE_HEAD, list(table.engine_rows(record["engine"]))), end="\n\n")
        print(f"for the README: {readme_line(record)}")
    found = failed(record)
    print(f"gpu-check FAILED: {'; '.join(found)}" if found else "gpu-check ok")
    return int(bool(found))


def failed(record: Mapping[str, Any]) -> list[str]:
    """Return what did not hold: a check, a backend that is not measured, too few rounds that count."""
    checks = [
        f"{backend} {name}: {seen['failed']}"
        for backend, found in record["checks"].items()
        for name, seen in found.items()
        if "failed" in seen
    ]
    engine = record["engine"]
    absent = [f"{name}: {why}" for name, why in engine["absent"].items()]
    few = [
        line
        for name, rounds in engine["rounds"].items()
        for line in too_few(name, engine["wanted"][name], rounds)
    ]
    alone = [f"side by side: {engine['failed']}"] if "failed" in engine else []
    return [*checks, *absent, *few, *alone]


def readme_line(record: Mapping[str, Any]) -> str:
    """Return the row for the README's table of GPUs."""
    rows = record["engine"]["rows"]
    speeds = ", ".join(
        f"{name} {row['chunks_a_second']:,.0f} chunks/s ({table.number(row['x'])}x)"
        for name, row in rows.items()
    )
    gates = ", ".join(
        f"{backend} {found['gate']['cos_min']:.5f}"
        for backend, found in record["checks"].items()
        if "cos_min" in found.get("gate", {})
    )
    return f"| {record['gpus'][0]} | {speeds} | {gates or 'no gate passed'} | {record['date']} |"


def _checks(setup: Setup, backend: str) -> dict[str, dict[str, Any]]:
    """Return what each check saw; a process that ends on the way fails the one that it was at."""
    entry, found, at = _ours(setup, backend), dict[str, dict[str, Any]](), "start"
    name = f"{backend} checks"
    try:
        with Contestant(name, entry.python, "benchmarks.gpu.child", entry.env, setup.log(name)) as child:
            for at in CHECKS:
                found[at] = _said(setup, backend, at, child.ask(check=at))
    except Unavailable as why:
        found[at] = _said(setup, backend, at, {"failed": str(why)})
    return found


def _said(setup: Setup, backend: str, check: str, seen: dict[str, Any]) -> dict[str, Any]:
    setup.say(f"{backend} {check}: {json.dumps(seen)}")
    return seen


def _ours(setup: Setup, backend: str) -> Entry:
    env = {"FLEET_DEVICE": "cuda", "FLEET_BACKEND": backend, "FLEET_PRECISION": "fp16"}
    return Entry(f"ours, {backend} fp16", "benchmarks.engine.ours", setup.own_environment, env, "fp16")


def _entries(setup: Setup) -> list[Entry]:
    env = {
        "BENCH_MODEL": str(setup.weights.folder),
        "BENCH_DEVICE": "cuda",
        "BENCH_DTYPE": "float16",
        "BENCH_THREADS": str(machine.threads()),
    }
    reference = Entry(REFERENCE, "benchmarks.engine.sentence", setup.own_environment, env, is_required=True)
    return [reference, *(_ours(setup, backend) for backend in BACKENDS)]


def _engine(setup: Setup) -> dict[str, Any]:
    """Return what was measured, or `failed` and why there is nothing."""
    texts = cycled(setup.corpus.mixed, setup.scaled(CHUNKS, 64))
    try:
        outcome = side_by_side(setup, _entries(setup), texts, PLAN, PLAN)
    except Unavailable as why:
        return {"failed": str(why), "rows": {}, "absent": {}, "wanted": {}, "rounds": {}}
    return {
        "rows": outcome.rows(),
        "absent": outcome.taking_part.absent,
        "wanted": outcome.wanted,
        "rounds": outcome.described(),
    }


def _keep(record: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
