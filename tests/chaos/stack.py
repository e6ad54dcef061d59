"""The whole fleet as real processes that may be killed, stopped and started again, one by one."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from embedfleet.contracts.jobs import Queue
from embedfleet.local.child import Child, how_it_ended
from embedfleet.local.members import answers, python_module
from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings
from tests.chaos.harm.relay import Relay, requests
from tests.chaos.load import ForeignLoad
from tests.qdrant_process import QdrantProcess

READY_SECONDS = 90.0
POLL_SECONDS = 0.05
MEASURED_AFTER_SECONDS = 0.5
ROOT = Path(__file__).parents[2]
KEYS = {"default": "chaos-key-of-the-default-tenant", "other": "chaos-key-of-the-other-tenant"}


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a stack is, and how short its times are.

    Attributes:
        lease_seconds: of a claim.
        scan_seconds: between two rounds of the janitor.
        workers: processes of each pool.
        apis: API processes, each with a janitor.
        threads: tasks in flight in one process, by pool.
        exact_kills: how often C2 kills at each exact request.
        settings: further variables of every process.
        sabotage: the safety that every process runs without; see `harm.sabotage`.
    """

    lease_seconds: float
    scan_seconds: float
    workers: int = 1
    apis: int = 1
    threads: tuple[int, int] = (2, 8)
    exact_kills: int = 1
    settings: Mapping[str, str] | None = None
    sabotage: str = ""


LONG_SHAPE = Shape(30, 5, workers=2, apis=2, exact_kills=5, settings={"FLEET_RETRY_DELAYS": "6,12,24"})
SHORT_SHAPE = Shape(5, 1, settings={"FLEET_RETRY_DELAYS": "2,4,8"})


def wait_until(found: Callable[[], Any], what: str, seconds: float, poll: float = POLL_SECONDS) -> Any:
    """Ask until the answer is true, and return it.

    Raises:
        AssertionError: it didn't become true in time; what others take of the machine is added to that.
    """
    start, load = time.monotonic(), None
    while not (answer := found()):
        waited = time.monotonic() - start
        if load is None and waited > MEASURED_AFTER_SECONDS:
            load = ForeignLoad()
        allowed = seconds * load.stretch if load and waited > seconds else seconds
        assert waited <= allowed, f"not within {allowed:.0f} s: {what}"
        time.sleep(poll)
    return answer


