"""What a fleet on one machine consists of: the same programs, with the same variables, as in a cluster."""

import importlib.metadata
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from embedfleet.contracts.errors import ConfigurationError, DependencyDown
from embedfleet.contracts.jobs import Queue
from embedfleet.local.child import Child
from embedfleet.local.datadir import DataDir
from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.local.supervisor import Member
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.ledger.redis_client import address_of
from embedfleet.runtime.settings import BlobSettings, BrokerSettings, LedgerSettings, VectorSettings

DOCUMENT_THREADS = 2
EMBEDDING_THREADS = 64
WORKER_NICE = 10
# Members are asked over plain HTTP, ten times a second while they start. Without this each question reads all
# CA certificates: 29 ms of a processor, and the rest of it takes 0.3 (Xeon, 2026-11-26).
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Store:
    """Redis, Qdrant, or the place of the blobs.

    Attributes:
        url: address for the children.
        shown: the address without credentials.
        origin: what it really is, for people.
        member: the process, or None where the user runs it.
    """

    url: str
    shown: str
    origin: str
    member: Member | None = None


def redis_store(data: DataDir, lock: int) -> Store:
    """Return the user's Redis when CELERY_BROKER_URL names one, else one of our own.

    Raises:
        ConfigurationError: there is no redis-server that can be used.
    """
    if os.environ.get("CELERY_BROKER_URL"):
        url = BrokerSettings().broker_url
        return Store(url, address_of(url), "yours (CELERY_BROKER_URL)")
    server = RedisServer(data.redis, log=data.logs / "redis.log", keep_open=[lock])
    member = Member(server.child, lambda: "" if server.is_ready() else f"no answer from {server.url} yet")
    return Store(server.url, server.url, str(server.binary), member)


def qdrant_store(data: DataDir, lock: int) -> Store:
    """Return the user's Qdrant when QDRANT_URL names one, else the server on PATH, else the stand-in.

    The two write different files, so a data folder stays with the kind that it began with.

    Raises:
        ConfigurationError: the folder began with a server, and there is none on PATH now.
    """
    if os.environ.get("QDRANT_URL"):
        url = VectorSettings().url
        return Store(url, url.rsplit("@", 1)[-1], "yours (QDRANT_URL)")
    binary = shutil.which("qdrant")
    server_data, stand_in_data = data.path / "qdrant", data.path / "qdrant-edge"
    if server_data.exists() and not binary:
        raise ConfigurationError(
            f"{server_data} was written by a Qdrant server: put `qdrant` on PATH,"
            " set QDRANT_URL, or give another --data-dir"
        )
    http, grpc = free_ports(2)
    url = f"http://{LOOPBACK}:{http}"
    if binary and not stand_in_data.exists():
        origin = f"Qdrant server from {binary}"
        command, env = [binary, "--disable-telemetry"], _server_env(server_data, http, grpc)
    else:
        origin = f"embedded stand-in on qdrant-edge {_edge_version()}"
        command = python_module("embedfleet.local.qdrant", "--path", str(stand_in_data))
        command += ["--host", LOOPBACK, "--port", str(http)]
        env = dict(os.environ)
    child = Child("qdrant", command, log=data.logs / "qdrant.log", env=env, keep_open=[lock])
    return Store(url, url, origin, Member(child, answers(f"{url}/readyz")))


def blob_store(data: DataDir) -> Store:
    """Return the user's folder or bucket when FLEET_BLOB_URL names one, else a folder in the data.

    Raises:
        ConfigurationError: the user's can't be addressed, or is a folder that can't be written.
        DependencyDown: the bucket can't be reached, or refuses.
    """
    if not os.environ.get("FLEET_BLOB_URL"):
        own = str(data.own_blobs)
        return Store(own, own, "a folder of its own")
    blobs = Blobs(BlobSettings().blob_url)
    try:
        blobs.check()
    except (DependencyDown, OSError) as error:
        if "://" in blobs.address:
            raise
        cause = error.__cause__ or error
        why = cause.strerror if isinstance(cause, OSError) else cause
        raise ConfigurationError(
            f"FLEET_BLOB_URL {blobs.address} can't be written ({why}): make it writable, name another"
            " folder or a bucket, or unset it"
        ) from error
    return Store(blobs.address, blobs.address, "yours (FLEET_BLOB_URL)")


