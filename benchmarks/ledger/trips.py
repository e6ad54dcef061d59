"""Round trips to Redis that one no-op task makes, seen from Redis itself.

`MONITOR` shows every command. What a script calls costs no trip, a MULTI … EXEC is sent as one pipeline and
counts once, and so does a batch of result keys that one connection writes in a row. BRPOP and the
bookkeeping of Celery's late ack count; so do beats, which more than one task share.
"""

import threading
from collections.abc import Iterable
from typing import Any

from benchmarks.ledger import noop
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings

_LAST = "bench-ended"


def per_task(url: str, tasks: int) -> float:
    """Return the trips of one `embedded` task, on average: from the worker's first BRPOP to the last ack."""
    client: Any = connect(url)
    client.flushall()
    noop.publish(url, "embeddings", noop.embedded_messages(Ledger(client, LedgerSettings()), tasks))
    seen: list[dict[str, str]] = []
    watching = threading.Event()

    def watch() -> None:
        watched: Any = connect(url)
        with watched.monitor() as monitor:
            watching.set()
            for command in monitor.listen():
                seen.append(command)
                if _LAST in command["command"]:
                    return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    watching.wait(10)
    with noop.worker(url, "embedded", "embeddings"):
        noop.wait(client, "embeddings", 0)
        client.echo(_LAST)
        watcher.join(10)
    client.close()
    first = next(number for number, one in enumerate(seen) if one["command"].startswith("BRPOP"))
    return count(seen[first:]) / tasks


def count(seen: Iterable[dict[str, str]]) -> int:
    """Count the round trips in what `redis.client.Monitor` saw, those of the measurement left out."""
    trips, before, inside = 0, ("", ""), set[str]()
    for one in seen:
        if one["client_type"] == "lua":
            continue
        client, (name, _, arguments) = one["client_port"], one["command"].partition(" ")
        command = name.upper()
        if client in inside:
            inside -= {client} if command == "EXEC" else set()
        elif command == "MULTI":
            inside.add(client)
            trips += 1
        elif command not in ("LLEN", "HLEN", "ECHO"):
            kind = (client, "results") if arguments.startswith("celery-task-meta-") else ("", "")
            trips += kind == ("", "") or kind != before
            before = kind
    return trips
