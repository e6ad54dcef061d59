"""Simulate a day of mixed work; exit 1 when a figure is missed. `SIMULATION_HOURS=1`: quick, and not kept."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.simulation import day

RESULTS = Path(__file__).parents[1] / "results" / "memory-simulation.json"
DAY = 24.0
LEAST_ORACLE_SHARE = 0.90
CAUSES = {
    "neighbour": "a neighbour took memory between the reading before the batch and the batch's last buffer",
    "stale": "a neighbour took it within the 50 ms for which a reading stands, before the batch began",
    "scattered": "the bytes were there, but the arena held them in pieces too small for a buffer",
    "model": "the batch needed more than the model says, and more than the margin covers",
}
RULES = {
    "budget": "MemoryBudget; the runtime gives its arena back when the budget says so, and after a failure",
    "budget_kept_arena": "MemoryBudget; the runtime never gives its arena back (ONNX Runtime by default)",
    "halving": "no readings: what is free at the start, halved for good after each failure",
    "oracle": "knows each batch's true cost and what is free; the same margin; gives back after each batch",
}


def main() -> int:
    """Run the four rules, print, keep the figures; return the exit code."""
    hours = float(os.environ.get("SIMULATION_HOURS", DAY))
    began = time.perf_counter()
    found = {
        "budget": day.budget(hours),
        "budget_kept_arena": day.budget(hours, gives_back=False),
        "halving": day.halving(hours),
        "oracle": day.oracle(hours),
    }
    took = time.perf_counter() - began
    best = found["oracle"]
    for name, figures in found.items():
        figures["oracle_share"] = figures["tokens_a_second"] / best["tokens_a_second"]
        figures["batch_share"] = figures["tokens_a_batch"] / best["tokens_a_batch"]
        _say(name, figures)
    if hours == DAY:
        _keep(found)
    print(f"{took:.0f} s for {len(found)} runs; causes of OOMs:", file=sys.stderr)
    for cause, sentence in CAUSES.items():
        print(f"  {cause}: {found['budget']['ooms'].get(cause, 0)} x {sentence}", file=sys.stderr)
    ours = found["budget"]
    missed = ours["tasks_failed_for_memory"] > 0 or ours["oracle_share"] < LEAST_ORACLE_SHARE
    print(
        f"simulation {'missed its figures:' if missed else 'ok:'} hours={hours:g} "
        f"failed_for_memory={ours['tasks_failed_for_memory']} oracle_share={ours['oracle_share']:.3f} "
        f"ooms={sum(ours['ooms'].values())} splits={ours['splits']}"
    )
    return int(missed)


def _say(name: str, figures: dict[str, Any]) -> None:
    ooms = ",".join(f"{cause}:{count}" for cause, count in figures["ooms"].items()) or "none"
    print(
        f"{name}: oracle_share={figures['oracle_share']:.3f} batch_share={figures['batch_share']:.3f} "
        f"tokens/s={figures['tokens_a_second']:,.0f} "
        f"tokens/batch={figures['tokens_a_batch']:,.0f} batches={figures['batches']} ooms={ooms} "
        f"failed={figures['tasks_failed_for_memory']} tasks={figures['tasks_finished']} "
        f"lost_s={figures['lost_seconds']:.0f} neighbours={figures['neighbours_share']:.2f}",
        file=sys.stderr,
    )


def _keep(found: dict[str, dict[str, Any]]) -> None:
    """Write the record, unless it has the same figures: they are of simulated time, and so repeat."""
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "hours": DAY,
        "device_bytes": day.CAPACITY,
        "causes": CAUSES,
        "rules": RULES,
        "figures": json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4)),
    }
    kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    if {**kept, "date": record["date"]} == record:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