def api_member(data: DataDir, lock: int, env: Mapping[str, str], port: int) -> Member:
    """Return the API server, whose process is the janitor's, too."""
    env = {**env, "FLEET_HOST": LOOPBACK, "FLEET_PORT": str(port)}
    command = python_module("embedfleet.api")
    child = Child("api", command, log=data.logs / "api.log", env=env, keep_open=[lock])
    return Member(child, answers(f"http://{LOOPBACK}:{port}/readyz"))


def worker_members(data: DataDir, lock: int, env: Mapping[str, str]) -> list[Member]:
    """Return the workers of all queues, FLEET_DOCUMENT_QUEUES among them: else their files waited for ever.

    Raises:
        ValidationError: the variable is written wrongly.
    """
    queues = LedgerSettings().routes.taken_by(Queue.DOCUMENTS)
    documents = [
        worker_member(data, lock, env, Queue.DOCUMENTS, DOCUMENT_THREADS, queue=queue) for queue in queues
    ]
    return [*documents, worker_member(data, lock, env, Queue.EMBEDDINGS, EMBEDDING_THREADS)]


def worker_member(
    data: DataDir, lock: int, env: Mapping[str, str], kind: Queue, threads: int, *, queue: str = ""
) -> Member:
    """Return the worker of one queue, at a niceness that leaves the machine usable.

    Args:
        data: where its log goes.
        lock: the folder's lock, which it inherits.
        env: its variables.
        kind: which tasks it runs.
        threads: tasks at a time.
        queue: what it takes; that of its kind by default.
    """
    queue = queue or kind
    # A queue of the user's may be called as another program is.
    name = str(kind) if queue == kind else f"{kind}-{queue}"
    port = free_ports(1)[0]
    command = python_module("celery", "-A", f"embedfleet.{kind}.tasks", "worker", f"--queues={queue}")
    command += [f"--concurrency={threads}", "--without-gossip", "--without-mingle"]
    command += ["--hostname", f"{name}@%h", "--loglevel", "WARNING"]
    child = Child(
        name,
        command,
        log=data.logs / f"{name}.log",
        env={**env, "FLEET_PROBE_HOST": LOOPBACK, "FLEET_PROBE_PORT": str(port)},
        nice=WORKER_NICE,
        keep_open=[lock],
    )
    return Member(child, answers(f"http://{LOOPBACK}:{port}/readyz"))


def children_env(redis: Store, qdrant: Store, blobs: Store) -> dict[str, str]:
    """Return the variables of the api and the workers."""
    # Calls to the loopback address must not go through a proxy that the user has set.
    direct = [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), LOOPBACK, "localhost"]
    no_proxy = ",".join(filter(None, direct))
    return {
        **os.environ,
        "CELERY_BROKER_URL": redis.url,
        "QDRANT_URL": qdrant.url,
        "FLEET_BLOB_URL": blobs.url,
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,  # where both are set, libraries take this one
    }


def answers(url: str) -> Callable[[], str]:
    """Return a check that says why an address doesn't answer 2xx, or "" when it does."""

    def not_ready() -> str:
        try:
            answer = httpx.get(url, timeout=5, trust_env=False, verify=_NO_CERTIFICATES)
        except httpx.HTTPError:
            return f"no answer from {url} yet"
        if answer.is_success:
            return ""
        return _problems(answer) or f"{url} answers {answer.status_code}"

    return not_ready


def _problems(answer: httpx.Response) -> str:
    """Return what a readiness probe says is missing, in one line."""
    try:
        body = answer.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    problems = body.get("problems")
    return "; ".join(map(str, problems)) if isinstance(problems, list) else str(body.get("detail", ""))


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command of a module; -P: a file of the user's folder must not shadow a package."""
    return [sys.executable, "-P", "-m", module, *arguments]


def _server_env(folder: Path, http: int, grpc: int) -> dict[str, str]:
    """Return the variables of a Qdrant server."""
    return {
        **os.environ,
        "QDRANT__SERVICE__HOST": LOOPBACK,
        "QDRANT__SERVICE__HTTP_PORT": str(http),
        "QDRANT__SERVICE__GRPC_PORT": str(grpc),
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
    }


def _edge_version() -> str:
    """Return the version of the storage engine behind the stand-in.

    Raises:
        ConfigurationError: it isn't installed.
    """
    try:
        return importlib.metadata.version("qdrant-edge-py")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            "no Qdrant: set QDRANT_URL, put a `qdrant` server on PATH, or `pip install 'embedfleet[local]'`"
        ) from error
