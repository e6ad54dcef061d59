"""Where a fleet keeps what it has: Redis, Qdrant and blobs come from one source, never from two fleets."""

import os
from collections.abc import Mapping
from pathlib import Path

from embedfleet.local.datadir import DataDir, FleetState

REDIS, QDRANT, BLOBS = VARIABLES = ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL")
ALL = f"{REDIS}, {QDRANT} and {BLOBS}"


def known_places(data: DataDir, running: FleetState | None) -> dict[str, str]:
    """Return by variable the places that are known.

    Those that are set; or those of the fleet that runs in the data folder, when nothing is set that differs.

    Args:
        data: the data folder.
        running: the fleet that runs there.
    """
    given = {name: value for name in VARIABLES if (value := os.environ.get(name))}
    here = _of_fleet(data, running) if running else {}
    is_its = all(_plain(name, value) == _plain(name, here.get(name, "")) for name, value in given.items())
    return here | given if is_its else given


def missing(known: Mapping[str, str], data: DataDir) -> str:
    """Return the sentence about the places that aren't known; empty when all are."""
    unset = [name for name in VARIABLES if name not in known]
    if not unset:
        return ""
    if not known:
        return f"the fleet of {data.path} doesn't run: start it, or set {ALL}"
    verb = "isn't" if len(unset) == 1 else "aren't"
    others = "is" if len(known) == 1 else "are"
    return (
        f"{' and '.join(unset)} {verb} set, but {' and '.join(known)} {others}: "
        f"set {ALL}, or none of them for the fleet that runs in {data.path}"
    )


def _of_fleet(data: DataDir, running: FleetState) -> dict[str, str]:
    """Return the places of a fleet that runs; of a Redis that isn't its own it keeps no scheme."""
    redis = running.redis if "://" in running.redis else f"redis://{running.redis}"
    return {REDIS: redis, QDRANT: running.qdrant, BLOBS: str(data.blobs)}


def _plain(name: str, value: str) -> str:
    """Return a place without scheme, credentials and options."""
    if name == BLOBS:
        place = value.removeprefix("file://").rstrip("/")
        return place if "://" in place else str(Path(place).expanduser().resolve())
    return value.split("?", 1)[0].rsplit("@", 1)[-1].rsplit("://", 1)[-1].rstrip("/")
