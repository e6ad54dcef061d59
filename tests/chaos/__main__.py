"""`python -m tests.chaos`: the long form; `SEED=7` repeats a schedule, names such as `C3 C4` pick scenarios.

Ends with one line that says how it went, and with 1 when anything is lost, doubled, left over, moved
back, or otherwise not as promised. The receipt is `build/chaos-receipt.json`.
"""

import os
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from tests.chaos.report import Result, last_line, write_receipt
from tests.chaos.scenarios import LONG, Scenario
from tests.chaos.stack import Shape, Stack

RECEIPT = Path("build", "chaos-receipt.json")
SHAPE = Shape(
    lease_seconds=float(os.environ.get("LEASE", "30")),
    scan_seconds=5,
    workers=2,
    apis=2,
    settings={"FLEET_RETRY_DELAYS": "6,12,24", "FLEET_MAX_DEATHS": "10"},
)


def main(names: list[str]) -> int:
    """Run scenarios one after the other, each in a stack of its own."""
    seed = int(os.environ.get("SEED", "1"))
    wanted = {name: LONG[name] for name in names or LONG}
    results = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for name, scenario in wanted.items():
            print(f"{name}: {(scenario.__doc__ or '').splitlines()[0].partition(': ')[2]}", flush=True)
            results.append(run(name, scenario, Path(folder, name), seed))
            for line in results[-1].faults:
                print(f"  {line}")
            print(f"  {results[-1].seconds:.0f} s, hits {dict(results[-1].hits)}", flush=True)
    write_receipt(RECEIPT, results, seed, {**asdict(SHAPE)})
    print(f"receipt: {RECEIPT}")
    print(last_line(results))
    return 1 if any(result.faults for result in results) else 0


def run(name: str, scenario: Scenario, folder: Path, seed: int) -> Result:
    """Run one scenario; what it raises becomes a problem of its result."""
    start = time.monotonic()
    result = Result(name)
    try:
        with Stack(folder, SHAPE) as stack:
            result = scenario(stack, seed)
    except Exception as error:
        traceback.print_exc()
        result.problems.append(f"it broke off: {error}")
    result.seconds = time.monotonic() - start
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
