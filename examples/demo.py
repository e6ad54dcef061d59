"""`make demo`: a fleet on this machine, `examples/documents` made searchable, four searches, a clean stop.

Exits 1 unless every document becomes READY and every search finds the right one first.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

HERE = Path(__file__).parent
EMBEDFLEET = [sys.executable, "-m", "embedfleet.cli"]
COLLECTION = "examples"

say = Console(highlight=False, soft_wrap=True).print


def main() -> int:
    """Run the demo; return the exit code."""
    began = time.monotonic()
    # A fleet takes over what it finds in its blobs: this one must not meet those of the user's own fleet.
    env = {name: value for name, value in os.environ.items() if name != "FLEET_BLOB_URL"}
    with tempfile.TemporaryDirectory(prefix="embedfleet-demo-") as folder:
        fleet = subprocess.Popen(  # noqa: S603 — our own command
            [*EMBEDFLEET, "up", "--json", "--port", "0", "--data-dir", folder],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        try:
            url = _ready(fleet)
            ingest = [
                *EMBEDFLEET,
                "ingest",
                str(HERE / "documents"),
                "--collection",
                COLLECTION,
                "--url",
                url,
            ]
            if subprocess.run(ingest, check=False).returncode:  # noqa: S603 — our own command
                return 1
            found = [
                _search(url, search) for search in json.loads((HERE / "searches.json").read_text("utf-8"))
            ]
            documents, chunks = _totals(url)
        finally:
            fleet.terminate()
            fleet.wait(timeout=60)
    if not all(found):
        say("[red]demo failed[/]: a search did not find the right document first")
        return 1
    say(f"demo ok: documents={documents} chunks={chunks} seconds={time.monotonic() - began:.0f}")
    return 0


def _ready(fleet: "subprocess.Popen[str]") -> str:
    line = fleet.stdout.readline() if fleet.stdout else ""
    if not line:
        raise SystemExit("demo failed: the fleet did not start; the reason is above")
    event: dict[str, Any] = json.loads(line)
    say(f"the fleet is up at {event['url']}")
    for part, what in event["parts"].items():
        say(f"  {part}: {what}")
    return str(event["url"])


def _search(url: str, search: dict[str, str]) -> bool:
    body = {"collection": COLLECTION, "query": search["query"], "limit": 3}
    hits = httpx.post(f"{url}/api/v1/search", json=body, timeout=30).raise_for_status().json()["hits"]
    right = bool(hits) and hits[0]["filename"] == search["expect"]
    say(f"\n[bold]{search['query']}[/]")
    for hit in hits:
        page = f", page {hit['page']}" if hit["page"] else ""
        text = " ".join(hit["text"].split())[:100]
        say(f"  {hit['score']:.3f}  {hit['filename']}{page}: {text}…", markup=False)
    say("  [green]the right document is first[/]" if right else f"  [red]expected {search['expect']}[/]")
    return right


def _totals(url: str) -> tuple[int, int]:
    answer = httpx.get(f"{url}/api/v1/documents", params={"collection": COLLECTION}, timeout=30)
    documents = answer.raise_for_status().json()["documents"]
    return len(documents), sum(document["progress"]["total"] for document in documents)


if __name__ == "__main__":
    sys.exit(main())
