"""Measure what metrics and logs cost in CPU seconds; exit 1 when it is over. `SIZE=0.1` is quick."""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from dashboards.prometheus import members

from benchmarks.bench.machine import describe
from benchmarks.bench.process import ROOT
from benchmarks.bench.setup import FULL, Setup
from benchmarks.path.servers import Design, ours
from benchmarks.path.texts import TextFile, text_files
from benchmarks.stage.fleet import Fleet
from benchmarks.telemetry.cpu import seconds
from embedfleet.documents.tokens import ModelTokens

RESULTS = ROOT / "benchmarks" / "results" / "telemetry.json"
MOST = 1.03
ROUNDS = 7
# Small documents: each costs a request, two tasks and all that is counted and logged of them.
FILES, CHUNKS_A_FILE = 120, 2
# Prometheus' default is 15 seconds; a round takes no longer.
SCRAPE_SECONDS = 5.0


def main() -> int:
    """Measure, print, keep the record of a full run; return the exit code."""
    size = float(os.environ.get("SIZE", FULL))
    with tempfile.TemporaryDirectory(prefix="embedfleet-telemetry-") as folder:
        pairs = _pairs(Setup(Path(folder), size, _say))
    cost = statistics.median(loud / silent for loud, silent in pairs)
    if size == FULL:
        record = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": describe(),
            "cost_x": round(cost, 4),
            "cpu_seconds": [{"with": round(loud, 2), "without": round(silent, 2)} for loud, silent in pairs],
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    words = f"cost_x={cost:.4f} bound={MOST:g} rounds={len(pairs)}"
    print(f"telemetry {'ok' if cost <= MOST else 'over its bound'}: {words}")
    return int(cost > MOST)


def _pairs(setup: Setup) -> list[tuple[float, float]]:
    """Return the CPU seconds of the same work, round by round: with, and without."""
    meter = ModelTokens.load(setup.graph.tokenizer)
    count = setup.scaled(FILES, 8)
    files = list(text_files(setup.corpus.mixed, count, CHUNKS_A_FILE, meter, setup.graph.max_tokens))
    silent = f"{Path(__file__).parent / 'silent'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with ExitStack() as stack:
        loud = stack.enter_context(Fleet(setup.folder / "with"))
        other = stack.enter_context(Fleet(setup.folder / "without", PYTHONPATH=silent))
        fleets = [(fleet, stack.enter_context(ours(fleet))) for fleet in (loud, other)]
        for fleet, design in fleets:
            _run(fleet, design, files, "warm-up")
        stack.enter_context(_scraped(loud))
        pairs = []
        for number in range(setup.scaled(ROUNDS, 3)):
            order = fleets if number % 2 else fleets[::-1]
            spent = {fleet: _run(fleet, design, files, f"round-{number}") for fleet, design in order}
            pairs.append((spent[loud], spent[other]))
            setup.say(f"round {number + 1}: {spent[loud]:.2f} s with, {spent[other]:.2f} s without")
    return pairs


def _run(fleet: Fleet, design: Design, files: Sequence[TextFile], prefix: str) -> float:
    before = seconds(fleet.state.pid)
    design.run(files, prefix)
    return seconds(fleet.state.pid) - before


@contextmanager
def _scraped(fleet: Fleet) -> Iterator[None]:
    """Scrape a fleet's processes as Prometheus would."""
    addresses = members(fleet.state.url, fleet.state.pids).values()
    pages = [f"http://{address}/metrics" for address in addresses]
    ended = threading.Event()

    def scrape() -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not ended.wait(SCRAPE_SECONDS):
                for page in pages:
                    client.get(page).raise_for_status()

    thread = threading.Thread(target=scrape, name="scrape")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
