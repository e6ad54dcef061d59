"""A real API server as a child process, and what the tests ask of it."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis

from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings

TINY_MODEL = Path(__file__).parents[1] / "encoders" / "tiny"
ALPHA_KEY, BETA_KEY, GAMMA_KEY = "alpha-secret", "beta-secret", "gamma-secret"
MAX_UPLOAD_BYTES = 300_000
START_SECONDS = 60


def keys_json() -> str:
    """Return what FLEET_API_KEYS holds for the tenants."""
    pairs = {"alpha": ALPHA_KEY, "beta": BETA_KEY, "gamma": GAMMA_KEY}
    return json.dumps(
        [
            {"name": f"{tenant}'s key", "tenant": tenant, "sha256": hashlib.sha256(key.encode()).hexdigest()}
            for tenant, key in pairs.items()
        ]
    )


@dataclass
class Api:
    """A running server, and what it stores."""

    url: str
    redis_url: str
    blob_folder: Path
    expires: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def client(self, **headers: str) -> httpx.Client:
        return plain_client(base_url=self.url, headers={**self.headers, **headers})

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.blob_folder)

    @property
    def redis(self) -> Any:
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    @property
    def ledger(self) -> Ledger:
        settings = LedgerSettings(result_expires=self.expires)
        return Ledger.open(BrokerSettings(broker_url=self.redis_url), settings)

    def stored(self) -> tuple[list[str], list[str]]:
        """Return everything that an upload could leave behind: blobs and Redis keys."""
        # A thread mirrors states to Celery's result keys when it gets to it: what it writes now may be of an
        # earlier request, and no refused one has a task that could be mirrored.
        fleeting = ("role:", "probe", "scanned", "grace", "fsck", "model", "celery-task-meta-")
        ours = [key for key in self.redis.scan_iter() if not key.startswith(fleeting)]
        return sorted(self.blobs.keys("")), sorted(ours)


def plain_client(**options: Any) -> httpx.Client:
    """Return a client for plain HTTP on this machine: no proxy, and no second to load CA certificates."""
    return httpx.Client(timeout=20, trust_env=False, verify=False, **options)


def fetch(url: str, method: str = "GET", **options: Any) -> httpx.Response:
    """Send one request on a connection of its own."""
    with plain_client() as client:
        return client.request(method, url, **options)


def base_env(redis_url: str, folder: Path) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLEET_", "CELERY_", "QDRANT_", "HF_"))
    }
    return {
        **clean,
        "CELERY_BROKER_URL": redis_url,
        "QDRANT_URL": f"http://{LOOPBACK}:{free_ports(1)[0]}",
        "FLEET_BLOB_URL": str(folder / "blobs"),
        "FLEET_MODEL_PATH": str(TINY_MODEL),
        # The janitor does one round at the start and then leaves the stage to the tests.
        "FLEET_SCAN_SECONDS": "3600",
        "FLEET_LOG_FORMAT": "console",
    }


@contextmanager
def serving(
    env: dict[str, str],
    folder: Path,
    headers: dict[str, str] | None = None,
    command: Sequence[str] = ("embedfleet.api",),
) -> Iterator[Api]:
    """Run `python -m COMMAND` until the block ends; uvicorn itself is told its port."""
    port = free_ports(1)[0]
    log = folder / "api.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *(["--port", str(port)] if "uvicorn" in command else [])],
            env={**env, "FLEET_PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://{LOOPBACK}:{port}"
        wait_until(lambda: process.poll() is not None or answers(url), START_SECONDS)
        assert process.poll() is None, log.read_text()
        expires = int(env.get("FLEET_RESULT_EXPIRES", "3600"))
        yield Api(url, env["CELERY_BROKER_URL"], Path(env["FLEET_BLOB_URL"]), expires, log, headers or {})
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        return fetch(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Poll until it holds.

    Raises:
        AssertionError: it doesn't within this time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def send(
    client: httpx.Client,
    name: str = "note.txt",
    content: bytes = b"Some plain words.",
    **fields: str,
) -> httpx.Response:
    """Upload a file."""
    data = {"collection": "notes", **fields}
    return client.post("/api/v1/documents/upload", data=data, files={"file": (name, content)})