class Stack:
    """Redis and Qdrant, each behind a relay, apis and both pools; a context manager for the main thread.

    Attributes:
        relay: in front of Redis.
        qdrant_relay: in front of Qdrant.
        before_check: called with the client before the checker looks, to plant something.
        processes: by name: `api-0`, `documents-0`, `embeddings-0`, …
        ended: what `tend` found dead and started again, one line each.
    """

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape
        self.processes: dict[str, Child] = {}
        self.ready_checks: dict[str, Callable[[], str]] = {}
        self.urls: list[str] = []
        self.ended: list[str] = []
        self.before_check: Callable[[Any], None] | None = None
        self._made: dict[str, tuple[list[str], int, dict[str, str]]] = {}
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            (self.folder / "logs").mkdir(parents=True)
            self.redis = RedisServer(self.folder / "redis")
            self.redis.start()
            stack.callback(self.redis.stop)
            self.relay = stack.enter_context(Relay(self.redis.port))
            (qdrant_port,) = free_ports(1)
            self.qdrant = QdrantProcess(self.folder / "qdrant", "--port", str(qdrant_port))
            stack.enter_context(self.qdrant)
            self.qdrant_relay = stack.enter_context(Relay(qdrant_port, requests))
            self.blobs = Blobs(self.folder / "blobs")
            self.client: Any = connect(self.redis.url, timeout=5, retries=1)
            stack.callback(self.client.close)
            broker = BrokerSettings(broker_url=self.redis.url)
            self.ledger = Ledger.open(broker, self._ledger_settings())
            stack.callback(self._stop_all)
            self._add_all()
            for child in self.processes.values():
                child.start()
            self.wait_ready()
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def names(self, kind: str) -> list[str]:
        """Return the names of the processes of a kind: api, documents or embeddings."""
        return [name for name in self.processes if name.startswith(f"{kind}-")]

    def pid(self, name: str) -> int:
        """Return the process id of a member now."""
        return self.processes[name].pid

    def name_of(self, pid: int) -> str:
        """Return which member a process is; empty when none is it any more."""
        return next((name for name, child in self.processes.items() if child.pid == pid), "")

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process, not to its children."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(name), number)

    def sandboxes(self, name: str) -> list[psutil.Process]:
        """Return the sandbox children of a document worker."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid(name)).children(recursive=True)
        return []

    def owner_of_port(self, port: int) -> str:
        """Return which process has a TCP connection from this port; empty when none has."""
        for name, child in self.processes.items():
            with suppress(psutil.Error):
                if any(one.laddr.port == port for one in psutil.Process(child.pid).net_connections("tcp")):
                    return name
        return ""

    def tend(self) -> list[str]:
        """Start again what has ended, as an orchestrator would; return the names."""
        ended = {name: child.poll() for name, child in self.processes.items()}
        found = {name: code for name, code in ended.items() if code is not None}
        for name, code in found.items():
            self.ended.append(f"{name} {how_it_ended(code)}")
            self.processes[name].start()
        return list(found)

    def wait_ready(self, *names: str) -> None:
        """Wait until these processes, or all, serve; a process that ends meanwhile is started again."""
        for name in names or self.processes:

            def serves(name: str = name) -> bool:
                self.tend()
                return not self.ready_checks[name]()

            wait_until(serves, f"{name} serves", READY_SECONDS)

    def wait_ended(self, name: str, seconds: float) -> tuple[int | None, float]:
        """Wait for the end of a process; return its exit code (None: it runs still) and the seconds."""
        start = time.monotonic()
        code = self.processes[name].wait(seconds)
        return code, time.monotonic() - start

    def restart(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and start it again."""
        self.send(name, number)
        self.wait_ended(name, 20)
        self.processes[name].start()

    def replace(self, name: str, **variables: str) -> None:
        """End a process well and start it with further variables; without any, as it was at first."""
        self.processes[name].stop()
        command, port, own = self._made[name]
        self._add(name, command, port, own, variables)
        self.processes[name].start()
        self.wait_ready(name)

    def restart_redis(self) -> None:
        """Kill Redis and start it on its data."""
        self.redis.kill()
        self.redis.start()

    def redis_log(self) -> Path:
        """Return the append-only file that grows: Redis 6 has one, from 7 on it is the newest of several."""
        return max(self.redis.path.rglob("*.aof"), key=lambda path: path.stat().st_mtime)

    def cut_redis(self, size: int) -> None:
        """Kill Redis, cut its append-only file to so many bytes (fewer than 0: so many less), start it."""
        self.redis.kill()
        path = self.redis_log()
        with path.open("r+b") as file:
            file.truncate(size if size >= 0 else max(0, path.stat().st_size + size))
        self.redis.start()

    def http(self, tenant: str = "default", api: int = 0) -> httpx.Client:
        """Return a client of an api as one tenant."""
        headers = {"Authorization": f"Bearer {KEYS[tenant]}"}
        return httpx.Client(base_url=f"{self.urls[api]}/api/v1", headers=headers, timeout=30, trust_env=False)

    def log_of(self, name: str) -> str:
        """Return what a process has logged."""
        return (self.folder / "logs" / f"{name}.log").read_text("utf-8", "replace")

    def _ledger_settings(self) -> LedgerSettings:
        return LedgerSettings(lease_seconds=self.shape.lease_seconds, scan_seconds=self.shape.scan_seconds)

    def environment(self) -> dict[str, str]:
        """Return the variables of the fleet's processes."""
        keys = [
            {"name": tenant, "tenant": tenant, "sha256": hashlib.sha256(key.encode()).hexdigest()}
            for tenant, key in KEYS.items()
        ]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "CELERY_BROKER_URL": f"redis://{LOOPBACK}:{self.relay.port}/0",
            "QDRANT_URL": f"http://{LOOPBACK}:{self.qdrant_relay.port}",
            "FLEET_BLOB_URL": str(self.folder / "blobs"),
            "FLEET_LEASE_SECONDS": str(self.shape.lease_seconds),
            "FLEET_SCAN_SECONDS": str(self.shape.scan_seconds),
            "FLEET_API_KEYS": json.dumps(keys),
            "FLEET_HOST": LOOPBACK,
            "FLEET_PROBE_HOST": LOOPBACK,
            "NO_PROXY": "*",
            **(self.shape.settings or {}),
        }

    def _add_all(self) -> None:
        for number in range(self.shape.apis):
            (port,) = free_ports(1)
            self.urls.append(f"http://{LOOPBACK}:{port}")
            self._add(f"api-{number}", self._command("embedfleet.api"), port, {"FLEET_PORT": str(port)})
        for queue, threads in zip(Queue, self.shape.threads, strict=True):
            for number in range(self.shape.workers):
                name, (port,) = f"{queue}-{number}", free_ports(1)
                command = self._command("celery", "-A", f"embedfleet.{queue}.tasks", "worker")
                command += [f"--queues={queue}", f"--concurrency={threads}", "--hostname", f"{name}@%h"]
                command += ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
                self._add(name, command, port, {"FLEET_PROBE_PORT": str(port)})

    def _command(self, module: str, *arguments: str) -> list[str]:
        if self.shape.sabotage:
            return python_module("tests.chaos.harm.sabotage", self.shape.sabotage, module, *arguments)
        return python_module(module, *arguments)

    def _add(
        self,
        name: str,
        command: list[str],
        port: int,
        own: dict[str, str],
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._made[name] = command, port, own
        env = {**self.environment(), **own, **(more or {})}
        self.processes[name] = Child(name, command, log=self.folder / "logs" / f"{name}.log", env=env)
        self.ready_checks[name] = answers(f"http://{LOOPBACK}:{port}/readyz")

    def _stop_all(self) -> None:
        for child in self.processes.values():
            with suppress(ProcessLookupError):
                if child.pid and child.poll() is None:
                    os.kill(child.pid, signal.SIGCONT)
            child.terminate()
        for child in reversed(self.processes.values()):
            child.stop()
