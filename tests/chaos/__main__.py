"""`python -m tests.chaos`: the long form; `SEED=7` repeats a schedule, names such as `C3 C4` pick scenarios.

Ends with one line that says how it went, and with 1 when anything is lost, doubled, left over, moved
back, or otherwise not as promised. The receipt is `build/chaos-receipt.json`. With `--break` the fleet
runs without one of its safeties, with `--plant` a fault is planted by hand: then it has to end with 1.
"""

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tests.chaos.harm.sabotage import SABOTAGES
from tests.chaos.judge.plants import PLANTS
from tests.chaos.judge.report import last_line, missed_stages, write_receipt
from tests.chaos.run import run
from tests.chaos.scenarios import LONG, SETTINGS
from tests.chaos.stack import LONG_SHAPE

RECEIPT = Path("build", "chaos-receipt.json")


def main(arguments: list[str]) -> int:
    """Run scenarios one after the other, each in a stack of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=f"of {' '.join(LONG)}; all by default")
    parser.add_argument(
        "--break", dest="sabotage", choices=SABOTAGES, default="", help="run without a safety"
    )
    parser.add_argument("--plant", choices=PLANTS, default="", help="plant a fault before the checker looks")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    seed = int(os.environ.get("SEED", "1"))
    lease = float(os.environ.get("LEASE", LONG_SHAPE.lease_seconds))
    shape = replace(LONG_SHAPE, lease_seconds=lease, sabotage=asked.sabotage)
    wanted = {name: LONG[name] for name in asked.names or LONG}
    results = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for name, scenario in wanted.items():
            print(f"{name}: {(scenario.__doc__ or '').splitlines()[0].partition(': ')[2]}", flush=True)
            suited = replace(shape, settings={**shape.settings, **SETTINGS.get(name, {})})
            results.append(run(name, scenario, Path(folder, name), suited, seed, asked.plant))
            for line in results[-1].faults:
                print(f"  {line}")
            for line in results[-1].skipped:
                print(f"  skipped: {line}")
            words = f"{results[-1].seconds:.0f} s, recovery {results[-1].recovery_s:.1f} s"
            print(f"  {words}, hits {dict(results[-1].hits)}", flush=True)
    if len(wanted) == len(LONG):
        results[-1].problems += missed_stages(results)
    write_receipt(RECEIPT, results, seed, asdict(shape))
    print(f"receipt: {RECEIPT}")
    print(last_line(results))
    return 1 if any(result.faults for result in results) else 0


def _end(number: int, frame: object) -> None:
    """End by the way that cleans up: nobody must be left with a fleet, or a mounted disk. Once is enough."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
