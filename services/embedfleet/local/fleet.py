"""`embedfleet up`: the processes of a cluster as children of one command, on one machine."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from embedfleet.contracts.errors import ConfigurationError, FleetError
from embedfleet.local import model, panel
from embedfleet.local.child import Child
from embedfleet.local.datadir import DataDir, FleetState
from embedfleet.local.members import (
    Store,
    api_member,
    blob_store,
    children_env,
    python_module,
    qdrant_store,
    redis_store,
    worker_members,
)
from embedfleet.local.ports import LOOPBACK, free_ports, is_free
from embedfleet.local.signals import StopSignals
from embedfleet.local.supervisor import StopRequested, Supervisor

READY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose.

    Attributes:
        port: of the API; 0 takes a free one.
        data_dir: folder of everything that outlives the fleet.
        as_json: print one JSON line when ready instead of the panel.
    """

    port: int
    data_dir: Path
    as_json: bool = False


def run(options: Options) -> None:
    """Start the fleet, keep it alive, return after a clean stop by Ctrl-C or SIGTERM.

    Raises:
        FleetError: it can't start, or a process crashed too often; nothing is left running.
    """
    data = DataDir(options.data_dir)
    lock = data.claim()
    try:
        port, blobs = _port(options.port), blob_store(data)
        with StopSignals() as signals:
            fleet = Supervisor(signals, _say)
            try:
                state = _start(fleet, data, lock, port, blobs)
                data.publish(state)
                _announce(options, state, data)
                fleet.watch(lambda: data.publish(replace(state, pids=fleet.pids)))
            except StopRequested:
                pass
            finally:
                data.withdraw()
                fleet.stop()
    finally:
        os.close(lock)


def _say(line: str) -> None:
    """Print a line on stderr; a terminal that is gone must not keep the fleet from stopping well."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _start(fleet: Supervisor, data: DataDir, lock: int, port: int, blobs: Store) -> FleetState:
    """Start everything in order and wait until all of it serves."""
    redis, qdrant = redis_store(data, lock), qdrant_store(data, lock)
    for store in (redis, qdrant):
        if store.member:
            fleet.start(store.member)
    fleet.await_ready(READY_SECONDS)
    if not model.is_here():
        fetched = Child("model", python_module("embedfleet.local.model"), log=None, keep_open=[lock])
        if fleet.run_once(fetched):
            raise ConfigurationError("the model could not be fetched: the lines above say why")
    env = children_env(redis, qdrant, blobs)
    fleet.start(api_member(data, lock, env, port))
    fleet.start(*worker_members(data, lock, env))
    fleet.await_ready(READY_SECONDS)
    return _state(fleet, port, redis, qdrant, blobs)


def _state(fleet: Supervisor, port: int, redis: Store, qdrant: Store, blobs: Store) -> FleetState:
    """Return what other commands may know."""
    return FleetState(
        pid=os.getpid(),
        url=f"http://{LOOPBACK}:{port}",
        redis=redis.shown,
        qdrant=qdrant.shown,
        parts={"redis": redis.origin, "qdrant": qdrant.origin, "blobs": blobs.origin},
        pids=fleet.pids,
        blobs=blobs.shown,
    )


def _announce(options: Options, state: FleetState, data: DataDir) -> None:
    """Say on stdout that the fleet is ready."""
    if options.as_json:
        print(panel.ready_line(state), flush=True)
    else:
        panel.show(Console(), state, data.path)


def _port(wanted: int) -> int:
    """Return the API's port.

    Raises:
        FleetError: somebody listens on it.
    """
    if wanted == 0:
        return free_ports(1)[0]
    if not is_free(wanted):
        raise FleetError(
            f"port {wanted} is in use: stop the program that has it, or choose another"
            f" (`embedfleet up --port {wanted + 1}`)",
            code="port_in_use",
        )
    return wanted
