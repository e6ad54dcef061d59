"""One loss, one duplicate, one orphan, planted by hand into a collection that is whole."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx

from tests.chaos.client import Client
from tests.chaos.judge.checker import points_of

DIMENSIONS = 384


def plant_loss(client: Client) -> None:
    """Take one point away."""
    point, _ = next(points_of(client))
    httpx.post(_url(client, "/delete"), json={"points": [point]}, trust_env=False).raise_for_status()


def plant_duplicate(client: Client) -> None:
    """Store a second point of a chunk that has one."""
    _, payload = next(points_of(client))
    put_point(client, payload)


def plant_orphan(client: Client) -> None:
    """Store a point of a generation that nobody has."""
    _, payload = next(points_of(client))
    put_point(client, payload | {"generation": 7})


PLANTS: dict[str, Callable[[Client], None]] = {
    "loss": plant_loss,
    "duplicate": plant_duplicate,
    "orphan": plant_orphan,
}
"""What may be planted, by the name that `--plant` takes: it is also the word of the finding."""


def put_point(client: Client, payload: dict[str, Any]) -> None:
    """Store a point under an id of its own."""
    point = {"id": str(uuid.uuid4()), "vector": [1.0] + [0.0] * (DIMENSIONS - 1), "payload": payload}
    httpx.put(_url(client, ""), json={"points": [point]}, trust_env=False).raise_for_status()


def _url(client: Client, action: str) -> str:
    return f"{client.stack.qdrant.url}/collections/{client.qdrant_collection}/points{action}?wait=true"
