"""`make autoscale-check`: the chart's rules, LLEN only and CPU in turn, each with the same 300 documents.

Ends with one line, and with 1 when a document is lost or doubled, a pod that was scaled in needed SIGKILL, or
under the chart's rules a pool doesn't end at zero or no pod was scaled in that held work. The receipt and the
plot are in `build/autoscale/`. With `--plant` a fault is planted before the checker looks: then it has to end
with 1.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench.table import columns

from tests.autoscale import report
from tests.autoscale.arms import ARMS
from tests.autoscale.load import DOCUMENTS, documents
from tests.autoscale.run import Outcome, drive, warm_up
from tests.chaos.judge.plants import PLANTS
from tests.chaos.stack import LONG_SHAPE, Shape, Stack

FACTOR = 40.0
"""All times of the rules are divided by it: KEDA's and the HPA's periods, windows, cooldowns, policies."""

PAUSE_SECONDS = 6.0
"""Of quiet before the second burst: the documents' scaled cooldown is 3 s, the embeddings' 15 s."""

# No worker at first; leases and scans as the product has them.
SHAPE = Shape(LONG_SHAPE.lease_seconds, LONG_SHAPE.scan_seconds, workers=0)


def main(arguments: list[str]) -> int:
    """Run the arms one after the other on one Redis, API and Qdrant."""
    parser = argparse.ArgumentParser(prog="python -m tests.autoscale", description=__doc__)
    parser.add_argument("--publish", action="store_true", help="show the figures in docs/autoscaling.md")
    parser.add_argument("--plant", choices=PLANTS, default="", help="plant a fault before the checker looks")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="fewer, for a look; never published")
    asked = parser.parse_args(arguments)
    if asked.publish and asked.documents != DOCUMENTS:
        parser.error(f"what is published is measured with {DOCUMENTS} documents; leave --documents out")
    signal.signal(signal.SIGTERM, _end)
    began = time.monotonic()
    print(f"all times of the rules are divided by {FACTOR:g}; work, leases and graces are not", flush=True)
    files = documents(asked.documents)
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="autoscale-") as folder,
        Stack(Path(folder, "fleet"), SHAPE) as stack,
    ):
        stack.before_check = PLANTS.get(asked.plant)
        warm_up(stack)
        for arm in ARMS:
            outcomes.append(drive(stack, arm, files, FACTOR, PAUSE_SECONDS))
            one = outcomes[-1]
            print(
                f"{arm.words}: drained in {one.drain_s:.1f} s, at rest after {one.seconds:.0f} s", flush=True
            )
    wrong = report.problems(outcomes, len(files))
    line = report.last_line(outcomes, wrong)
    record = report.receipt(outcomes, FACTOR, line, wrong)
    report.write(record)
    if asked.publish and not wrong:
        report.publish(record)
    print(columns(report.HEAD, list(report.rows(record))))
    print(f"receipt and plot: {report.BUILD}; {time.monotonic() - began:.0f} s")
    for one_line in wrong:
        print(f"  {one_line}")
    print(line)
    return 1 if wrong else 0


def _end(number: int, frame: object) -> None:
    """End by the way that cleans up: nobody must be left with a fleet."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
