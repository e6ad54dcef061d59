"""A real fleet under test, and what a client asks of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "documents"
START_SECONDS = 240
# Whoever asks without a pause takes one of the processors from the fleet that is to answer.
POLL_SECONDS = 0.02
Found = TypeVar("Found")


def until(found: Callable[[], Found], what: str, seconds: float = 90) -> Found:
    """Ask until the answer is true, or fail."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := found():
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(POLL_SECONDS)


class Fleet:
    """A client of one fleet."""

    def __init__(self, process: "subprocess.Popen[str]", ready: dict[str, Any], env: dict[str, str]) -> None:
        self.process = process
        self.ready = ready
        self.env = env | {"CELERY_BROKER_URL": ready["redis"], "QDRANT_URL": ready["qdrant"]}
        self.http = httpx.Client(base_url=f"{ready['url']}/api/v1", timeout=60)
        self.qdrant = httpx.Client(base_url=ready["qdrant"], timeout=60)

    def upload(self, file: Path | tuple[str, bytes], collection: str, **fields: Any) -> dict[str, Any]:
        name, data = file if isinstance(file, tuple) else (file.name, file.read_bytes())
        answer = self.http.post(
            "/documents/upload", files={"file": (name, data)}, data={"collection": collection, **fields}
        )
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"].endswith(answer.json()["task_id"])
        return answer.json()

    def task(self, task_id: str) -> dict[str, Any]:
        return self.http.get(f"/tasks/{task_id}").raise_for_status().json()

    def document(self, document_id: str) -> dict[str, Any]:
        return self.http.get(f"/documents/{document_id}").raise_for_status().json()

    def ended(self, document_id: str, seconds: float = 120) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            document = self.document(document_id)
            return document if document["state"] in ("READY", "FAILED", "REVOKED") else None

        return until(look, f"document {document_id} ends", seconds)

    def search(self, query: str, collection: str) -> list[dict[str, Any]]:
        body = {"collection": collection, "query": query, "limit": 5}
        return self.http.post("/search", json=body).raise_for_status().json()["hits"]

    def points(self, collection: str, document_id: str | None = None) -> int:
        must = [{"key": "document_id", "match": {"value": document_id}}] if document_id else []
        answer = self.qdrant.post(
            f"/collections/default__{collection}/points/count", json={"filter": {"must": must}, "exact": True}
        )
        return 0 if answer.status_code == 404 else answer.raise_for_status().json()["result"]["count"]

    def close(self) -> None:
        self.http.close()
        self.qdrant.close()

    def pid(self, member: str) -> int:
        """Process id of a member now: a killed one is started anew under another."""
        state = json.loads((Path(self.env["FLEET_DATA_DIR"]) / "fleet.json").read_text("utf-8"))
        return int(state["pids"][member])

    def tree(self, member: str) -> list[psutil.Process]:
        root = psutil.Process(self.pid(member))
        return [root, *root.children(recursive=True)]


@contextmanager
def running_fleet(folder: Path, **settings: str) -> Iterator[Fleet]:
    """Start `embedfleet up`; stop it as an operator would, and see that nothing is left."""
    env = {**os.environ, "FLEET_DATA_DIR": str(folder), **settings}
    for name in ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL"):
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "embedfleet.cli", "up", "--json", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        cwd=folder.parent,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, "the fleet did not start"
        with closing(Fleet(process, json.loads(line), env)) as fleet:
            yield fleet
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
        process.stdout.close() if process.stdout else None
    assert code == 0
    assert [child for child in family if child.is_running() and child.status() != "zombie"] == []
