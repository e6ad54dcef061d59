"""Measure what metrics and logs cost in CPU seconds; exit 1 when it is over. `SIZE=0.1` is quick."""

import json
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
from dashboards.prometheus import members

from benchmarks.bench.machine import describe
from benchmarks.bench.process import ROOT
from benchmarks.bench.setup import FULL, Setup
from benchmarks.path.servers import ours
from benchmarks.path.texts import text_files
from benchmarks.stage.fleet import Fleet
from benchmarks.telemetry.cpu import seconds
from embedfleet.documents.tokens import ModelTokens

RESULTS = ROOT / "benchmarks" / "results" / "telemetry.json"
MOST = 1.03
OK = "ok"
# As often on before off as off before on: what drifts from run to run weighs on both alike.
ROUNDS, FEWEST_ROUNDS = 24, 4
# Small documents: each costs a request, two tasks and all that is counted and logged of them.
FILES, CHUNKS_A_FILE = 100, 2
# Compose's; the chart's is 30. Each run begins with a scrape, so that a short one has more than its share.
SCRAPE_SECONDS = 15.0
# The smallest, which leaves the tuner no choice: its trials would fall on one run and not on the other.
BATCH_TOKENS = 512
ON, OFF = b"\0", b"\1"


def main() -> int:
    """Measure, print, keep the record of a full run; return the exit code."""
    size = float(os.environ.get("SIZE", FULL))
    with tempfile.TemporaryDirectory(prefix="embedfleet-telemetry-") as folder:
        pairs = _pairs(Setup(Path(folder), size, _say))
    cost, error = estimate([loud / silent for loud, silent in pairs])
    if size == FULL:
        record = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": describe(),
            "cost_x": round(cost, 4),
            "plus_minus": round(error, 4),
            "cpu_seconds": [{"on": round(loud, 2), "off": round(silent, 2)} for loud, silent in pairs],
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    words = f"cost_x={cost:.4f} plus_minus={error:.4f} bound={MOST:g} rounds={len(pairs)}"
    found = verdict(cost, error)
    print(f"telemetry {found}: {words}")
    return int(found != OK)


def verdict(cost: float, error: float) -> str:
    """Say whether telemetry costs too much, or that the rounds can't tell.

    Args:
        cost: CPU seconds with it, in those without.
        error: how far off that may be.
    """
    if cost + error <= MOST:
        return OK
    return "over its bound" if cost - error > MOST else "unclear, the rounds differ: is the machine quiet?"


def estimate(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the geometric mean, and how far off it may be: two standard errors.

    Of an odd round and the even one after it, what the order adds to one it takes from the other; a median
    would keep one of them.

    Args:
        ratios: of the rounds, at least two.
    """
    logs = [math.log(ratio) for ratio in ratios]
    cost = math.exp(statistics.fmean(logs))
    return cost, cost * 2 * statistics.stdev(logs) / math.sqrt(len(logs))


def _pairs(setup: Setup) -> list[tuple[float, float]]:
    """Return the CPU seconds of the same work, round by round: with telemetry, and without.

    Both by the same processes: two fleets would each try batches of other sizes at other times.
    """
    meter = ModelTokens.load(setup.graph.tokenizer)
    count = setup.scaled(FILES, 8)
    files = list(text_files(setup.corpus.mixed, count, CHUNKS_A_FILE, meter, setup.graph.max_tokens))
    switch = setup.folder / "switch"
    switch.write_bytes(ON)
    path = f"{Path(__file__).parent / 'switched'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = {"PYTHONPATH": path, "TELEMETRY_SWITCH": str(switch), "FLEET_MAX_BATCH_TOKENS": str(BATCH_TOKENS)}
    with Fleet(setup.folder / "fleet", **env) as fleet, ours(fleet) as design:
        for number in range(2):
            design.run(files, f"warm-up-{number}")

        def run(state: bytes, prefix: str) -> float:
            with switch.open("r+b") as page:
                page.write(state)
            before = seconds(fleet.state.pid)
            with _scraped(fleet) if state == ON else nullcontext():
                design.run(files, prefix)
            return seconds(fleet.state.pid) - before

        pairs = []
        for number in range(setup.scaled(ROUNDS, FEWEST_ROUNDS)):
            order = (ON, OFF) if number % 2 else (OFF, ON)
            spent = {state: run(state, f"round-{number}-{state[0]}") for state in order}
            pairs.append((spent[ON], spent[OFF]))
            setup.say(f"round {number + 1}: {spent[ON]:.2f} s with, {spent[OFF]:.2f} s without")
    return pairs


@contextmanager
def _scraped(fleet: Fleet) -> Iterator[None]:
    """Scrape a fleet's processes as Prometheus would, at once and at its interval.

    Raises:
        httpx.HTTPError: one of them doesn't answer.
    """
    addresses = members(fleet.state.url, fleet.state.pids).values()
    pages = [f"http://{address}/metrics" for address in addresses]
    ended = threading.Event()

    def scrape() -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while True:
                for page in pages:
                    client.get(page).raise_for_status()
                if ended.wait(SCRAPE_SECONDS):
                    return

    with ThreadPoolExecutor(1, "scrape") as threads:
        scraping = threads.submit(scrape)
        try:
            yield
        finally:
            ended.set()
        scraping.result()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
