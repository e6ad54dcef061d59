"""Measure what the ledger costs; exit 1 when a figure is over. `LEDGER_BENCH_SCALE=0.1` is quick."""

import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench.machine import processor
from benchmarks.ledger import depth, expiry, large, memory, noop, trips
from benchmarks.ledger.documents import scale
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.redis_client import connect

RESULTS = Path(__file__).parents[1] / "results" / "ledger.json"
ROUNDS = 5
ATTEMPTS = 3
BOUNDS = {
    "noop_x": 2.0,
    "round_trips": 6.0,
    "queued_kb": 4.0,
    "tombstone_kb": 1.0,
    "expiry_block_ms": 5.0,
    "claim_x_100k": 1.2,
    "large_document_ms": 5.0,
    "published_twice": 0.0,
}


def main() -> int:
    """Measure, print, keep the figures; return the exit code."""
    size = scale()
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        figures, details = _measure(server, size)
        details |= {"redis": str(server.binary), "scale": size}
    over = [name for name, bound in BOUNDS.items() if figures[name] > bound]
    _keep(figures, details)
    words = " ".join(f"{name}={figures[name]:g}" for name in BOUNDS)
    print(f"ledger {'over its bound: ' + ', '.join(over) + ';' if over else 'ok:'} {words}")
    return int(bool(over))


def _measure(server: RedisServer, size: float) -> tuple[dict[str, float], dict[str, Any]]:
    client: Any = connect(server.url)
    seconds = noop.rounds(server.url, int(2000 * size), ROUNDS)
    figures = {"noop_x": noop.ratio(seconds, "embedded"), "chunked_x": noop.ratio(seconds, "chunked")}
    _say("no-op", figures)
    figures["round_trips"] = trips.per_task(server.url, int(500 * size))
    figures["queued_kb"] = memory.queued_bytes(client, server.url, int(10_000 * size)) / 1024
    figures["tombstone_kb"] = memory.tombstone_bytes(client, int(2000 * size)) / 1024
    _say("memory", figures)
    figures["expiry_block_ms"], ping = expiry.least_blocked_ms(
        client, server.port, int(100_000 * size), ATTEMPTS, BOUNDS["expiry_block_ms"]
    )
    _say("expiry", figures)
    ends = large.busiest_ms(client, int(2000 * size))
    figures["large_document_ms"] = max(ends.values())
    _say("large document", ends)
    client.flushall()
    long = depth.long_queue(client, connect(server.url[:-1] + "1"), int(100_000 * size))
    figures |= {"claim_x_100k": long["claim_x"], "published_twice": long["published_twice"]}
    client.close()
    figures = {name: round(value, 3) for name, value in figures.items()}
    return figures, {
        "seconds_a_task": seconds,
        "expiry_ping_ms": ping,
        "large_document": ends,
        "long_queue": long,
    }


def _keep(figures: dict[str, float], details: dict[str, Any]) -> None:
    machine = {"system": platform.platform(), "processor": processor(), "python": platform.python_version()}
    record = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "figures": figures, "details": details}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _say(what: str, figures: dict[str, float]) -> None:
    print(f"{what}: {' '.join(f'{name}={value:.3g}' for name, value in figures.items())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
